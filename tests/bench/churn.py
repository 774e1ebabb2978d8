"""Ten minutes of sessions of every kind against a gateway process, and what it still holds after each part of them.

python -m tests.bench.churn [SESSIONS] [SESSIONS_PER_SECOND]    exits with 1 where a bound is broken
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.support.churn import FAULTS, SCARCE, TEMPLATES, Churn
from tests.support.counted_gateway import COMMAND
from tests.support.counts import Counts, counts_at_rest
from tests.support.rig import Rig, rig
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator

SESSIONS: Final = 6000
PER_SECOND: Final = 10.0
LOOKS: Final = 10
WARM: Final = 8
# Every kind of session and of refusal must have come once: its metrics and its code are made then.
WARM_UP: Final = 300
SEED: Final = 20_261_122

RESIDENT_MAX_KIB: Final = 8 << 10
# The books of the pool's last few seconds (a line is an object), and a metric's label that comes for the first time
# (about 15). A leak of one object in two sessions is over it after 500 of them.
OBJECTS_MAX: Final = 100


@dataclass(frozen=True)
class Look:
    """What was held when so many sessions had been lived through."""

    sessions: int
    seconds: float
    held: Counts


@dataclass(frozen=True)
class Report:
    """The looks, the first of them after the warm-up."""

    looks: Sequence[Look]
    by_kind: dict[str, int]
    trouble: dict[str, int]

    def broken(self) -> list[str]:
        """Return what does not hold, in sentences; empty = all of it does."""
        first, last = self.looks[0].held, self.looks[-1].held
        objects, resident = last.objects - first.objects, last.resident_kib - first.resident_kib
        found = [f"trouble: {count} x {what}" for what, count in self.trouble.items()]
        if last.tasks != first.tasks:
            found.append(f"tasks: {dict(last.tasks - first.tasks)} more, {dict(first.tasks - last.tasks)} fewer")
        if last.files != first.files:
            found.append(f"files: {dict(last.files - first.files)} more, {dict(first.files - last.files)} fewer")
        if objects > OBJECTS_MAX:
            found.append(f"{objects} objects more than at the start: {last.grown_kinds(first)}")
        if resident > RESIDENT_MAX_KIB:
            found.append(f"{resident} KiB more than at the start")
        return found

    def table(self) -> str:
        rows = ["sessions  seconds  tasks  files  sockets  objects  resident KiB"]
        for look in self.looks:
            held = look.held
            rows.append(
                f"{look.sessions:8}  {look.seconds:7.0f}  {held.tasks.total():5}  {held.files.total():5}  "
                f"{held.sockets:7}  {held.objects:7}  {held.resident_kib:12}"
            )
        return "\n".join(rows)


async def churned(sessions: int, per_second: float, looks: int) -> Report:
    """Live through them; look so many times on the way."""
    pools = {
        "default": pool(floor=WARM, ceiling=64, dials_max=8, wait_max_ms=10_000, demand={"enabled": False}),
        # Without demand of its own: a bare line that it keeps after a slow minute is no leak.
        SCARCE: pool(floor=0, ceiling=1, demand={"enabled": False}),
    }
    with rig({"faults": list(FAULTS)}, command=COMMAND, templates=TEMPLATES, pools=pools) as measured:
        return await _churned(measured, sessions, per_second, looks)


async def _churned(measured: Rig, sessions: int, per_second: float, looks: int) -> Report:
    channel = channel_to(measured.address)
    try:
        operator, churn = Operator(channel), Churn(measured.address, random.Random(SEED))
        await churn.run(WARM_UP, per_second)
        before = await counts_at_rest(measured, operator, WARM)
        began, warmed = time.monotonic(), churn.sessions
        found = [Look(0, 0.0, before)]
        for _ in range(looks):
            await churn.run(sessions // looks, per_second)
            held = await counts_at_rest(measured, operator, WARM, before)
            found.append(Look(churn.sessions - warmed, time.monotonic() - began, held))
        return Report(found, churn.by_kind(), dict(churn.trouble))
    finally:
        await channel.close()


def main(sessions: int = SESSIONS, per_second: float = PER_SECOND) -> int:
    report = asyncio.run(churned(sessions, per_second, LOOKS))
    lines = [report.table(), f"by kind, with the warm-up: {report.by_kind}", f"load average: {os.getloadavg()}"]
    broken = report.broken()
    sys.stdout.write("\n".join([*lines, *(broken or ["all bounds hold"])]) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(*(kind(given) for kind, given in zip((int, float), sys.argv[1:], strict=False))))
