"""The world around a pool, as values: how long things take, who comes when, what goes wrong with the provider.

Knows nothing of the pool. All chance comes from the generators that are handed in.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import Final, Protocol

from gateway.core.errors import Reason
from gateway.core.pool_limits import PoolLimits
from gateway.store.options import AccountSlots

NEVER: Final = math.inf
# Of one dial, in all: what the dialer allows.
DIAL_DEADLINE_SECONDS: Final = 10.0


class Span(Protocol):
    """How long something takes, by chance, in seconds."""

    def draw(self, rng: Random) -> float:
        """Return one length."""
        ...


@dataclass(frozen=True, slots=True)
class Uniform:
    low_seconds: float
    high_seconds: float

    def draw(self, rng: Random) -> float:
        return rng.uniform(self.low_seconds, self.high_seconds)


@dataclass(frozen=True, slots=True)
class Exponential:
    mean_seconds: float

    def draw(self, rng: Random) -> float:
        return rng.expovariate(1.0 / self.mean_seconds)


@dataclass(frozen=True, slots=True)
class LogNormal:
    median_seconds: float
    sigma: float

    def draw(self, rng: Random) -> float:
        return self.median_seconds * math.exp(rng.gauss(0.0, self.sigma))


# Who comes.


class Arrivals(Protocol):
    """When callers of one template come."""

    @property
    def pool(self) -> str:
        """The template that they ask for."""
        ...

    def moments(self, rng: Random) -> Iterator[float]:
        """Return the moments at which one caller comes, in order, in seconds from the start."""
        ...


@dataclass(frozen=True, slots=True)
class Poisson:
    """Callers who know nothing of each other."""

    per_second: float
    pool: str = "default"
    until_seconds: float = NEVER

    def moments(self, rng: Random) -> Iterator[float]:
        now = rng.expovariate(self.per_second)
        while now < self.until_seconds:
            yield now
            now += rng.expovariate(self.per_second)


@dataclass(frozen=True, slots=True)
class DayCurve:
    """A night, a day and the next night: the rate swings between two bounds, evenly on a logarithmic scale."""

    low_per_second: float
    high_per_second: float
    day_seconds: float
    pool: str = "default"

    def per_second(self, now: float) -> float:
        share = (1.0 - math.cos(2.0 * math.pi * now / self.day_seconds)) / 2.0
        return self.low_per_second * math.pow(self.high_per_second / self.low_per_second, share)

    def moments(self, rng: Random) -> Iterator[float]:
        now = 0.0
        while True:
            now += rng.expovariate(self.high_per_second)
            if rng.random() * self.high_per_second < self.per_second(now):
                yield now


@dataclass(frozen=True, slots=True)
class Bursts:
    """So many callers in one instant, once or again and again."""

    callers: int
    at_seconds: float
    every_seconds: float = NEVER
    pool: str = "default"
    until_seconds: float = NEVER

    def moments(self, rng: Random) -> Iterator[float]:
        now = self.at_seconds
        while now < self.until_seconds:
            for _ in range(self.callers):
                yield now
            now += self.every_seconds


# What goes wrong.


class Fault(Enum):
    """What the provider does while it is in trouble."""

    # Refuses connections at once.
    DOWN = auto()
    # Says after a usual handshake that the key is bad.
    KEY_REFUSED = auto()
    # Accepts, and closes 2 s later.
    FLAPPING = auto()
    # Never finishes half of the handshakes.
    HANGING = auto()
    # Ends lines, and is well otherwise.
    CUT = auto()


@dataclass(frozen=True, slots=True)
class Trouble:
    """A time in which the provider is in trouble."""

    fault: Fault
    from_seconds: float
    seconds: float = 0.0
    # What it ends as it begins: lines that carry calls, and those that stand ready.
    ends_calls: bool = False
    ends_ready: bool = False

    @property
    def until_seconds(self) -> float:
        return self.from_seconds + self.seconds

    def covers(self, now: float) -> bool:
        return self.from_seconds <= now < self.until_seconds


@dataclass(frozen=True, slots=True)
class DialOutcome:
    """What becomes of one dial: when it ends, why it failed (None = it did not), how long its line will live."""

    seconds: float
    failure: Reason | None = None
    life_seconds: float = NEVER


@dataclass(frozen=True, slots=True)
class Provider:
    """How the provider behaves."""

    dial: Span = Uniform(0.3, 2.7)
    life_seconds: float = 3600.0
    refusal: Span = Uniform(0.05, 0.3)
    flap_seconds: float = 2.0
    hanging_ratio: float = 0.5
    troubles: tuple[Trouble, ...] = ()

    def fault_at(self, now: float) -> Fault | None:
        return next((each.fault for each in self.troubles if each.covers(now)), None)

    def answer(self, now: float, rng: Random) -> DialOutcome:
        """Decide about a dial that begins now."""
        # Always drawn, so that a fault does not change what later dials draw.
        seconds, hangs = self.dial.draw(rng), rng.random() < self.hanging_ratio
        match self.fault_at(now):
            case Fault.DOWN:
                return DialOutcome(self.refusal.draw(rng), Reason.UPSTREAM_UNREACHABLE)
            case Fault.KEY_REFUSED:
                return DialOutcome(seconds, Reason.UPSTREAM_REFUSED_KEY)
            case Fault.FLAPPING:
                return DialOutcome(seconds, life_seconds=self.flap_seconds)
            case Fault.HANGING if hangs:
                return DialOutcome(DIAL_DEADLINE_SECONDS, Reason.UPSTREAM_UNREACHABLE)
            case _:
                return DialOutcome(seconds, life_seconds=self.life_seconds)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story: a pool, its callers and its provider."""

    name: str
    title: str
    seconds: float
    pools: Mapping[str, PoolLimits]
    arrivals: tuple[Arrivals, ...]
    # Not judged before this moment.
    warm_up_seconds: float = 0.0
    call: Span = Exponential(60.0)
    provider: Provider = field(default_factory=Provider)
    close: Span = Uniform(0.02, 0.2)
    proof: Span = Uniform(0.01, 0.1)
    account: AccountSlots = field(default_factory=lambda: AccountSlots(100_000, 5.0, 10))
    # A caller whose line is lost comes back within so long; None = not at all.
    returns_within_seconds: float | None = None
    # May be shortened: its figures do not depend on what happens when.
    is_steady: bool = False
