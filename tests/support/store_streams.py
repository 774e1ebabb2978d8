"""Owners of sessions that append without end: what was confirmed to them, and what of it is there."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise

from gateway.core.errors import Reason, StoreError
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from tests.support.redis_topologies import sealing_keys
from tests.support.slots import figures
from tests.support.waiting import eventually

SESSIONS = 24
PAUSE_SECONDS = 0.005


def key_of(session_id: str) -> SessionKey:
    return SessionKey("acme", session_id)


def words(session_id: str, seq: int) -> bytes:
    """Return what an entry holds."""
    return f"{session_id} says {seq}".encode()


@dataclass
class Stream:
    """One session whose owner appends without end, and tries again what was not confirmed."""

    store: RedisStore
    key: SessionKey
    # From one append to the next, at least: so that a busy machine does not thin out the load.
    every_seconds: float = 0.0
    acknowledged: list[LogEntry] = field(default_factory=list)
    # When each was confirmed.
    times: list[float] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            began, seq = now(), len(self.acknowledged) + 1
            entry = LogEntry(seq, words(self.key.session_id, seq))
            try:
                await self.store.append(self.key, 1, [entry])
            except StoreError as error:
                if error.reason is not Reason.STORE_UNAVAILABLE:
                    raise
                self.refusals[error.message] += 1
                await asyncio.sleep(10 * PAUSE_SECONDS)
                continue
            self.acknowledged.append(entry)
            self.times.append(now())
            await asyncio.sleep(max(PAUSE_SECONDS, began + self.every_seconds - now()))


@contextlib.asynccontextmanager
async def streams(options: RedisOptions, every_seconds: float = 0.0) -> AsyncIterator[list[Stream]]:
    """Append until the block ends; any other error than STORE_UNAVAILABLE fails the test."""
    async with RedisStore(options, sealing_keys()) as store, asyncio.TaskGroup() as group:
        assert not store.degraded
        made = [Stream(store, key_of(f"s{number}"), every_seconds) for number in range(SESSIONS)]
        tasks = [group.create_task(each.run()) for each in made]
        yield made
        for task in tasks:
            task.cancel()


async def again(each: list[Stream], struck_at: float, seconds: float = 30) -> float:
    """Wait until every stream goes on; return the longest time for which one of them had stood still since."""
    since = asyncio.get_running_loop().time()

    def silent() -> list[Stream]:
        return [stream for stream in each if not stream.times or stream.times[-1] <= since]

    try:
        await eventually(lambda: not silent(), "every append is confirmed again", seconds)
    except AssertionError:
        raise AssertionError([stream.refusals for stream in silent()]) from None
    return max(later - earlier for stream in each for earlier, later in pairwise(stream.times) if later > struck_at)


async def lost(options: RedisOptions, each: list[Stream]) -> int:
    """Count what was confirmed and is not there, or is there as something else."""
    count = 0
    async with RedisStore(options, sealing_keys()) as store:
        for stream in each:
            there = {entry.seq: entry for entry in await store.read(stream.key)}
            count += sum(there.get(entry.seq) != entry for entry in stream.acknowledged)
    return count


def show(what: str, each: list[Stream], missing: int, *outages: float) -> None:
    figures(
        what,
        sessions=len(each),
        acknowledged=sum(len(stream.acknowledged) for stream in each),
        refused=sum(stream.refusals.total() for stream in each),
        lost=missing,
        outages_s=[round(seconds, 1) for seconds in outages],
    )
