"""What committed turns held, for an observer who has to account for every sample of them. Kept only where asked for.

A turn is kept as runs of samples that rise by the same step, modulo 65,536: a test that counts in its audio reads
from them which of its samples are there, in which order and how often.
"""

from bisect import bisect_right
from collections import deque
from typing import Final

import numpy as np

from gateway.simulator import codec
from gateway.simulator.g711 import Samples
from gateway.simulator.intake import Turn

RUNS_MAX: Final = 1_000
_VALUES: Final = 1 << 16

Run = tuple[int, int, int]
"""The first sample as an unsigned number, the step to the next, and how many there are."""


class CommittedTurns:
    """The newest turns of all sessions."""

    def __init__(self, kept_max: int) -> None:
        """Keep so many, and at most `RUNS_MAX` runs of each."""
        self._kept = deque[dict[str, object]](maxlen=kept_max)
        self._dropped = 0

    def add(self, session_id: str, item_id: str, turn: Turn) -> None:
        """Keep one more; the oldest makes room."""
        if not self._kept.maxlen:
            return
        samples = codec.decode(turn.wire, turn.audio_format)
        self._dropped += len(self._kept) == self._kept.maxlen
        self._kept.append(
            {"session_id": session_id, "item_id": item_id, "samples": len(samples), "runs": runs_of(samples)}
        )

    def describe(self) -> dict[str, object]:
        """Return what `GET /_sim/committed` tells."""
        return {"committed": list(self._kept), "dropped": self._dropped}


def runs_of(samples: Samples) -> list[Run] | None:
    """Return the runs in order; None = there are too many, as in real speech."""
    values = samples.astype(np.int64) % _VALUES
    steps = np.diff(values) % _VALUES
    # Where a step is followed by another one.
    turns = (np.flatnonzero(steps[1:] != steps[:-1]) + 1).tolist()
    runs, start, last = list[Run](), 0, len(values) - 1
    while start <= last:
        if len(runs) == RUNS_MAX:
            return None
        turn = bisect_right(turns, start)
        end = turns[turn] if turn < len(turns) else last
        runs.append((int(values[start]), int(steps[start]) if start < last else 0, end - start + 1))
        start = end + 1
    return runs
