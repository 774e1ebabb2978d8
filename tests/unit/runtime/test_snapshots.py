"""A conversation of hours, whose log keeps the newest entries alone, outlives its gateway as a whole."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core import events as out
from gateway.runtime import lanes, snapshots
from gateway.runtime.kept import Kept
from gateway.runtime.session_words import total_usage
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import Line
from tests.unit.runtime.holders import until
from tests.unit.runtime.resuming import Phone
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.test_line_loss import heard
from tests.unit.runtime.test_planned_move import Mover

KEPT = 60
TURNS = 100


@pytest.fixture
async def pair(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Phone, Stage]]:
    """A session whose log keeps little, and another gateway that may take it over."""
    monkeypatch.setattr(snapshots, "ENTRIES", KEPT // 3)
    # Entries have some 18 bytes here.
    monkeypatch.setattr(lanes, "Kept", lambda _max_bytes: Kept(KEPT * 18))
    stage.store.entries_max = KEPT
    second = Stage(store=stage.store, form=stage.form, sealer=stage.sealer, gateway="gateway-2")
    await stage.warm()
    await second.warm()
    phone = Phone(stage)
    try:
        await phone.open(correlation_id="c-1")
        yield phone, second
    finally:
        await second.clear()


async def exchanged(phone: Phone, line: Line, number: int) -> None:
    """Let the caller say something and the model answer, as a call goes."""
    phone.say(f"question {number}")
    phone.control("response.create")
    await turns(10)
    line.tell("conversation.item.done", item=line.sent[-2]["item"])
    line.tell("response.created", response={"id": f"r{number}"})
    content = [{"type": "output_text", "text": f"answer {number}"}]
    item = {"id": f"a{number}", "type": "message", "role": "assistant", "content": content}
    line.tell("conversation.item.done", item=item)
    usage = {"total_tokens": 3, "input_tokens": 2, "output_tokens": 1}
    line.tell("response.done", response={"id": f"r{number}", "status": "completed", "usage": usage})
    await turns(10)
    await asyncio.sleep(1.0)


async def talked(phone: Phone, line: Line, first: int, last: int) -> list[str]:
    for number in range(first, last):
        await exchanged(phone, line, number)
    return [f"{kind} {number}" for number in range(first, last) for kind in ("question", "answer")]


async def taken_over(phone: Phone, by: Stage) -> out.Resumed:
    await phone.drop()
    phone.stage = by
    resumed = await phone.come_back()
    await until(lambda: by.session.has_line)
    await turns(30)
    return resumed


async def test_all_of_it_is_told_to_the_next_line(stage: Stage, pair: tuple[Phone, Stage]) -> None:
    phone, second = pair
    said = await talked(phone, stage.line, 0, TURNS)
    ((_, entries),) = stage.store.log.items()
    assert len(entries) <= KEPT + 1
    resumed = await taken_over(phone, second)
    assert heard(second.line) == said
    assert (resumed.gap_from, resumed.unrestored_items) == (0, ())
    seqs = [each.seq for each in phone.applied]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_and_again_to_the_line_after_that(stage: Stage, pair: tuple[Phone, Stage]) -> None:
    phone, second = pair
    said = await talked(phone, stage.line, 0, TURNS)
    await taken_over(phone, second)
    said += await talked(phone, second.line, TURNS, 2 * TURNS)
    third = Stage(store=stage.store, form=stage.form, sealer=stage.sealer, gateway="gateway-3")
    await third.warm()
    try:
        await taken_over(phone, third)
        assert heard(third.line) == said
        assert total_usage(third.session).input_tokens == 2 * (2 * TURNS), "also what other gateways have used"
    finally:
        await third.clear()


async def test_a_server_that_loses_everything_is_told_the_whole_of_it(stage: Stage, pair: tuple[Phone, Stage]) -> None:
    phone, second = pair
    said = await talked(phone, stage.line, 0, TURNS)
    stage.store.log.clear()
    stage.store.cseqs.clear()
    said += await talked(phone, stage.line, TURNS, TURNS + 2)
    ((_, entries),) = stage.store.log.items()
    assert entries[0].seq > KEPT, "its beginning is lost"
    await taken_over(phone, second)
    assert heard(second.line) == said
    assert (second.session.request.correlation_id, second.session.principal.caller) == ("c-1", "bot")
    assert second.session.started_at == pytest.approx(now() - (TURNS + 2), abs=5.0)


async def test_what_does_not_fit_is_named(
    stage: Stage, pair: tuple[Phone, Stage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "SNAPSHOT_MAX_BYTES", 20_000)
    phone, second = pair
    said = await talked(phone, stage.line, 0, TURNS)
    await taken_over(phone, second)
    told = heard(second.line)
    assert told == said[-len(told) :]
    changes = [each for each in phone.caller.events() if isinstance(each, out.StateChanged)]
    assert sum(len(each.unrestored_items) for each in changes) == len(said) - len(told) > 0


async def test_a_line_is_made_ready_by_a_snapshot_too(stage: Stage, pair: tuple[Phone, Stage]) -> None:
    phone, second = pair
    said = await talked(phone, stage.line, 0, TURNS)
    mover = Mover(stage, second)
    mover.phone = phone
    assert heard(await mover.prepare()) == said


async def test_nothing_is_written_while_something_is_under_way(stage: Stage, pair: tuple[Phone, Stage]) -> None:
    phone, _ = pair
    await talked(phone, stage.line, 0, 2)
    phone.control("response.create")
    await turns(10)
    stage.line.tell("response.created", response={"id": "long"})
    for number in range(KEPT):
        phone.say(f"more {number}")
        await turns(5)
        stage.line.tell("conversation.item.done", item=stage.line.sent[-1]["item"])
    await asyncio.sleep(3.0)
    ((_, entries),) = stage.store.log.items()
    assert not [each for each in entries if stage.form.read(each).note.snapshot is not None]
    stage.line.tell("response.done", response={"id": "long", "status": "completed"})
    await asyncio.sleep(2.0)
    assert [each for each in entries if stage.form.read(each).note.snapshot is not None]
