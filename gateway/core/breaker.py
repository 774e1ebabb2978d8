"""Stops dialling where it is no use: one breaker for each target and account, shared by their pools.

            FAILED_OFTEN              PROBE_SENT
 CLOSED ────────────────────▶ OPEN ─────────────▶ PROBING
   ▲                            ▲ PROBE_FAILED       │
   │                            └────────────────────┤
   └─────────────── PROBE_SUCCEEDED ─────────────────┘

While it is open the floor is not refilled. A caller who waits may cause a probe earlier, one at a time and
within the pool's back-off: a provider that is back is found by the first caller, not by the clock. A key that
was refused is the exception: it is probed by the clock alone.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.core.backoff import STUBBORN_AFTER, TOGETHER_SECONDS
from gateway.core.errors import Reason
from gateway.core.transitions import Table, step


class BreakerState(Enum):
    """Whether dials flow."""

    CLOSED = auto()
    OPEN = auto()
    PROBING = auto()


class BreakerEvent(Enum):
    """What happens to a breaker."""

    FAILED_OFTEN = auto()
    PROBE_SENT = auto()
    PROBE_FAILED = auto()
    PROBE_SUCCEEDED = auto()


_S, _E = BreakerState, BreakerEvent

TABLE: Final[Table[BreakerState, BreakerEvent]] = {
    (_S.CLOSED, _E.FAILED_OFTEN): _S.OPEN,
    (_S.OPEN, _E.PROBE_SENT): _S.PROBING,
    (_S.PROBING, _E.PROBE_FAILED): _S.OPEN,
    (_S.PROBING, _E.PROBE_SUCCEEDED): _S.CLOSED,
}

# The provider answers, and has nothing against the account: one template is wrong.
_OF_ONE_TEMPLATE: Final = frozenset({Reason.CONFIG_REJECTED, Reason.UNKNOWN_MODEL, Reason.SAFETY_IDENTIFIER_REFUSED})
# More of them in one window tell nothing more.
OUTCOMES_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When it opens, and for how long. Times in seconds."""

    failures: int = 5
    window_seconds: float = 10.0
    # So many failures for each success are more than bad luck.
    failures_per_success: int = 2
    open_seconds: float = 30.0
    open_max_seconds: float = 300.0
    key_probe_seconds: float = 30.0


class Breaker:
    """Knows how dialling goes for one target and account, and whether another dial is worth it."""

    def __init__(self, options: BreakerOptions) -> None:
        """Begin closed."""
        self._options = options
        self._state = BreakerState.CLOSED
        self._failures = deque[float](maxlen=OUTCOMES_MAX)
        self._successes = deque[float](maxlen=OUTCOMES_MAX)
        self._refusals = 0
        self._times_opened = 0
        self._reopens_at = 0.0
        self._died_at = float("-inf")
        # The number of the probe that is under way, or was last.
        self._probe = 0
        self.last_failure: Reason | None = None

    # Inputs.

    def dialled(self) -> int:
        """Record that a dial begins; an open breaker takes it for its probe and gives it a number, else 0."""
        if self._state is not BreakerState.OPEN:
            return 0
        self._step(BreakerEvent.PROBE_SENT)
        self._probe += 1
        return self._probe

    def succeeded(self, now: float) -> None:
        """Record a line that became ready."""
        self._refusals = 0
        self._successes.append(now)
        if self._state is BreakerState.PROBING:
            self._step(BreakerEvent.PROBE_SUCCEEDED)
            self._failures.clear()

    def failed(self, reason: Reason, now: float, probe: int = 0) -> None:
        """Record a dial that failed, or a line that died as soon as it was ready. `probe` is what it was dialled as."""
        if reason in _OF_ONE_TEMPLATE:
            self.succeeded(now)
            return
        if reason is Reason.INTERNAL:  # a fault of ours says nothing about the provider
            self.abandoned(probe)
            return
        self._refusals = self._refusals + 1 if reason is Reason.UPSTREAM_REFUSED_KEY else 0
        self._failures.append(now)
        self.last_failure = reason
        if self._is_under_way(probe):
            self._step(BreakerEvent.PROBE_FAILED)
            self._open(now)
        elif self._state is BreakerState.CLOSED and self._fails_often(now):
            self._step(BreakerEvent.FAILED_OFTEN)
            self._open(now)

    def died(self, now: float, ready_at: float = math.inf) -> None:
        """Record a line that died as soon as it was ready: its success was none."""
        if self._successes:
            self._successes.pop()
        # Lines that end in one moment, as when a provider restarts, have one cause.
        if ready_at > self._died_at or now - self._died_at >= TOGETHER_SECONDS:
            self._died_at = now
            self.failed(Reason.UPSTREAM_CLOSED, now)

    def abandoned(self, probe: int) -> None:
        """Record a dial that ended without saying anything about the provider."""
        if self._is_under_way(probe):
            self._step(BreakerEvent.PROBE_FAILED)

    def proved(self) -> None:
        """Record a line that has stood for a while."""
        if self._state is BreakerState.CLOSED:
            self._times_opened = 0

    def forgive(self, now: float) -> None:
        """Forget everything: the account has a new key."""
        self._refusals = self._times_opened = 0
        self._failures.clear()
        self._reopens_at = now
        if self._state is BreakerState.PROBING:  # the probe that is under way has the old key
            self._step(BreakerEvent.PROBE_FAILED)

    # Questions.

    @property
    def is_open(self) -> bool:
        """Whether dials are held back."""
        return self._state is not BreakerState.CLOSED

    @property
    def key_refused(self) -> bool:
        """Whether the account's key is taken for bad."""
        return self._refusals >= STUBBORN_AFTER

    def allows_at(self, *, waited_for: bool) -> float:
        """From when on a dial may begin, for a caller who waits or for the floor.

        +inf while a probe is under way: its end is an input.
        """
        match self._state:
            case BreakerState.CLOSED:
                return 0.0
            case BreakerState.PROBING:
                return float("inf")
        return 0.0 if waited_for and not self.key_refused else self._reopens_at

    # Inside.

    def _is_under_way(self, probe: int) -> bool:
        return self._state is BreakerState.PROBING and probe == self._probe

    def _fails_often(self, now: float) -> bool:
        if self.key_refused:
            return True
        options, since = self._options, now - self._options.window_seconds
        for outcomes in (self._failures, self._successes):
            while outcomes and outcomes[0] <= since:
                outcomes.popleft()
        failures, successes = len(self._failures), len(self._successes)
        return failures >= options.failures and failures > options.failures_per_success * successes

    def _open(self, now: float) -> None:
        options = self._options
        if self.key_refused:
            self._reopens_at = now + options.key_probe_seconds
            return
        self._times_opened += 1
        self._reopens_at = now + min(options.open_seconds * self._times_opened, options.open_max_seconds)

    def _step(self, event: BreakerEvent) -> None:
        self._state = step(TABLE, self._state, event)
