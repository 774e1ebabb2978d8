"""Every error that this client raises.

TrunklineError            reason · message · advice · retryable · retry_after_seconds · numbers · status
├── CallerError           change something: the request, its credentials, its order, its size
├── CapacityError         later or elsewhere may work; `numbers` says how full things are
├── UpstreamError         the provider refused, vanished or got stuck
├── StoreError            session state cannot be stored
├── GatewayError          a fault of the gateway, or a part of the contract that it does not serve
└── ConnectionLost        no answer: the connection is gone or an answer did not come in time

`reason` is one of `trunkline.v1.ErrorReason` (without the prefix), or, where no gateway spoke, a
word of this client: `CONNECTION_LOST`, `TIMED_OUT`, `CANCELLED`, or the bare name of the gRPC status.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from grpc import StatusCode
from trunkline.v1.errors_pb2 import Error, ErrorReason, PoolNumbers


class TrunklineError(Exception):
    """The root: why, what to do, whether and when to come back. Never raised itself."""

    def __init__(  # noqa: PLR0913 - one argument for each thing that a reader may need
        self,
        reason: str,
        message: str,
        *,
        status: StatusCode = StatusCode.UNKNOWN,
        advice: str = "",
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        numbers: PoolNumbers | None = None,
        upstream_code: str = "",
    ) -> None:
        """Keep what a reader needs. Neither `message` nor `advice` holds a secret.

        Args:
            reason: Why, in one word of the contract.
            message: What happened, a sentence of the gateway's.
            status: The gRPC status that it came with.
            advice: What to do, a sentence. A traceback shows it.
            retryable: Whether the same request may succeed later. Never repeat another one.
            retry_after_seconds: How long to wait before that; None = no advice.
            numbers: How full the pool was that refused; None = the refusal is not about that.
            upstream_code: The provider's own code, where it is the provider that refused.
        """
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.status = status
        self.advice = advice
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.numbers = numbers
        self.upstream_code = upstream_code
        if advice:
            self.add_note(advice)

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
    """A reason's class, gRPC status, what to do, and whether the same request may succeed later."""

    family: Family
    status: StatusCode
    advice: str
    retryable: bool = False


def _caller(status: StatusCode, advice: str) -> ReasonEntry:
    return ReasonEntry(CallerError, status, advice)


def _upstream(status: StatusCode, advice: str) -> ReasonEntry:
    return ReasonEntry(UpstreamError, status, advice, retryable=True)


def _capacity(status: StatusCode, advice: str) -> ReasonEntry:
    return ReasonEntry(CapacityError, status, advice, retryable=True)


