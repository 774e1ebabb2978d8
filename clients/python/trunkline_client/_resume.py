"""How to go on with a session whose stream was lost: what counts as lost, where to ask and when.

Pure: time and chance are arguments, in seconds that only rise and from 0 to 1.
"""

from dataclasses import dataclass
from typing import Final

from trunkline_client.errors import ADVICE_FOREIGN, TrunklineError, refusal
from trunkline_client.options import ConnectionOptions

# No gateway spoke.
_LOST: Final = frozenset({"CONNECTION_LOST", "TIMED_OUT", "CANCELLED"})
# A gateway spoke, and another one or the same one later may take the session.
_LATER: Final = frozenset({"DRAINING", "OVERLOADED", "STORE_UNAVAILABLE", "RATE_LIMITED"})
_DOUBLINGS_MAX: Final = 16
# So many attempts are short; then each has twice the time of the one before.
_PATIENT_AFTER: Final = 2
# The first patience with a gateway that may be frozen: one that is alive answers in milliseconds.
_AFTER_SILENCE_SECONDS: Final = 0.25


def is_lost(failure: TrunklineError) -> bool:
    """Tell whether a stream ended like this because its connection was lost."""
    # gRPC's own INTERNAL is a broken connection, a gateway's is its word.
    return failure.reason in _LOST or (failure.reason == "INTERNAL" and failure.advice == ADVICE_FOREIGN)


def may_go_on(failure: TrunklineError) -> bool:
    """Tell whether a session may go on after its stream, or an attempt to resume it, ended like this."""
    return is_lost(failure) or failure.reason in _LATER


@dataclass(frozen=True, slots=True)
class Attempt:
    """Where to ask, when, and how long; without `owner` at the client's own address.

    `is_fresh` asks over a new connection: the one that is there may be dead, and nobody has told it.
    """

    owner: str
    is_fresh: bool
    pause_seconds: float
    timeout_seconds: float


def own_address(attempt: Attempt | None, address: str) -> str:
    """Return where a stream needs a channel of its own; empty = it goes where all calls of the client go."""
    if attempt is None:
        return ""
    if attempt.owner and attempt.owner not in {address, address.removeprefix("dns:///")}:
        return attempt.owner
    return address if attempt.is_fresh else ""


class Attempts:
    """The owner first, at once; then the client's address with growing pauses, until the window is over."""

    def __init__(
        self, failure: TrunklineError, owner: str, window_seconds: float, options: ConnectionOptions, now: float
    ) -> None:
        """Begin when the stream was lost. `owner`: empty = the client's own address, or not known."""
        self._failure = failure
        self._owner = owner
        self._window_seconds = window_seconds
        self._over_at = now + window_seconds
        self._options = options
        # Attempts at the client's own address; the first one does not wait where no owner was asked.
        self._asked = 0 if owner else -1
        self._tried = 0

    def next(self, now: float, chance: float) -> Attempt:
        """Return the next attempt. Raises CONNECTION_LOST when the session cannot be there any more."""
        owner, self._owner = self._owner, ""
        timeout_seconds = self._timeout_seconds()
        self._tried += 1
        pause_seconds = 0.0 if owner else self._pause_seconds(chance)
        self._asked += not owner
        pause_seconds = max(pause_seconds, self._advised_seconds())
        left_seconds = self._over_at - now - pause_seconds
        if left_seconds <= 0:
            message = f"not resumed within {self._window_seconds:g} s; the last cause: {self._failure}"
            raise refusal("CONNECTION_LOST", message)
        is_fresh = self._failure.reason == "TIMED_OUT"
        return Attempt(owner, is_fresh, pause_seconds, min(timeout_seconds, left_seconds))

    def _timeout_seconds(self) -> float:
        """Return the patience with the next one: a balancer may pick a frozen gateway, a claim may take its time."""
        is_silent = self._failure.reason == "TIMED_OUT"
        first_seconds = _AFTER_SILENCE_SECONDS if is_silent else self._options.owner_timeout_seconds
        grown_seconds = first_seconds * (1 << min(max(0, self._tried - _PATIENT_AFTER), _DOUBLINGS_MAX))
        return min(grown_seconds, self._options.call_timeout_seconds)

    def _pause_seconds(self, chance: float) -> float:
        if self._asked < 0:
            return 0.0
        first_seconds = self._options.resume_backoff_first_seconds
        growth = 1 << min(self._asked, _DOUBLINGS_MAX)
        return chance * min(first_seconds * growth, self._options.resume_backoff_max_seconds)

    def _advised_seconds(self) -> float:
        return (self._failure.retry_after_seconds or 0.0) if self._failure.reason in _LATER else 0.0

    def fail(self, failure: TrunklineError) -> None:
        """Note why an attempt failed. Raises that if none can succeed."""
        if not may_go_on(failure):
            raise failure
        self._failure = failure
