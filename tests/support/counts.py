"""What a gateway process holds, as it tells itself (counted_gateway.py), when nothing goes on."""

import asyncio
import json
import signal
import time
from collections import Counter
from dataclasses import dataclass
from typing import Final

from tests.support.counted_gateway import COUNTS
from tests.support.fleet import at_rest
from tests.support.rig import Rig
from tests.support.steering import Operator
from tests.support.waiting import eventually

# How long sockets of callers that have gone may take to be closed.
SETTLE_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True)
class Counts:
    """Of one moment."""

    tasks: Counter[str]
    files: Counter[str]
    objects: int
    kinds: Counter[str]
    resident_kib: int

    @property
    def sockets(self) -> int:
        return sum(count for kind, count in self.files.items() if kind.startswith("socket"))

    def grown_kinds(self, before: "Counts", least: int = 10) -> dict[str, int]:
        """Return which kinds of objects there are more of, most first."""
        more = (self.kinds - before.kinds).most_common()
        return {kind: count for kind, count in more if count >= least}

    def same_open(self, other: "Counts") -> bool:
        return (self.tasks, self.files) == (other.tasks, other.files)


async def counts(measured: Rig) -> Counts:
    """Ask once."""
    file = measured.folder / COUNTS
    file.unlink(missing_ok=True)
    measured.gateway.send(signal.SIGUSR1)
    await eventually(file.exists, "the gateway tells what it holds")
    told = json.loads(file.read_text("utf-8"))
    return Counts(
        tasks=Counter(told["tasks"]),
        files=Counter(told["files"]),
        objects=told["objects"],
        kinds=Counter(told["kinds"]),
        resident_kib=told["resident_kib"],
    )


async def counts_at_rest(measured: Rig, operator: Operator, warm: int, before: Counts | None = None) -> Counts:
    """Bring the pool to fresh lines and nothing else, and ask until as much is open as `before`, or twice the same.

    Asked twice at least: to ask for the first time makes some objects, too.
    """
    async with asyncio.timeout(SETTLE_SECONDS):
        while await operator.sessions():  # noqa: ASYNC110 it is another process
            await asyncio.sleep(LOOK_SECONDS)
    await operator.drain()
    await _until_empty(operator)
    await operator.unpause()
    await at_rest([operator], warm)
    last, found = await counts(measured), await counts(measured)
    ends_at = time.monotonic() + SETTLE_SECONDS
    while not found.same_open(before or last) and time.monotonic() < ends_at:
        await asyncio.sleep(LOOK_SECONDS)
        last, found = found, await counts(measured)
    return found


async def _until_empty(operator: Operator) -> None:
    async with asyncio.timeout(SETTLE_SECONDS):
        while (shown := await operator.pool()).warm + shown.dialling + shown.leased + shown.draining:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_SECONDS)