# The same words, statuses, flags and sentences as the comments of errors.proto; a test compares them.
REASONS: Final[Mapping[str, ReasonEntry]] = {
    "FIRST_FRAME_EXPECTED": _caller(
        StatusCode.INVALID_ARGUMENT, "Send `open` or `resume` as the first message of a stream."
    ),
    "ALREADY_OPEN": _caller(
        StatusCode.FAILED_PRECONDITION, "Open each stream once; start a new stream for a new session."
    ),
    "NOT_OPEN": _caller(StatusCode.FAILED_PRECONDITION, "Open the session first: this request needs one that is open."),
    "INVALID_FRAME": _caller(StatusCode.INVALID_ARGUMENT, "Correct the field that the message names."),
    "INVALID_EVENT_JSON": _caller(StatusCode.INVALID_ARGUMENT, "Send a JSON object with a known client event `type`."),
    "MESSAGE_TOO_LARGE": _caller(StatusCode.RESOURCE_EXHAUSTED, "Split the message; `opened.limits` has the size."),
    "UNKNOWN_TEMPLATE": _caller(StatusCode.NOT_FOUND, "Name a template that the gateway's configuration has."),
    "UNKNOWN_MODEL": ReasonEntry(
        UpstreamError, StatusCode.FAILED_PRECONDITION, "Ask the operator to correct the template's model."
    ),
    "OVERRIDE_REFUSED": _caller(
        StatusCode.INVALID_ARGUMENT,
        "Leave out the override that the message names: it belongs to the line class or is against policy.",
    ),
    "CONFIG_REJECTED": _caller(
        StatusCode.INVALID_ARGUMENT, "Correct the configuration: the provider refused it, its words are in the message."
    ),
    "SAFETY_IDENTIFIER_REFUSED": _caller(
        StatusCode.INVALID_ARGUMENT, "Leave out the safety identifier, or use a template whose account takes one."
    ),
    "UNAUTHENTICATED": _caller(StatusCode.UNAUTHENTICATED, "Send valid credentials in the `authorization` metadata."),
    "NOT_PERMITTED": _caller(StatusCode.PERMISSION_DENIED, "Ask the operator for the right that the message names."),
    "QUEUE_FULL": _capacity(
        StatusCode.RESOURCE_EXHAUSTED, "Come back after the retry delay: too many callers wait already."
    ),
    "WAIT_TIMED_OUT": _capacity(
        StatusCode.DEADLINE_EXCEEDED, "Come back after the retry delay: no line came free within the wait."
    ),
    "POOL_EXHAUSTED": _capacity(
        StatusCode.RESOURCE_EXHAUSTED, "Come back after the retry delay: every line is in use."
    ),
    "POOL_PAUSED": _capacity(StatusCode.UNAVAILABLE, "Come back later: an operator has paused the pool."),
    "DRAINING": _capacity(StatusCode.UNAVAILABLE, "Open the session at another gateway: this one is going away."),
    "OVERLOADED": _capacity(
        StatusCode.UNAVAILABLE, "Open the session at another gateway or later: this one is at its capacity."
    ),
    "RATE_LIMITED": _capacity(
        StatusCode.RESOURCE_EXHAUSTED,
        "Send more slowly; at an open, come back after the retry delay: the account's dial rate is used up.",
    ),
    "BUDGET_EXHAUSTED": ReasonEntry(
        CapacityError,
        StatusCode.RESOURCE_EXHAUSTED,
        "Ask the operator to raise the tenant's budget, or the account's quota at the provider.",
    ),
    "UPSTREAM_UNREACHABLE": _upstream(
        StatusCode.UNAVAILABLE, "Come back after the retry delay: the provider cannot be reached."
    ),
    "UPSTREAM_REFUSED_KEY": ReasonEntry(
        UpstreamError,
        StatusCode.FAILED_PRECONDITION,
        "Ask the operator to replace the account's key: the provider refuses it.",
    ),
    "UPSTREAM_RATE_LIMITED": _upstream(
        StatusCode.RESOURCE_EXHAUSTED, "Come back after the retry delay: the provider limits this account."
    ),
    "UPSTREAM_CLOSED": _upstream(
        StatusCode.UNAVAILABLE, "Open a new session: the provider ended the connection and it was not recovered."
    ),
    "UPSTREAM_STUCK": _upstream(
        StatusCode.UNAVAILABLE, "Open a new session: the provider's connection stopped answering."
    ),
    "STORE_UNAVAILABLE": ReasonEntry(
        StoreError, StatusCode.UNAVAILABLE, "Come back later: session state cannot be stored.", retryable=True
    ),
    "LEASE_UNKNOWN": _caller(StatusCode.NOT_FOUND, "Acquire a new lease: this one is unknown."),
    "LEASE_ENDED": _caller(StatusCode.ABORTED, "Acquire a new lease: this one has ended."),
    "UNKNOWN_SESSION": _caller(StatusCode.NOT_FOUND, "Open a new session: none of this id belongs to the caller."),
    "RESUME_REFUSED": _caller(
        StatusCode.FAILED_PRECONDITION, "Open a new session: this one cannot be resumed any more."
    ),
    "SUPERSEDED": _caller(StatusCode.ABORTED, "Stop using this stream: the session goes on in a newer one."),
    "SLOW_CALLER": _caller(StatusCode.RESOURCE_EXHAUSTED, "Read faster, or acknowledge what was read."),
    "NOT_IMPLEMENTED_YET": ReasonEntry(
        GatewayError, StatusCode.UNIMPLEMENTED, "Use a newer gateway: this part of the contract is not served yet."
    ),
    "INTERNAL": ReasonEntry(
        GatewayError, StatusCode.INTERNAL, "Report it with the correlation id: the fault is the gateway's."
    ),
    # Where no gateway spoke.
    "CONNECTION_LOST": ReasonEntry(
        ConnectionLost,
        StatusCode.UNAVAILABLE,
        "See that a gateway listens at the address, with or without TLS as you ask for it, and open a new session.",
        retryable=True,
    ),
    "TIMED_OUT": ReasonEntry(
        ConnectionLost,
        StatusCode.DEADLINE_EXCEEDED,
        "Try again, or give it more time: no answer came within the deadline.",
        retryable=True,
    ),
    "CANCELLED": ReasonEntry(ConnectionLost, StatusCode.CANCELLED, "Nothing: this side ended the call."),
}
# For a word that the table does not have.
ADVICE_NEWER: Final = "Update this client: the gateway is newer and gives a reason that it does not know."
ADVICE_FOREIGN: Final = "Look at what stands between you and the gateway: the answer did not come from a gateway."


def refusal(reason: str, message: str) -> TrunklineError:
    """Return the error for one of the known `REASONS`."""
    family, status, advice, retryable = REASONS[reason]
    return family(reason, message, status=status, advice=advice, retryable=retryable)


def as_exception(error: Error) -> TrunklineError:
    """Return an error that came as a message as the exception that a status with its reason would be.

    For the event `Error`, and for `error` in `ConfigRejected`, `Closed` and `SynthesizeResponse`.
    """
    names = ErrorReason.DESCRIPTOR.values_by_number
    reason = names[error.reason].name.removeprefix("ERROR_REASON_") if error.reason in names else str(error.reason)
    entry = REASONS.get(reason, ReasonEntry(GatewayError, StatusCode.UNKNOWN, ADVICE_NEWER))
    return entry.family(
        reason,
        error.message,
        status=entry.status,
        advice=entry.advice,
        retryable=error.retryable,
        retry_after_seconds=error.retry_after_ms / 1000 if error.retry_after_ms else None,
        upstream_code=error.upstream_code,
    )
