"""How many ready lines the demand calls for: arrivals in one lead time, and a margin for chance.

A line serves one caller, so what counts is not how many calls run but how many callers come while
one line is being opened. That number is Poisson with mean λ·t; λ·t + k·√(λ·t) covers all but its tail.
"""

import math
from dataclasses import dataclass
from typing import Final

# A rate that has just risen shows in the faster estimates; a lull does not yet empty the slow one.
RUSH_SECONDS: Final = 2.0
FAST_SECONDS: Final = 10.0
SLOW_SECONDS: Final = 60.0
# The fastest one counts from so many callers on: fewer are chance.
RUSH_CALLERS: Final = 6.0
# Below so many callers in one lead time, one more line would mostly stand idle.
RARE_PER_LEAD: Final = 0.5
# Of the lead time, the weight of the newest dial.
LEAD_WEIGHT: Final = 0.1
# What is usual leaves out those that nearly hang, be they half of all: each counts for little more than the others.
USUAL_WEIGHT: Final = 0.2
USUAL_GROWTH: Final = 1.5
USUAL_MIN_SECONDS: Final = 0.1
# Until a first dial has been seen: what the provider usually takes.
LEAD_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class DemandOptions:
    """Whether the floor follows demand, and how many deviations above the mean it stands."""

    enabled: bool = True
    k: float = 3.0


class _Rate:
    """Events per second, each forgotten exponentially over `memory_seconds`."""

    __slots__ = ("_at", "_memory_seconds", "_value")

    def __init__(self, memory_seconds: float) -> None:
        self._memory_seconds = memory_seconds
        self._value = 0.0
        self._at = 0.0

    def count(self, now: float) -> None:
        self._value = self.at(now) + 1.0 / self._memory_seconds
        self._at = now

    def at(self, now: float) -> float:
        return self._value * math.exp(min(0.0, self._at - now) / self._memory_seconds)


class Demand:
    """What one template's callers ask for, and how long a line for them takes."""

    def __init__(self, options: DemandOptions) -> None:
        """Begin without any caller."""
        self.options = options
        # The mean, by which supply is reckoned; and what a dial usually takes, by which a hanging one is known.
        self.lead_seconds = self.usual_seconds = LEAD_SECONDS
        self._rush = _Rate(RUSH_SECONDS)
        self._fast = _Rate(FAST_SECONDS)
        self._slow = _Rate(SLOW_SECONDS)

    def arrived(self, now: float) -> None:
        """Count one caller."""
        self._rush.count(now)
        self._fast.count(now)
        self._slow.count(now)

    def dialled(self, seconds: float) -> None:
        """Learn how long a line took, from the decision to dial it until it was ready."""
        self.lead_seconds += LEAD_WEIGHT * (seconds - self.lead_seconds)
        believed = min(seconds, USUAL_GROWTH * max(self.usual_seconds, USUAL_MIN_SECONDS))
        self.usual_seconds += USUAL_WEIGHT * (believed - self.usual_seconds)

    def per_lead(self, now: float) -> float:
        """How many callers come while one line is opened, on average."""
        rush = self._rush.at(now)
        if rush * RUSH_SECONDS < RUSH_CALLERS:
            rush = 0.0
        return max(rush, self._fast.at(now), self._slow.at(now)) * self.lead_seconds

    def lines(self, now: float) -> int:
        """How many lines should be ready or on their way; 0 when nearly nobody comes."""
        if not self.options.enabled:
            return 0
        mean = self.per_lead(now)
        wanted = mean + self.options.k * math.sqrt(mean)
        # Where callers are rare, half a line is none; where they are not, it is one.
        return math.floor(wanted + 0.5) if mean < RARE_PER_LEAD else math.ceil(wanted) + 1
