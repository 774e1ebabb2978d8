"""What happens to gateways while callers talk: killed, frozen, drained."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from trunkline_client import AsyncClient

from tests.chaos.figures import Outcome, Size, spread
from tests.chaos.talker import END_SECONDS, History, Talker
from tests.chaos.validator import judge
from tests.support.fleet import Fleet, at_rest, fleet
from tests.support.proxy import random_proxy
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator

WARM: Final = 8
POOLS: Final = {"default": pool(floor=WARM, ceiling=64, dials_max=8, wait_max_ms=10_000, demand={"enabled": False})}
BACK_SECONDS: Final = 20.0
CALLERS: Final = 6
KILLS_A_ROUND: Final = 7
# Between two words of a caller, and of one that fills its log.
PAUSE_SECONDS: Final = 0.25
HASTY_SECONDS: Final = 0.05


@asynccontextmanager
async def gateways(count: int, **changes: Any) -> AsyncIterator[tuple[Fleet, str]]:
    """Run some behind a balancer that knows nothing; give them and its address."""
    settings = {"pools": POOLS, **changes}
    with fleet(count, **settings) as running:
        channels = [channel_to(each) for each in running.addresses]
        try:
            await at_rest([Operator(each) for each in channels], settings["pools"]["default"]["floor"])
            async with random_proxy(running.addresses) as address:
                yield running, address
        finally:
            for channel in channels:
                await channel.close()


@asynccontextmanager
async def talkers(
    address: str, count: int, end_seconds: float = END_SECONDS, **how: Any
) -> AsyncIterator[list[Talker]]:
    """Let some talk, each over a connection of its own; at the end of the block they say goodbye and hear all of it."""
    clients = [AsyncClient(address) for _ in range(count)]
    made = [Talker(client, f"t{number}", **how) for number, client in enumerate(clients)]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            await client.__aenter__()
        tasks = [group.create_task(each.run()) for each in made]
        try:
            for each in made:
                async with asyncio.timeout(END_SECONDS):
                    await each.opened.wait()
            yield made
        finally:
            for each in made:
                each.stop()
            _, late = await asyncio.wait(tasks, timeout=end_seconds)
            for task in late:
                task.cancel()
            for client in clients:
                await client.close()


async def struck(
    running: Fleet, callers: list[Talker], number: signal.Signals, times: int, undo: Callable[[str], Any]
) -> list[float]:
    """Strike the gateway of one caller after the other; return how long each of its callers was away, in seconds."""
    took = list[float]()
    for turn in range(times):
        owner = callers[turn % len(callers)].owner
        there = [each for each in callers if each.owner == owner]
        before = [len(each.history.resumed) for each in there]
        running.gateways[owner].send(number)
        began = time.monotonic()
        for each, had in zip(there, before, strict=True):
            await each.resumed(had + 1, BACK_SECONDS)
        took += [each.history.resumed[had][0] - began for each, had in zip(there, before, strict=True)]
        await asyncio.to_thread(undo, owner)
        await asyncio.sleep(1.0)
    return took


def _again(running: Fleet, owner: str) -> None:
    """Put a new process in the place of one that was killed."""
    running.gateways[owner].wait()
    running.restart(owner).says('"serving"')


async def kills(size: Size) -> Outcome:
    """SIGKILL, and a new process in its place; the sessions are new ones every few kills, so of a usual length."""
    rounds, took, histories = size.of(9, 1), list[float](), list[History]()
    async with gateways(3) as (running, address):
        for _ in range(rounds):
            async with talkers(address, CALLERS, pause_seconds=PAUSE_SECONDS) as made:
                took += await struck(running, made, signal.SIGKILL, KILLS_A_ROUND, partial(_again, running))
            histories += [each.history for each in made]
    return Outcome({"kill_resume_ms": spread(took)}, rounds * KILLS_A_ROUND, judge(histories))


async def long_kills(size: Size) -> Outcome:
    """The same for sessions that have talked until their logs were full."""
    async with gateways(3) as (running, address), talkers(address, CALLERS, pause_seconds=HASTY_SECONDS) as made:
        await asyncio.sleep(size.of(45, 1))
        words = min(len(each.history.sent) for each in made)
        took = await struck(running, made, signal.SIGKILL, size.of(6, 1), partial(_again, running))
    figures = {"kill_resume_long_ms": {**spread(took), "words": words}}
    return Outcome(figures, size.of(6, 1), judge(each.history for each in made))


async def freezes(size: Size) -> Outcome:
    """SIGSTOP, and SIGCONT when its callers have gone on elsewhere."""
    times = size.of(24, 3)
    async with gateways(3) as (running, address), talkers(address, CALLERS, pause_seconds=PAUSE_SECONDS) as made:
        took = await struck(
            running, made, signal.SIGSTOP, times, lambda owner: running.gateways[owner].send(signal.SIGCONT)
        )
    return Outcome({"freeze_resume_ms": spread(took)}, times, judge(each.history for each in made))
