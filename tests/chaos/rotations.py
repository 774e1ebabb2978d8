"""What callers notice when the time of their lines is up, again and again, while they talk on."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, Final

from trunkline_client.events import ResponseDone, StateChanged, TextDelta

from tests.chaos.caller import Caller, calls, connected
from tests.chaos.figures import Outcome, Size, spread
from tests.chaos.gateways import POOLS, gateways
from tests.chaos.validator import Verdict, judge
from tests.support.simulated import SimulatedProvider

LIFE_SECONDS: Final = 6.0
PAUSE_SECONDS: Final = 0.2
LOOK_SECONDS: Final = 1.0
# Whose line is not changed within so many of its lives waits for nothing.
LIVES_MAX: Final = 2
CONNECTIONS: Final = 4
ROTATION: Final = "rotation"
# The simulator marks a line by an item that is called so.
TAG: Final = "tag-"


@dataclass
class Turns:
    """What one caller measured: when it asked and for how long it waited, and when its line was changed."""

    asked: list[tuple[float, float]] = field(default_factory=list)
    rotated_at: list[float] = field(default_factory=list)

    def split(self) -> tuple[list[float], list[float]]:
        """Return the longer of the waits before and behind each change, and the waits that met none."""
        met, gaps = set[int](), list[float]()
        for changed_at in self.rotated_at:
            behind = sum(at <= changed_at for at, _ in self.asked)
            beside = [number for number in (behind - 1, behind) if 0 <= number < len(self.asked)]
            met.update(beside)
            gaps.append(max(self.asked[number][1] for number in beside))
        return gaps, [wait for number, (_, wait) in enumerate(self.asked) if number not in met]


async def rotations(size: Size) -> Outcome:
    """Let sessions live longer than their lines, and compare what callers wait for around each change and else."""
    waves, callers, each_moves = size.of(2, 1), size.of(20, 6), size.of(5, 2)
    seen, verdict, moved, overlaps = list[Turns](), Verdict(), 0, list[bool]()
    simulated = {"expire_after_seconds": LIFE_SECONDS}
    async with gateways(2, simulated=simulated, pools=POOLS) as (running, address), watched(running.provider) as lines:
        made = list[Caller]()
        for wave in range(waves):
            names = [f"r{wave}-{number}" for number in range(callers)]
            async with connected(address, CONNECTIONS) as clients, calls(clients, names) as present:
                seen += await asyncio.gather(*(_talk(each, each_moves, lines) for each in present))
            made += present
            await lines.look()
            overlaps += [each for name in names for each in lines.overlaps(TAG + name)]
        verdict = judge(each.history for each in made)
        moved = sum(len(each.rotated_at) for each in seen)
        verdict.faults += _lost(made)
    if len(overlaps) != moved:
        verdict.faults.append(f"{moved} rotations were told, and the provider saw {len(overlaps)}")
    gaps = [gap for each in seen for gap in each.split()[0]]
    calm = median(wait for each in seen for wait in each.split()[1])
    figures = {
        "rotation_gap_ms": spread([max(0.0, gap - calm) for gap in gaps]),
        "rotation_calm_ms": round(calm * 1000, 1),
        "rotation_overlap_ratio": sum(overlaps) / max(1, len(overlaps)),
    }
    return Outcome(figures, moved, verdict)


async def _talk(caller: Caller, moves: int, lines: "Lines") -> Turns:
    """Ask again and again, until the line was changed so often and one more answer has come; then say goodbye."""
    turns, number = Turns(), 0
    asked_at, gives_up_at = 0.0, time.monotonic() + LIVES_MAX * LIFE_SECONDS * moves
    while (len(turns.rotated_at) < moves or turns.asked[-1][0] < turns.rotated_at[-1]) and asked_at < gives_up_at:
        number += 1
        asked_at = time.monotonic()
        words, item_id = f"{caller.name} asks number {number}", f"{TAG}{caller.name}" if number == 1 else ""
        since = await caller.say(words, asks=True, item_id=item_id)
        heard_at, _ = await caller.next(TextDelta, since)
        await caller.next(ResponseDone, since)
        turns.asked.append((asked_at, heard_at - asked_at))
        await asyncio.sleep(PAUSE_SECONDS)
        turns.rotated_at = [at for at, event in caller.events if _cause(event) == ROTATION]
    # The last line may not live long enough for the others' looks; and nobody is idle while a line is changed.
    await lines.look()
    caller.stop()
    return turns


def _cause(event: object) -> str:
    return event.cause if isinstance(event, StateChanged) else ""


def _lost(callers: Sequence[Caller]) -> list[str]:
    """Return a sentence for each line that was not left but lost."""
    causes = [(each.name, cause) for each in callers for _, event in each.events if (cause := _cause(event))]
    return [f"{name} was told of {cause}" for name, cause in causes if cause != ROTATION]


class Lines:
    """When the lines of sessions were opened and closed, by the provider's own word.

    It tells how old each is, and how old it was when it ended: who looks while it is open knows both moments.
    """

    def __init__(self, provider: SimulatedProvider) -> None:
        self._provider = provider
        self._opened_at = dict[str, float]()
        self._told = list[dict[str, Any]]()

    async def look(self) -> None:
        told = await asyncio.to_thread(self._provider.observe)
        self._told = told["connections"]
        for line in self._told:
            # Of one that has ended already it is the latest moment that can be.
            self._opened_at.setdefault(line["id"], told["time"] - line["age_seconds"])

    def overlaps(self, tag: str) -> list[bool]:
        """Return for each change of a session's line whether the next one was open before the last one closed."""
        spans = list[tuple[float, float]]()
        for line in self._told:
            if tag in line["session_tags"]:
                opened_at = self._opened_at[line["id"]]
                spans.append((opened_at + line["age_seconds"], opened_at))
        return [following[1] < before[0] for before, following in pairwise(sorted(spans))]


@asynccontextmanager
async def watched(provider: SimulatedProvider) -> AsyncIterator[Lines]:
    """Look often enough that no line of a session is missed: each lives for some seconds in its session."""
    lines = Lines(provider)

    async def watch() -> None:
        while True:
            await lines.look()
            await asyncio.sleep(LOOK_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        yield lines
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
