"""From the status of a gRPC call to one typed error. Pure; shared by both shells."""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc_status import rpc_status
from trunkline.v1.errors_pb2 import PoolNumbers

from trunkline_client.errors import (
    ADVICE_FOREIGN,
    ADVICE_NEWER,
    REASONS,
    CallerError,
    CapacityError,
    ConnectionLost,
    Family,
    GatewayError,
    ReasonEntry,
    TrunklineError,
)

_DOMAIN: Final = "trunkline"
# Keys of `ErrorInfo.metadata`.
_RETRYABLE: Final = "retryable"
_UPSTREAM_CODE: Final = "upstream_code"
_NO_STATUS: Final = Status()

_Detail = TypeVar("_Detail", bound=Message)


class EndedCall(Protocol):
    """What both of gRPC's error types offer."""

    def code(self) -> StatusCode:
        """Return the status code."""

    def details(self) -> str | None:
        """Return the status message."""

    def trailing_metadata(self) -> Iterable[object] | None:
        """Return the trailing metadata, which carries the details."""


# A status without our details: a proxy, gRPC itself or nobody spoke.
_BARE: Final[Mapping[StatusCode, tuple[str, Family]]] = {
    StatusCode.UNAVAILABLE: ("CONNECTION_LOST", ConnectionLost),
    StatusCode.DEADLINE_EXCEEDED: ("TIMED_OUT", ConnectionLost),
    StatusCode.CANCELLED: ("CANCELLED", ConnectionLost),
    StatusCode.RESOURCE_EXHAUSTED: ("RESOURCE_EXHAUSTED", CapacityError),
    StatusCode.INTERNAL: ("INTERNAL", GatewayError),
    StatusCode.UNKNOWN: ("UNKNOWN", GatewayError),
    StatusCode.DATA_LOSS: ("DATA_LOSS", GatewayError),
    StatusCode.UNIMPLEMENTED: ("UNIMPLEMENTED", GatewayError),
}


def error_of(call: EndedCall) -> TrunklineError:
    """Return the error that a call which ended with a status other than OK means."""
    status = _rich_status(call)
    info = _detail(status, ErrorInfo)
    if info is not None and info.domain != _DOMAIN:
        info = None
    reason, entry = _entry(call.code(), info)
    return entry.family(
        reason,
        call.details() or "the gateway gave no message",
        status=call.code(),
        advice=entry.advice,
        retryable=entry.retryable,
        retry_after_seconds=_retry_after_seconds(status),
        numbers=_detail(status, PoolNumbers),
        upstream_code="" if info is None else info.metadata.get(_UPSTREAM_CODE, ""),
    )


def _entry(code: StatusCode, info: ErrorInfo | None) -> tuple[str, ReasonEntry]:
    word, family = _BARE.get(code, (code.name, CallerError))
    retryable = code is StatusCode.UNAVAILABLE or word == "TIMED_OUT"
    if info is None:
        # What gRPC says by itself is in the table; a proxy's or another server's word is not.
        advice = REASONS[word].advice if family is ConnectionLost else ADVICE_FOREIGN
        return word, ReasonEntry(family, code, advice, retryable)
    known = REASONS.get(info.reason)
    if known is not None:
        return info.reason, known
    # A newer gateway gives a reason that this client does not know, but says whether to come back.
    retryable = info.metadata.get(_RETRYABLE, str(retryable).lower()) == "true"
    return info.reason, ReasonEntry(family, code, ADVICE_NEWER, retryable)


def _rich_status(call: EndedCall) -> Status:
    # Details that do not decode, or that contradict the status, come from no gateway of ours.
    try:
        found: Status | None = rpc_status.from_call(call)
    except (ValueError, DecodeError):
        return _NO_STATUS
    return _NO_STATUS if found is None else found


def _detail(status: Status, kind: type[_Detail]) -> _Detail | None:
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            detail = kind()
            packed.Unpack(detail)
            return detail
    return None


def _retry_after_seconds(status: Status) -> float | None:
    advice = _detail(status, RetryInfo)
    return None if advice is None else advice.retry_delay.ToTimedelta().total_seconds()
