"""How much memory a thing takes: the slope of what a process has resident over how many of them there are."""

import statistics
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.support.rig import Rig

# Resident memory counts as settled when it has moved by no more than this over so many looks.
STEADY_KIB: Final = 128
LOOKS: Final = 15
LOOK_SECONDS: Final = 0.1
SETTLE_SECONDS: Final = 15.0


class Slope(NamedTuple):
    """A line through points, and how well it fits."""

    kib_each: float
    base_kib: float
    correlation: float


def slope(counts: Sequence[int], resident_kib: Sequence[float]) -> Slope:
    fit = statistics.linear_regression(counts, resident_kib)
    return Slope(fit.slope, fit.intercept, statistics.correlation(counts, resident_kib))


def settled_kib(measured: Rig) -> float:
    """Return the resident memory once it stands still; after a while the median of what was seen last."""
    seen: list[int] = []
    ends_at = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < ends_at:
        seen.append(measured.resident_kib())
        last = seen[-LOOKS:]
        if len(last) == LOOKS and max(last) - min(last) <= STEADY_KIB:
            break
        time.sleep(LOOK_SECONDS)
    return statistics.median(seen[-LOOKS:])
