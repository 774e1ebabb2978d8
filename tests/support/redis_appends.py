"""A process that appends to a Redis without end, by the store's own writer: load, and what was confirmed to it.

    python -m tests.support.redis_appends <settings as JSON> <replicas that confirm> <seconds between two of a session>

SIGTERM ends it; then it says how many entries of each session were confirmed.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from tests.support.processes import Process
from tests.support.redis_topologies import options_for, sealing_keys
from tests.support.store_streams import Stream, key_of, streams, words

BEGINS: Final = "appending"


def roomy(settings: Mapping[str, Any], replicas: int) -> RedisOptions:
    """Have replicas confirm each append, and no entry make room."""
    return options_for(
        settings,
        replicas_wait=replicas,
        deadline_seconds=0.5,
        session_max_entries=100_000,
        session_max_bytes=8 * 1024 * 1024,
    )


@dataclass
class Appends:
    """What another process appended; its numbers are known when the block has ended."""

    process: Process
    confirmed: dict[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.confirmed.values())

    async def lost(self, settings: Mapping[str, Any]) -> int:
        """Count what was confirmed and is not there, or is there as something else."""
        count = 0
        async with RedisStore(roomy(settings, 0), sealing_keys()) as store:
            for session_id, last in self.confirmed.items():
                there = {entry.seq: entry.payload for entry in await store.read(key_of(session_id))}
                count += sum(there.get(seq) != words(session_id, seq) for seq in range(1, last + 1))
        return count


@contextlib.asynccontextmanager
async def appends(
    settings: Mapping[str, Any], folder: Path, *, replicas: int, every_seconds: float
) -> AsyncIterator[Appends]:
    """Let another process append until the block ends."""
    arguments = ["-m", "tests.support.redis_appends", json.dumps(settings), str(replicas), str(every_seconds)]
    made = Appends(Process(arguments, folder / "appends.log"))
    try:
        await asyncio.to_thread(made.process.says, BEGINS)
        yield made
    finally:
        await asyncio.to_thread(made.process.stop)
    made.confirmed = json.loads(made.process.output.strip().rpartition("\n")[2])


async def main(settings: str, replicas: str, every_seconds: str) -> None:
    enough = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, enough.set)
    each = list[Stream]()
    try:
        async with streams(roomy(json.loads(settings), int(replicas)), float(every_seconds)) as each:
            print(BEGINS, flush=True)
            await enough.wait()
    finally:
        # Also where the store says that confirmed entries are gone, which ends it.
        print(json.dumps({stream.key.session_id: len(stream.acknowledged) for stream in each}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
