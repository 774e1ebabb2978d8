"""The clock of these tests: hours pass at once, and a deadlock is seen."""

import asyncio

import pytest

from tests.support.virtual_time import DeadlockError, VirtualTimeLoop, advance, now


async def test_hours_pass_at_once_and_to_the_moment() -> None:
    began = now()
    await asyncio.sleep(7200.1)
    assert now() == began + 7200.1


async def test_timers_ring_in_order() -> None:
    rung: list[tuple[str, float]] = []
    began, loop = now(), asyncio.get_running_loop()
    loop.call_later(2.0, lambda: rung.append(("late", now() - began)))
    loop.call_later(1.0, lambda: rung.append(("early", now() - began)))
    await asyncio.sleep(3.0)
    assert rung == [("early", 1.0), ("late", 2.0)]


async def test_no_time_passes_while_anything_can_run() -> None:
    began = now()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert now() == began


async def test_a_busy_loop_is_late() -> None:
    began = now()
    woken = asyncio.get_running_loop().create_task(asyncio.sleep(1.0))
    await asyncio.sleep(0)
    advance(5.0)
    await woken
    assert now() == began + 5.0


def test_a_deadlock_is_seen() -> None:
    async def wait_for_nobody() -> None:
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner, pytest.raises(DeadlockError):
        runner.run(wait_for_nobody())
