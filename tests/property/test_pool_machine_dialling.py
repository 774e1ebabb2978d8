"""What the machine knows of dialling: each template's back-off and the breaker, written from their rules."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Final

from gateway.core.backoff import BackoffOptions
from gateway.core.breaker import BreakerOptions
from gateway.core.errors import Reason
from gateway.core.ids import LeaseId, WaiterId
from gateway.core.pool_limits import PoolLimits

FOREVER: Final = float("inf")
BACKOFF: Final = BackoffOptions(first_seconds=0.25, max_seconds=2.0, stubborn_seconds=4.0)
BREAKER: Final = BreakerOptions(
    failures=4, window_seconds=5.0, open_seconds=3.0, open_max_seconds=8.0, key_probe_seconds=6.0
)
KEY: Final = Reason.UPSTREAM_REFUSED_KEY
OF_ONE_TEMPLATE: Final = (Reason.CONFIG_REJECTED, Reason.UNKNOWN_MODEL)
STUBBORN: Final = (KEY, *OF_ONE_TEMPLATE)
STUBBORN_AFTER: Final = 3
TOGETHER_SECONDS: Final = 0.5
WIDTH_FIRST: Final = 4

CONNECTING: Final = "connecting"


class RecordingRandom(Random):
    """Remembers the ends and the result of what it drew last."""

    last: tuple[float, float] = (0.0, 0.0)

    def uniform(self, a: float, b: float) -> float:
        drawn = super().uniform(a, b)
        self.last = (b, drawn)
        return drawn


def lease_ids() -> Iterator[LeaseId]:
    return (LeaseId(f"lease-{number}") for number in count(1))


@dataclass
class Line:
    pool: str
    version: str
    waited_for: bool
    alone_for: WaiterId | None
    state: str = CONNECTING
    decided_at: float = 0.0
    begun_at: float | None = None
    ready_at: float = 0.0
    age_max: float = 0.0
    proven_at: float = 0.0
    proving: bool = False
    probe: bool = False


@dataclass
class Pool:
    """What is known of one share."""

    limits: PoolLimits
    version: str
    # Ready lines of another version may serve until then.
    outdated_until: float = -math.inf
    paused: bool = False
    draining: bool = False
    blocked_by: Reason | None = None
    failures: int = 0
    began_at: float = 0.0
    failed_at: float = 0.0
    deaths: int = 0
    last_failure: Reason | None = None
    not_before: float = 0.0
    refill_not_before: float = 0.0
    width: int = WIDTH_FIRST
    given_up: int = 0
    gave_up_at: float = -FOREVER
    overtakes: float = -FOREVER

    def fails(
        self, reason: Reason, retry_after: float | None, began_at: float, drawn: tuple[float, float], now: float
    ) -> None:
        if not self.failures:
            self.began_at = now
        self.width = 1
        self.last_failure = reason
        together = began_at <= self.failed_at and now - self.failed_at < TOGETHER_SECONDS
        if self.failures and together and not retry_after:
            return
        self.failed_at = now
        self.failures += 1
        if reason in STUBBORN and self.failures >= STUBBORN_AFTER:
            delay = BACKOFF.stubborn_seconds
        else:
            ceiling, delay = drawn
            window = BACKOFF.first_seconds * 2 ** (self.failures - 1)
            assert ceiling == min(BACKOFF.max_seconds, window), "no full jitter"
        self.not_before = max(self.not_before, now + max(delay, retry_after or 0.0))

    def dies(self, ready_at: float, drawn: tuple[float, float], now: float) -> None:
        before = self.failures
        self.fails(Reason.UPSTREAM_CLOSED, None, ready_at, drawn, now)
        self.deaths += self.failures - before
        if self.deaths >= STUBBORN_AFTER:
            self.refill_not_before = max(self.refill_not_before, now + BACKOFF.stubborn_seconds)

    def stood(self, ready_at: float, now: float) -> None:
        if self.failures and ready_at >= self.began_at:
            self.failures = self.deaths = 0
            self.refill_not_before = min(self.refill_not_before, now)


@dataclass
class BreakerBooks:
    """What is known of the breaker, for all pools on it."""

    failures: list[float] = field(default_factory=list)
    successes: list[float] = field(default_factory=list)
    is_open: bool = False
    refusals: int = 0
    times: int = 0
    reopens_at: float = 0.0
    died_at: float = 0.0
    probe: Line | None = None
    last_failure: Reason | None = None

    @property
    def key_refused(self) -> bool:
        return self.refusals >= STUBBORN_AFTER

    def succeeds(self, now: float) -> None:
        self.refusals = 0
        self.successes.append(now)
        if self.probe is not None:
            self.is_open, self.probe = False, None
            self.failures = []

    def fails(self, line: Line, reason: Reason, now: float) -> None:
        if reason in OF_ONE_TEMPLATE:
            self.succeeds(now)
            return
        was_probe = self.probe is line
        self.ends(line)
        if reason is Reason.INTERNAL:
            return
        self.refusals = self.refusals + 1 if reason is KEY else 0
        self.failures.append(now)
        self.last_failure = reason
        bad = sum(at > now - BREAKER.window_seconds for at in self.failures)
        good = sum(at > now - BREAKER.window_seconds for at in self.successes)
        if not self.is_open:
            often = bad >= BREAKER.failures and bad > BREAKER.failures_per_success * good
            if not (often or self.key_refused):
                return
        elif not was_probe:
            return
        self.is_open = True
        if self.key_refused:
            self.reopens_at = now + BREAKER.key_probe_seconds
        else:
            self.times += 1
            self.reopens_at = now + min(BREAKER.open_seconds * self.times, BREAKER.open_max_seconds)

    def sees_death(self, line: Line, now: float) -> None:
        if self.successes:
            self.successes.pop()
        if line.ready_at > self.died_at or now - self.died_at >= TOGETHER_SECONDS:
            self.died_at = now
            self.fails(line, Reason.UPSTREAM_CLOSED, now)

    def ends(self, line: Line) -> None:
        if self.probe is line:
            self.probe = None

    def stood(self) -> None:
        if not self.is_open:
            self.times = 0

    def allows_at(self, *, waited_for: bool) -> float:
        if not self.is_open:
            return 0.0
        if self.probe is not None:
            return FOREVER
        return 0.0 if waited_for and not self.key_refused else self.reopens_at
