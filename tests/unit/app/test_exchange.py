"""A changed configuration under running calls: who has a line keeps it, who comes gets one, nothing is forgotten."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.events import LineSource
from tests.support.virtual_time import turns
from tests.unit.app.board import STILL, Board, Held, template
from tests.unit.runtime.holders import until, wish

OTHER = template(model="gpt-realtime-2.1-mini")
TWO = {"default": STILL, "other": STILL}


async def test_a_new_version_replaces_the_ready_lines_and_no_leased_one(board: Board) -> None:
    await board.start()
    held = await board.hold()
    await board.change(templates={"default": template(session={"voice": "cedar"})})
    await until(
        lambda: board.pool().stats().ready == 2 and len(board.open_lines()) == 3 and len(board.dialer.dials) == 5
    )
    assert held.upstream.is_open
    assert [session["voice"] for _, session in board.dialer.dials[-2:] if session] == ["cedar", "cedar"]
    fresh = await board.hold()
    assert fresh.line is not None
    assert (fresh.line.is_configured, fresh.line.source) == (True, LineSource.WARM)


async def test_nothing_is_dialled_where_nothing_has_changed(board: Board) -> None:
    await board.start()
    for _ in range(3):
        await board.change()
        await asyncio.sleep(30)
    assert len(board.dialer.dials) == 2


async def test_the_shelf_is_never_empty_while_its_lines_are_replaced(board: Board) -> None:
    await board.start()
    board.dialer.delay_seconds = 0.5
    await board.change(keys=["main"])
    for _ in range(100):
        assert board.pool().stats().ready >= 2
        await asyncio.sleep(0.1)
    assert len(board.dialer.dials) == 4
    assert len(board.open_lines()) == 2


async def test_a_full_pool_replaces_its_lines_without_ever_being_empty(board: Board) -> None:
    """There is no room for a successor beside them."""
    await board.start(pools={"default": {**STILL, "ceiling": 2}})
    board.dialer.delay_seconds = 1.0
    await board.change(keys=["main"])
    lowest = 2
    for _ in range(300):
        lowest = min(lowest, board.pool().stats().ready)
        await asyncio.sleep(0.1)
    assert len(board.open_lines()) == 2
    assert not any(line.is_open for line in board.dialer.lines[:2]), "the old ones are gone"
    assert lowest >= 1


async def test_old_lines_go_in_time_though_reloads_come_again_and_again(board: Board) -> None:
    await board.start()
    board.dialer.may_answer.clear()  # no successor comes
    await board.change(keys=["main"])
    for _ in range(6):
        await asyncio.sleep(5.0)
        await board.change()
    assert not any(line.is_open for line in board.dialer.lines[:2])
    board.dialer.may_answer.set()


async def test_a_line_that_still_has_the_old_template_is_not_handed_out_for_a_new_one_that_names_less(
    board: Board,
) -> None:
    """What the new one does not name would stay on the line."""
    await board.start(templates={"default": template(session={"tools": [{"type": "function", "name": "pay"}]})})
    board.dialer.delay_seconds = 1.0
    await board.change(templates={"default": template()})
    held = board.wait_for()
    await held.has_line
    made_with = dict(zip(board.dialer.lines, [session for _, session in board.dialer.dials], strict=False))
    session = made_with[held.upstream]
    assert session is not None
    assert "tools" not in session


async def test_a_line_that_still_has_the_old_template_serves_for_a_new_one_that_names_more(board: Board) -> None:
    await board.start()
    board.dialer.may_answer.clear()
    await board.change(templates={"default": template(session={"voice": "cedar"})})
    held = await board.hold()
    assert held.line is not None
    assert (held.line.is_configured, held.line.source) == (False, LineSource.WARM)
    board.dialer.may_answer.set()


# Bounds.


async def test_what_an_operator_has_set_stays_while_the_file_says_what_it_said(board: Board) -> None:
    await board.start()
    pool = board.pool()
    pool.set_limits(replace(pool.limits, floor=4))
    await board.change(templates={"default": template(session={"voice": "cedar"})})
    assert board.pool().limits.floor == 4
    await board.change(pools={"default": {**STILL, "floor": 3}})
    assert board.pool().limits.floor == 3


async def test_demand_is_followed_as_the_file_says_now(board: Board) -> None:
    await board.start()
    board.dialer.delay_seconds = 1.0
    await board.change(pools={"default": {**STILL, "demand": {"enabled": True, "k": 3}}})
    for _ in range(40):
        held = await board.hold()
        await held.end()
        await asyncio.sleep(0.25)
    assert board.pool().stats().floor > 2


# Templates that come, go and move.


async def test_an_added_template_has_lines_before_callers_find_it(board: Board) -> None:
    await board.start()
    board.dialer.delay_seconds = 1.0
    changing = asyncio.ensure_future(board.change(templates={"default": template(), "other": OTHER}, pools=TWO))
    await asyncio.sleep(0.5)
    assert "other" not in board.exchange.pools
    await changing
    assert board.pool("other").stats().ready > 0


@pytest.mark.parametrize("added", [OTHER, template(session={"voice": "cedar"})], ids=["class", "same class"])
async def test_an_added_template_leaves_the_others_as_they_were(added: dict[str, object], board: Board) -> None:
    await board.start()
    held = await board.hold()
    await turns(8)
    board.pool().pause()
    hits = board.pool().acquires["hit"]
    await board.change(templates={"default": template(), "other": added}, pools=TWO)
    assert board.pool().stats().paused
    assert board.pool().acquires["hit"] == hits
    board.pool().unpause()
    assert held.upstream.is_open
    assert (await board.hold()).upstream.is_open
    await held.end()


@pytest.mark.parametrize("after", [{"default": template(), "other": OTHER}, {"default": OTHER}], ids=["add", "move"])
async def test_a_reservation_lives_on_where_it_was_made(after: dict[str, Any], board: Board) -> None:
    await board.start()
    home = board.pool()
    made = await home.reserve(30.0, wish())
    await board.change(templates=after, pools=dict.fromkeys(after, STILL))
    await asyncio.sleep(25.0)
    assert home.has_reservation(made.lease_id)
    held = Held(home, reservation=made.lease_id)
    await held.has_line
    assert held.line is not None
    assert held.line.source is LineSource.WARM
    await held.end()


async def test_a_template_that_moves_takes_its_callers_along(board: Board) -> None:
    await board.start(pools={"default": {**STILL, "floor": 4}})
    board.dialer.delay_seconds = 1.0
    held = await board.hold()
    changing = asyncio.ensure_future(board.change(templates={"default": OTHER}))
    sources = []
    for _ in range(30):
        caller = await board.hold()
        assert caller.line is not None
        sources.append(caller.line.source)
        await caller.end()
        await asyncio.sleep(0.6)
    await changing
    assert set(sources) == {LineSource.WARM}
    assert held.upstream.is_open
    await held.end()
    await until(lambda: set(board.models()) == {"gpt-realtime-2.1-mini"})


async def test_who_waits_when_a_template_moves_is_served(board: Board) -> None:
    await board.start(pools={"default": {**STILL, "floor": 1, "ceiling": 1}})
    first = await board.hold()
    waiter = board.wait_for()
    await turns(4)
    await board.change(templates={"default": OTHER})
    await first.end()
    await waiter.has_line
    await waiter.end()


async def test_a_template_that_is_taken_away_lets_its_calls_finish(board: Board) -> None:
    await board.start(templates={"default": template(), "other": OTHER}, pools=TWO)
    held = await board.hold("other")
    await board.change(templates={"default": template()}, pools={"default": STILL})
    assert "other" not in board.exchange.pools
    await asyncio.sleep(60)
    assert held.upstream.is_open
    assert board.exchange.stats()["other"].leased == 1
    await held.end()
    await until(lambda: "other" not in board.exchange.stats())
    assert set(board.models()) == {"gpt-realtime-2.1"}


@pytest.mark.parametrize("stays", [True, False], ids=["its class stays", "its class goes"])
async def test_a_template_that_moves_to_anothers_class_has_lines_there(stays: bool, board: Board) -> None:  # noqa: FBT001
    before = {"default": template(), "other": OTHER, **({"third": template()} if stays else {})}
    await board.start(templates=before, pools=dict.fromkeys(before, STILL))
    board.dialer.delay_seconds = 0.5
    changing = asyncio.ensure_future(board.change(templates={**before, "default": OTHER}))
    for _ in range(60):
        caller = await board.hold()
        assert caller.line is not None
        assert caller.line.source is LineSource.WARM
        await caller.end()
        await asyncio.sleep(0.5)
    await changing
    stats = board.exchange.stats()
    assert {name: (each.ready, each.paused, each.draining_pool) for name, each in stats.items()} == dict.fromkeys(
        before, (2, False, False)
    )


async def test_a_template_that_is_put_back_serves_as_before(board: Board) -> None:
    """Though a call and a reservation of it outlived its absence."""
    both = {"default": template(), "other": template(session={"voice": "cedar"})}
    await board.start(templates=both, pools=TWO)
    held = await board.hold("other")
    made = await board.pool("other").reserve(5.0, wish())
    await board.change(templates={"default": both["default"]}, pools={"default": STILL})
    await board.change(templates=both, pools=TWO)
    assert board.exchange.stats()["other"].leased == 1
    await asyncio.sleep(30.0)
    assert not board.pool("other").has_reservation(made.lease_id)
    await held.end()
    await asyncio.sleep(5.0)
    stats = board.exchange.stats()["other"]
    assert (stats.ready >= 2, stats.leased, stats.draining_pool) == (True, 0, False)
    assert (await board.hold("other")).upstream.is_open


THIRD = template(model="gpt-realtime")


@pytest.mark.parametrize(
    "second",
    [
        {"pools": {"default": {**STILL, "ceiling": 9}}},
        {"templates": {"default": template(model=OTHER["model"], session={"voice": "cedar"})}},
        {"templates": {"default": THIRD}},
        {"templates": {"default": template()}},
        {"templates": {"default": OTHER, "third": THIRD}, "pools": {"default": STILL, "third": STILL}},
    ],
    ids=["bounds", "version", "moves on", "moves back", "another is added"],
)
async def test_a_second_change_sends_nobody_to_a_pool_without_a_line(second: dict[str, Any], board: Board) -> None:
    """A file and a secret never arrive together."""
    await board.start(pools={"default": {**STILL, "floor": 4}})
    board.dialer.delay_seconds = 3.0
    board.change_begins(templates={"default": OTHER})
    await asyncio.sleep(0.5)
    board.change_begins(**second)
    wanted = board.settings.templates["default"].model
    sources, models = [], []
    for _ in range(40):
        caller = await board.hold()
        assert caller.line is not None
        sources.append(caller.line.source)
        models.append(board.pool().template.line_class.model)
        await caller.end()
        await asyncio.sleep(1.6)
    assert set(sources) == {LineSource.WARM}
    assert models[-1] == wanted
    assert len(board.open_lines()) == sum(each.ready for each in board.exchange.stats().values())
    assert {name: each.paused for name, each in board.exchange.stats().items()} == dict.fromkeys(
        board.exchange.pools, False
    )


async def test_a_template_that_is_taken_away_before_it_had_a_line_is_not_found(board: Board) -> None:
    await board.start()
    board.dialer.delay_seconds = 3.0
    both = {"default": template(), "other": OTHER}
    board.change_begins(templates=both, pools=TWO)
    await asyncio.sleep(0.5)
    await board.change(templates={"default": template()}, pools={"default": STILL})
    await asyncio.sleep(30)
    assert set(board.exchange.pools) == set(board.exchange.stats()) == {"default"}
    assert len(board.open_lines()) == 2


async def test_lines_of_two_groups_that_leave_are_counted_once(board: Board) -> None:
    await board.start(templates={"default": template(), "other": OTHER}, pools=TWO)
    kept = [await board.hold("default"), await board.hold("other")]
    third = template(model="gpt-realtime")
    await board.change(templates={"default": third}, pools={"default": STILL})
    await asyncio.sleep(10)
    stats = board.exchange.stats()
    assert (stats["default"].leased, stats["other"].leased) == (1, 1)
    await kept[1].end()
    await until(lambda: "other" not in board.exchange.stats())
    await kept[0].end()
