"""What a gateway in this process leaves behind: files, tasks, lines, leases."""

import asyncio
import gc
import resource
from collections import Counter
from pathlib import Path

from tests.support.stack import Running
from tests.support.waiting import eventually


def open_files() -> Counter[str]:
    """Count what this process has open, by kind."""
    kinds = Counter[str]()
    for each in Path("/proc/self/fd").iterdir():
        try:
            kinds[str(each.readlink()).partition(":")[0]] += 1
        except FileNotFoundError:
            continue
    return kinds


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def tasks() -> Counter[str]:
    """Count the running tasks by what they run; gRPC's own come and go."""
    return Counter(
        name
        for task in asyncio.all_tasks()
        if not task.done() and not (name := getattr(task.get_coro(), "__qualname__", "?")).startswith("AioServer")
    )


async def at_rest(running: Running, warm: int) -> tuple[Counter[str], Counter[str]]:
    """Bring the pool to its floor and nothing else; return what is open and what runs then.

    A caller who hung up while it waited leaves its line to the next one: the shelf is emptied first.
    """
    await running.until_free()
    running.gateway.pools["default"].drain()
    await eventually(lambda: running.pool().total == 0, "every line is closed")
    running.gateway.pools["default"].unpause()
    await running.until_warm(warm)
    await eventually(lambda: running.pool().total == warm, "only the floor is there")
    gc.collect()
    return open_files(), tasks()


def nothing_is_held(running: Running, warm: int) -> None:
    stats, chosen = running.pool(), running.gateway.pools["default"]
    assert (stats.leased, stats.draining, stats.waiting, stats.reserved) == (0, 0, 0, 0)
    assert (dict(chosen.leases), chosen.living_reservations()) == ({}, [])
    group = chosen._group
    assert len(group._lines) == len(group._places._held) == warm
    assert (dict(group._answers), dict(group._dials), dict(group._safety_identifiers)) == ({}, {}, {})
