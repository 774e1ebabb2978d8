"""Every error that this client raises.

TrunklineError            reason · message · retryable · retry_after_seconds · numbers · status
├── CallerError           change something: the request, its credentials, its order, its size
├── CapacityError         later or elsewhere may work; `numbers` says how full things are
├── UpstreamError         the provider refused, vanished or got stuck
├── StoreError            session state cannot be stored
├── GatewayError          a fault of the gateway, or a part of the contract that it does not serve
└── ConnectionLost        no answer: the connection is gone or an answer did not come in time

`reason` is one of `trunkline.v1.ErrorReason` (without the prefix), or, where no gateway spoke, a
word of this client: `CONNECTION_LOST`, `TIMED_OUT`, or the bare name of the gRPC status.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from grpc import StatusCode
from trunkline.v1.errors_pb2 import PoolNumbers


class TrunklineError(Exception):
    """The root: why, whether and when to come back. Never raised itself."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        status: StatusCode = StatusCode.UNKNOWN,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        numbers: PoolNumbers | None = None,
    ) -> None:
        """Keep what a reader needs. `message` is the gateway's sentence; it holds no secret."""
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.status = status
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.numbers = numbers

    def __str__(self) -> str:
        """Return one line for a log."""
        return f"{self.reason}: {self.message}"


class CallerError(TrunklineError):
    """The caller must change something."""


class CapacityError(TrunklineError):
    """Too full, or going away. Later or elsewhere may work."""


class UpstreamError(TrunklineError):
    """The provider refused, vanished or got stuck."""


class StoreError(TrunklineError):
    """Session state cannot be stored."""


class GatewayError(TrunklineError):
    """A fault of the gateway, or a part of the contract that it does not serve."""


class ConnectionLost(TrunklineError):  # noqa: N818 - the name says what happened
    """No answer: the connection is gone, or the answer did not come in time."""


Family = type[TrunklineError]


class ReasonEntry(NamedTuple):
    """A reason's class, gRPC status, and whether the same request may succeed later."""

    family: Family
    status: StatusCode
    retryable: bool = False


def _caller(status: StatusCode) -> ReasonEntry:
    return ReasonEntry(CallerError, status)


def _upstream(status: StatusCode) -> ReasonEntry:
    return ReasonEntry(UpstreamError, status, retryable=True)


def _capacity(status: StatusCode) -> ReasonEntry:
    return ReasonEntry(CapacityError, status, retryable=True)


# The same words, statuses and flags as the comments of errors.proto; a test compares them.
REASONS: Final[Mapping[str, ReasonEntry]] = {
    "FIRST_FRAME_EXPECTED": _caller(StatusCode.INVALID_ARGUMENT),
    "ALREADY_OPEN": _caller(StatusCode.FAILED_PRECONDITION),
    "NOT_OPEN": _caller(StatusCode.FAILED_PRECONDITION),
    "INVALID_FRAME": _caller(StatusCode.INVALID_ARGUMENT),
    "INVALID_EVENT_JSON": _caller(StatusCode.INVALID_ARGUMENT),
    "MESSAGE_TOO_LARGE": _caller(StatusCode.RESOURCE_EXHAUSTED),
    "UNKNOWN_TEMPLATE": _caller(StatusCode.NOT_FOUND),
    "UNKNOWN_MODEL": ReasonEntry(UpstreamError, StatusCode.FAILED_PRECONDITION),
    "OVERRIDE_REFUSED": _caller(StatusCode.INVALID_ARGUMENT),
    "CONFIG_REJECTED": _caller(StatusCode.INVALID_ARGUMENT),
    "SAFETY_IDENTIFIER_REFUSED": _caller(StatusCode.INVALID_ARGUMENT),
    "UNAUTHENTICATED": _caller(StatusCode.UNAUTHENTICATED),
    "NOT_PERMITTED": _caller(StatusCode.PERMISSION_DENIED),
    "QUEUE_FULL": _capacity(StatusCode.RESOURCE_EXHAUSTED),
    "WAIT_TIMED_OUT": _capacity(StatusCode.DEADLINE_EXCEEDED),
    "POOL_EXHAUSTED": _capacity(StatusCode.RESOURCE_EXHAUSTED),
    "POOL_PAUSED": _capacity(StatusCode.UNAVAILABLE),
    "DRAINING": _capacity(StatusCode.UNAVAILABLE),
    "OVERLOADED": _capacity(StatusCode.UNAVAILABLE),
    "RATE_LIMITED": _capacity(StatusCode.RESOURCE_EXHAUSTED),
    "BUDGET_EXHAUSTED": ReasonEntry(CapacityError, StatusCode.RESOURCE_EXHAUSTED),
    "UPSTREAM_UNREACHABLE": _upstream(StatusCode.UNAVAILABLE),
    "UPSTREAM_REFUSED_KEY": ReasonEntry(UpstreamError, StatusCode.FAILED_PRECONDITION),
    "UPSTREAM_RATE_LIMITED": _upstream(StatusCode.RESOURCE_EXHAUSTED),
    "UPSTREAM_CLOSED": _upstream(StatusCode.UNAVAILABLE),
    "UPSTREAM_STUCK": _upstream(StatusCode.UNAVAILABLE),
    "STORE_UNAVAILABLE": ReasonEntry(StoreError, StatusCode.UNAVAILABLE, retryable=True),
    "LEASE_UNKNOWN": _caller(StatusCode.NOT_FOUND),
    "LEASE_ENDED": _caller(StatusCode.ABORTED),
    "UNKNOWN_SESSION": _caller(StatusCode.NOT_FOUND),
    "RESUME_REFUSED": _caller(StatusCode.FAILED_PRECONDITION),
    "SUPERSEDED": _caller(StatusCode.ABORTED),
    "SLOW_CALLER": _caller(StatusCode.RESOURCE_EXHAUSTED),
    "NOT_IMPLEMENTED_YET": ReasonEntry(GatewayError, StatusCode.UNIMPLEMENTED),
    "INTERNAL": ReasonEntry(GatewayError, StatusCode.INTERNAL),
    # Where no gateway spoke.
    "CONNECTION_LOST": ReasonEntry(ConnectionLost, StatusCode.UNAVAILABLE, retryable=True),
    "TIMED_OUT": ReasonEntry(ConnectionLost, StatusCode.DEADLINE_EXCEEDED, retryable=True),
    "CANCELLED": ReasonEntry(ConnectionLost, StatusCode.CANCELLED),
}


def refusal(reason: str, message: str) -> TrunklineError:
    """Return the error for one of the known `REASONS`."""
    family, status, retryable = REASONS[reason]
    return family(reason, message, status=status, retryable=retryable)
