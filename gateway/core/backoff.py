"""How long to wait between dials that fail: full jitter, so that many gateways do not come together.

Success alone forgives nothing: a provider may accept and drop. Only a line that has stood for a while does.
"""

import math
from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.core.errors import Reason

# What does not heal by asking again soon: somebody has to change something.
STUBBORN: Final = frozenset(
    {
        Reason.UPSTREAM_REFUSED_KEY,
        Reason.BUDGET_EXHAUSTED,
        Reason.CONFIG_REJECTED,
        Reason.UNKNOWN_MODEL,
        Reason.SAFETY_IDENTIFIER_REFUSED,
    }
)
# So many such refusals, or early deaths, in a row are believed.
STUBBORN_AFTER: Final = 3
# Failures that come closer together have one cause.
TOGETHER_SECONDS: Final = 0.5
# With nothing proven yet: callers who wait at the start should not wait for one another's dials.
WIDTH_FIRST: Final = 4
_WIDTH_MAX: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class BackoffOptions:
    """The widening window that a delay is drawn from, in seconds."""

    first_seconds: float = 0.25
    max_seconds: float = 8.0
    # One probe now and then is enough for a refusal that is believed.
    stubborn_seconds: float = 30.0


def full_jitter_seconds(failures: int, options: BackoffOptions, rng: Random) -> float:
    """Draw the delay after `failures` (≥ 1) in a row: uniform in [0, min(max, first · 2ⁿ⁻¹)]."""
    # The exponent is bounded before the power, which would overflow after a long outage.
    ceiling = min(options.max_seconds, options.first_seconds * 2.0 ** min(failures - 1, 32))
    return rng.uniform(0.0, ceiling)


class Backoff:
    """Failures since the last proof, when the next dial may begin, and how many at once."""

    def __init__(self, options: BackoffOptions, rng: Random) -> None:
        """Begin with few dials: nothing is proven yet."""
        self._options = options
        self._rng = rng
        self._began_at = self._failed_at = 0.0
        self._died_young = 0
        self.failures = 0
        self.last_failure: Reason | None = None
        self.not_before = 0.0
        # The same for lines that nobody waits for.
        self.refill_not_before = 0.0
        # Dials at once: doubled by each success, one again after a failure.
        self.width = WIDTH_FIRST

    def failed(self, reason: Reason, retry_after_seconds: float | None, now: float, began_at: float = math.inf) -> None:
        """Record a dial that failed. One that had begun before the last one failed is one failure with it."""
        if not self.failures:
            self._began_at = now
        self.last_failure = reason
        self.width = 1
        together = began_at <= self._failed_at and now - self._failed_at < TOGETHER_SECONDS
        if self.failures and together and not retry_after_seconds:
            return
        self._failed_at = now
        self.failures += 1
        if reason in STUBBORN and self.failures >= STUBBORN_AFTER:
            delay = self._options.stubborn_seconds
        else:
            delay = full_jitter_seconds(self.failures, self._options, self._rng)
        self.not_before = max(self.not_before, now + max(delay, retry_after_seconds or 0.0))

    def died_young(self, now: float, ready_at: float = math.inf) -> None:
        """Record a line that died as soon as it was ready. After a few, only a waiting caller causes a dial."""
        failures = self.failures
        self.failed(Reason.UPSTREAM_CLOSED, None, now, ready_at)
        self._died_young += self.failures - failures
        if self._died_young >= STUBBORN_AFTER:
            self.postpone_refill(self._options.stubborn_seconds, now)

    def postpone(self, seconds: float, now: float) -> None:
        """Let nothing be dialled for so long, without a failure: there is no place, or no turn."""
        self.not_before = max(self.not_before, now + seconds)

    def postpone_refill(self, seconds: float, now: float) -> None:
        """Let nothing be dialled for the floor for so long."""
        self.refill_not_before = max(self.refill_not_before, now + seconds)

    def succeeded(self) -> None:
        """Record a dial that succeeded: more may be tried at once. It forgives nothing yet."""
        self.width = min(self.width * 2, _WIDTH_MAX)
        self.last_failure = None

    def forgive(self, now: float) -> None:
        """Forget every failure: what was refused may be taken now."""
        self.failures, self._died_young, self.last_failure = 0, 0, None
        self.width = max(self.width, WIDTH_FIRST)
        self.not_before, self.refill_not_before = min(self.not_before, now), min(self.refill_not_before, now)

    def proved(self, ready_at: float, now: float) -> None:
        """Record that a line stands which became ready at `ready_at`: what failed before that is over."""
        if self.failures and ready_at >= self._began_at:
            self.failures, self._died_young = 0, 0
            self.refill_not_before = min(self.refill_not_before, now)
