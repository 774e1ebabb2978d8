"""Every error that may cross a room's wall, and the reason each one carries.

GatewayError                 reason · retryable · retry_after_seconds · a sentence for the operator
├── CallerError              the caller must change something
├── CapacityError            later may work; carries the pool's numbers
├── LeaseEndedError          the right to a line is gone
├── UpstreamError            the Realtime API refused or vanished
│   ├── DialError            … before a line was ready
│   └── UpstreamClosedError  … afterwards: nobody here asked for it
└── StoreError               Redis refused, or another owner wrote

`CancelledError` is never in the tree and never swallowed. `IllegalTransitionError` is an assertion:
a bug, not an error. What a reason means to the caller stands in proto/trunkline/v1/errors.proto.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """Why. The same words as `trunkline.v1.ErrorReason` (a test compares them)."""

    FIRST_FRAME_EXPECTED = "FIRST_FRAME_EXPECTED"
    ALREADY_OPEN = "ALREADY_OPEN"
    NOT_OPEN = "NOT_OPEN"
    INVALID_FRAME = "INVALID_FRAME"
    INVALID_EVENT_JSON = "INVALID_EVENT_JSON"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    UNKNOWN_TEMPLATE = "UNKNOWN_TEMPLATE"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    OVERRIDE_REFUSED = "OVERRIDE_REFUSED"
    CONFIG_REJECTED = "CONFIG_REJECTED"
    SAFETY_IDENTIFIER_REFUSED = "SAFETY_IDENTIFIER_REFUSED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    NOT_PERMITTED = "NOT_PERMITTED"
    QUEUE_FULL = "QUEUE_FULL"
    WAIT_TIMED_OUT = "WAIT_TIMED_OUT"
    POOL_EXHAUSTED = "POOL_EXHAUSTED"
    POOL_PAUSED = "POOL_PAUSED"
    DRAINING = "DRAINING"
    OVERLOADED = "OVERLOADED"
    RATE_LIMITED = "RATE_LIMITED"
    BUDGET_EXHAUSTED = "BUDGET_EXHAUSTED"
    UPSTREAM_UNREACHABLE = "UPSTREAM_UNREACHABLE"
    UPSTREAM_REFUSED_KEY = "UPSTREAM_REFUSED_KEY"
    UPSTREAM_RATE_LIMITED = "UPSTREAM_RATE_LIMITED"
    UPSTREAM_CLOSED = "UPSTREAM_CLOSED"
    UPSTREAM_STUCK = "UPSTREAM_STUCK"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    LEASE_UNKNOWN = "LEASE_UNKNOWN"
    LEASE_ENDED = "LEASE_ENDED"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"
    RESUME_REFUSED = "RESUME_REFUSED"
    SUPERSEDED = "SUPERSEDED"
    SLOW_CALLER = "SLOW_CALLER"
    NOT_IMPLEMENTED_YET = "NOT_IMPLEMENTED_YET"
    INTERNAL = "INTERNAL"


RETRYABLE: Final = frozenset(
    {
        Reason.QUEUE_FULL,
        Reason.WAIT_TIMED_OUT,
        Reason.POOL_EXHAUSTED,
        Reason.POOL_PAUSED,
        Reason.DRAINING,
        Reason.OVERLOADED,
        Reason.RATE_LIMITED,
        Reason.UPSTREAM_UNREACHABLE,
        Reason.UPSTREAM_RATE_LIMITED,
        Reason.UPSTREAM_CLOSED,
        Reason.UPSTREAM_STUCK,
        Reason.STORE_UNAVAILABLE,
    }
)


@dataclass(frozen=True, slots=True)
class PoolNumbers:
    """How full things were when a caller was refused."""

    scope: str
    pool: str
    total: int
    leased: int
    warm: int
    dialling: int
    waiting: int


class GatewayError(Exception):
    """The root: a reason, a sentence, and when to come back."""

    def __init__(self, reason: Reason, message: str, *, retry_after_seconds: float | None = None) -> None:
        """Keep what a reader needs; `message` holds no key, token, transcript or audio."""
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.reason in RETRYABLE


class CallerError(GatewayError):
    """The caller must change something."""


class CapacityError(GatewayError):
    """Later may work."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        numbers: PoolNumbers | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        """Add the numbers of the pool that refused."""
        super().__init__(reason, message, retry_after_seconds=retry_after_seconds)
        self.numbers = numbers


class LeaseEndedError(GatewayError):
    """The right to a line is gone."""


class UpstreamError(GatewayError):
    """The Realtime API refused or vanished."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        upstream_code: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        """Add the provider's own code, where it gave one."""
        super().__init__(reason, message, retry_after_seconds=retry_after_seconds)
        self.upstream_code = upstream_code


class DialError(UpstreamError):
    """A line could not be made ready."""


class UpstreamClosedError(UpstreamError):
    """A line ended that nobody here ended, whatever its close code."""


class StoreError(GatewayError):
    """Session state could not be read or written."""


class LogGapError(StoreError):
    """The store has lost what it had of a session, or the end of it: what follows does not fit."""

    def __init__(self, ends_at: int) -> None:
        """Say with which number what is left of the log ends; 0 = nothing is left."""
        super().__init__(Reason.STORE_UNAVAILABLE, f"the stored log ends at {ends_at}, not before this append")
        self.ends_at = ends_at
