"""Two hundred sessions leave nothing behind: no task, no file, no lease."""

import asyncio
import gc
import random
from collections import Counter
from pathlib import Path

from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session

from tests.support.processes import on_linux
from tests.support.stack import Running, pool, stack
from tests.support.waiting import eventually

SESSIONS = 200
WARM = 2


def open_files() -> Counter[str]:
    """Count what this process has open, by kind."""
    kinds = Counter[str]()
    for each in Path("/proc/self/fd").iterdir():
        try:
            kinds[str(each.readlink()).partition(":")[0]] += 1
        except FileNotFoundError:
            continue
    return kinds


def tasks() -> Counter[str]:
    """Count the running tasks by what they run; gRPC's own come and go."""
    return Counter(
        name
        for task in asyncio.all_tasks()
        if not task.done() and not (name := getattr(task.get_coro(), "__qualname__", "?")).startswith("AioServer")
    )


async def one(running: Running, rng: random.Random) -> None:
    """Live one session; end it in one of the ways there are, at one of the moments there are."""
    caller = running.caller()
    running.callers.remove(caller)
    ending = rng.choice(["bye", "half-close", "now", "cancel", "cancel", "cancel"])
    moments = ("before opened", "opened", "answering", "answered")
    moment = rng.choice(moments) if ending == "cancel" else "answered"
    await caller.send(open=session.Open())
    if moment != "before opened":
        await caller.until("opened")
    if moment in ("answering", "answered"):
        await caller.say("Hello there")
        await caller.answer_please(output_modality=control.OUTPUT_MODALITY_TEXT)
        await caller.until("response_created" if moment == "answering" else "response_done")
    match ending:
        case "bye":
            await caller.bye()
        case "half-close":
            await caller.half_close()
        case "now":
            await caller.bye(now=True)
        case "cancel":
            caller.cancel()
            return
    await caller.rest()


@on_linux
async def test_two_hundred_sessions_leave_nothing_behind() -> None:
    rng = random.Random(20261122)
    pools = {"default": pool(floor=WARM, ceiling=12, wait_max_ms=10_000)}
    async with stack(pools=pools) as (running, sim):

        async def rested() -> tuple[Counter[str], Counter[str]]:
            await running.until_free()
            await running.until_warm(WARM)
            await eventually(lambda: running.pool().total == WARM, "only the floor is there")
            await eventually(
                lambda: sum(each["state"] == "open" for each in sim.connections()) == WARM,
                "the provider has as many",
            )
            gc.collect()
            return open_files(), tasks()

        for _ in range(10):
            await one(running, rng)
        files, before = await rested()
        for _ in range(SESSIONS):
            await one(running, rng)
        files_after, after = await rested()
        assert after - before == Counter()
        assert files_after - files == Counter()
        sessions = running.gateway.stats()["default"]
        assert (sessions.leased, sessions.draining, sessions.waiting) == (0, 0, 0)


async def test_fifty_sessions_at_once_with_hang_ups_leave_no_lease() -> None:
    rng = random.Random(7)
    pools = {"default": pool(floor=WARM, ceiling=12, waiters_max=100, wait_max_ms=20_000)}
    async with stack(pools=pools) as (running, _):
        await asyncio.gather(*(one(running, rng) for _ in range(50)))
        await running.until_free()
        await running.until_warm(WARM)
        assert running.pool().total <= WARM + 1
