"""Whether a lost line is replaced, and when: pure, with `now` in monotonic seconds."""

from dataclasses import dataclass
from random import Random
from typing import Final

from gateway.core.backoff import BackoffOptions, full_jitter_seconds
from gateway.core.errors import GatewayError, Reason, UpstreamError

# What a fresh line can mend. Everything else comes again on the next one: a refused key, a configuration, a frame.
MENDED: Final = frozenset({Reason.UPSTREAM_CLOSED, Reason.UPSTREAM_STUCK})

# The close code that stands for a connection that broke (RFC 6455, 7.4.1).
NO_CLOSE_FRAME: Final = "1006"


@dataclass(frozen=True, slots=True)
class RecoveryOptions:
    """How long it is tried."""

    # A session without a line is silence: it is given up after so long, or so many tries.
    give_up_seconds: float = 20.0
    tries_max: int = 6
    # Lines that die so young, so many in a row, die of what this session does to them.
    young_seconds: float = 5.0
    young_max: int = 3


class Recovery:
    """The losses of one session's lines."""

    def __init__(self, options: RecoveryOptions, rng: Random) -> None:
        """Begin with none."""
        self._options = options
        self._rng = rng
        self._young = 0
        self._tries = 0
        self._ends_at = 0.0

    def lost(self, error: UpstreamError, line_since: float, now: float, *, has_spoken: bool) -> float | None:
        """Record a lost line; return when to go for another one, in seconds. None = it is not to be replaced.

        One that broke before it said anything was dead when it came, as all are whose provider has just gone: not
        this session's doing, but one more try for a line.
        """
        options = self._options
        if error.reason not in MENDED:
            return None
        is_young = now - line_since < options.young_seconds
        if is_young and not has_spoken and error.upstream_code == NO_CLOSE_FRAME:
            if now < self._ends_at:
                return self.failed(error, now)
            self.begin(now)
            return 0.0
        self.begin(now)
        self._young = self._young + 1 if is_young else 0
        return 0.0 if self._young < options.young_max else None

    def begin(self, now: float) -> None:
        """Begin to try for a line, with all the time there is."""
        self._tries, self._ends_at = 0, now + self._options.give_up_seconds

    def left_seconds(self, now: float) -> float:
        """How long it may still be tried."""
        return max(0.0, self._ends_at - now)

    def failed(self, error: GatewayError, now: float) -> float | None:
        """Record that no line was to be had; return when to try again, in seconds. None = give up."""
        self._tries += 1
        delay = full_jitter_seconds(self._tries, BackoffOptions(), self._rng)
        delay = max(delay, error.retry_after_seconds or 0.0)
        if not error.retryable or self._tries >= self._options.tries_max or now + delay >= self._ends_at:
            return None
        return delay
