"""A changed configuration while something else happens: a fence, an end, a refused key, a dead target."""

import asyncio

import pytest

from gateway.core.errors import CapacityError, Reason
from tests.support.virtual_time import now, turns
from tests.unit.app.board import STILL, Board, template
from tests.unit.runtime.holders import until

OTHER = template(model="gpt-realtime-2.1-mini")
TWO = {"default": STILL, "other": STILL}


# What reaches all lines reaches those that leave, also while their successors are dialled.


async def moving(board: Board) -> "asyncio.Future[None]":
    """Begin to move the one template; its new pool has no line yet."""
    await board.start()
    board.dialer.delay_seconds = 5.0
    changing = asyncio.ensure_future(board.change(templates={"default": OTHER}))
    await asyncio.sleep(1.0)
    return changing


async def test_a_fence_reaches_lines_that_are_about_to_leave(board: Board) -> None:
    changing = await moving(board)
    board.exchange.fence()
    await asyncio.sleep(1.0)
    assert not any(line.is_open for line in board.dialer.lines[:2])
    await changing


async def test_lines_that_are_about_to_leave_are_closed_when_the_gateway_stops(board: Board) -> None:
    changing = await moving(board)
    changing.cancel()
    board.exchange.drain()
    await board.exchange.stop()
    assert board.open_lines() == []
    assert board.slots.total == 0


async def test_who_waits_for_a_line_that_is_about_to_leave_is_told_when_the_gateway_drains(board: Board) -> None:
    await board.start(pools={"default": {**STILL, "floor": 1, "ceiling": 1}})
    first = await board.hold()
    board.dialer.delay_seconds = 5.0
    changing = asyncio.ensure_future(board.change(templates={"default": OTHER}))
    await asyncio.sleep(0.5)
    waiter = board.wait_for(seconds=2.0)
    await turns(4)
    began = now()
    board.exchange.drain()
    with pytest.raises(CapacityError) as told:
        await waiter.task
    assert (told.value.reason, now() - began < 0.5) == (Reason.DRAINING, True)
    await first.end()
    await changing


async def test_a_line_that_is_about_to_leave_gives_its_place_to_another_gateway(board: Board) -> None:
    changing = await moving(board)
    board.exchange.give_back("main", 1)
    await turns(8)
    assert sum(line.is_open for line in board.dialer.lines[:2]) == 1
    await changing


# Failures.


async def test_dials_that_were_under_way_with_the_old_key_are_not_held_against_the_new_one(board: Board) -> None:
    await board.start(pools={"default": {**STILL, "floor": 4, "ceiling": 12}})
    held = [await board.hold() for _ in range(4)]
    board.dialer.may_answer.clear()
    waiters = [board.wait_for(seconds=10.0) for _ in range(4)]
    await turns(8)
    assert board.dialer.under_way == 4
    board.dialer.fail(Reason.UPSTREAM_REFUSED_KEY, times=4)
    await board.change(keys=["main"])
    board.dialer.may_answer.set()
    began = now()
    for waiter in waiters:
        await waiter.has_line
    assert now() - began < 5.0
    assert not board.pool().stats().key_refused
    for each in (*held, *waiters):
        await each.end()


async def test_a_corrected_address_is_dialled_at_once(board: Board) -> None:
    """What was wrong with the old one says nothing about it."""
    await board.start()
    board.dialer.fail(Reason.UPSTREAM_UNREACHABLE, times=1000)
    for line in board.dialer.lines:
        line.lose()
    await until(lambda: board.pool().stats().breaker_open)
    board.dialer.failures.clear()
    began = now()
    await board.change(targets={"openai": {"url": "ws://127.0.0.1:10/v1/realtime"}})
    await until(lambda: board.pool().stats().ready == 2)
    assert now() - began < 5.0


async def test_a_new_key_is_dialled_with_at_once_however_long_the_old_one_was_refused(board: Board) -> None:
    await board.start()
    board.dialer.fail(Reason.UPSTREAM_REFUSED_KEY, times=1000)
    for line in board.dialer.lines:
        line.lose()
    await until(lambda: board.pool().stats().key_refused)
    await asyncio.sleep(100.0)
    board.dialer.failures.clear()
    began = now()
    await board.change(keys=["main"])
    await until(lambda: board.pool().stats().ready == 2)
    assert now() - began < 5.0
    assert not board.pool().stats().breaker_open


async def test_a_new_template_that_cannot_be_dialled_does_not_hold_the_others_up(board: Board) -> None:
    """Nor the next change: a key that comes meanwhile is used within ten seconds."""
    await board.start()
    board.dialer.may_answer.clear()
    changing = asyncio.ensure_future(board.change(templates={"default": template(), "other": OTHER}, pools=TWO))
    await asyncio.sleep(20.0)
    assert changing.done()
    board.dialer.may_answer.set()
    await changing
