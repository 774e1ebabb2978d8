"""One table: our reasons → gRPC status, with the details that a caller can act on."""

from collections.abc import Mapping
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from trunkline.v1 import errors_pb2

from gateway.core.errors import CapacityError, GatewayError, Reason, UpstreamError

DOMAIN: Final = "trunkline"
# A status travels twice in trailing metadata, whose size callers bound.
MESSAGE_MAX: Final = 1024
DETAILS_KEY: Final = "grpc-status-details-bin"

_C = grpc.StatusCode
STATUS: Final[Mapping[Reason, grpc.StatusCode]] = {
    Reason.FIRST_FRAME_EXPECTED: _C.INVALID_ARGUMENT,
    Reason.ALREADY_OPEN: _C.FAILED_PRECONDITION,
    Reason.NOT_OPEN: _C.FAILED_PRECONDITION,
    Reason.INVALID_FRAME: _C.INVALID_ARGUMENT,
    Reason.INVALID_EVENT_JSON: _C.INVALID_ARGUMENT,
    Reason.MESSAGE_TOO_LARGE: _C.RESOURCE_EXHAUSTED,
    Reason.UNKNOWN_TEMPLATE: _C.NOT_FOUND,
    Reason.UNKNOWN_MODEL: _C.FAILED_PRECONDITION,
    Reason.OVERRIDE_REFUSED: _C.INVALID_ARGUMENT,
    Reason.CONFIG_REJECTED: _C.INVALID_ARGUMENT,
    Reason.SAFETY_IDENTIFIER_REFUSED: _C.INVALID_ARGUMENT,
    Reason.UNAUTHENTICATED: _C.UNAUTHENTICATED,
    Reason.NOT_PERMITTED: _C.PERMISSION_DENIED,
    Reason.QUEUE_FULL: _C.RESOURCE_EXHAUSTED,
    Reason.WAIT_TIMED_OUT: _C.DEADLINE_EXCEEDED,
    Reason.POOL_EXHAUSTED: _C.RESOURCE_EXHAUSTED,
    Reason.POOL_PAUSED: _C.UNAVAILABLE,
    Reason.DRAINING: _C.UNAVAILABLE,
    Reason.OVERLOADED: _C.UNAVAILABLE,
    Reason.RATE_LIMITED: _C.RESOURCE_EXHAUSTED,
    Reason.BUDGET_EXHAUSTED: _C.RESOURCE_EXHAUSTED,
    Reason.UPSTREAM_UNREACHABLE: _C.UNAVAILABLE,
    Reason.UPSTREAM_REFUSED_KEY: _C.FAILED_PRECONDITION,
    Reason.UPSTREAM_RATE_LIMITED: _C.RESOURCE_EXHAUSTED,
    Reason.UPSTREAM_CLOSED: _C.UNAVAILABLE,
    Reason.UPSTREAM_STUCK: _C.UNAVAILABLE,
    Reason.STORE_UNAVAILABLE: _C.UNAVAILABLE,
    Reason.LEASE_UNKNOWN: _C.NOT_FOUND,
    Reason.LEASE_ENDED: _C.ABORTED,
    Reason.UNKNOWN_SESSION: _C.NOT_FOUND,
    Reason.RESUME_REFUSED: _C.FAILED_PRECONDITION,
    Reason.SUPERSEDED: _C.ABORTED,
    Reason.SLOW_CALLER: _C.RESOURCE_EXHAUSTED,
    Reason.NOT_IMPLEMENTED_YET: _C.UNIMPLEMENTED,
    Reason.INTERNAL: _C.INTERNAL,
}


def details(error: GatewayError) -> status_pb2.Status:
    """Return the rich form of a refusal: ErrorInfo, RetryInfo and PoolNumbers where they apply."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    info.metadata["retryable"] = str(error.retryable).lower()
    if isinstance(error, UpstreamError) and error.upstream_code:
        info.metadata["upstream_code"] = error.upstream_code
    status = status_pb2.Status(code=STATUS[error.reason].value[0], message=error.message[:MESSAGE_MAX])
    status.details.append(_packed(info))
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_seconds * 1000))
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    if isinstance(error, CapacityError) and error.numbers is not None:
        n = error.numbers
        status.details.append(
            _packed(
                errors_pb2.PoolNumbers(
                    scope=n.scope,
                    pool=n.pool,
                    total=n.total,
                    leased=n.leased,
                    warm=n.warm,
                    dialling=n.dialling,
                    waiting=n.waiting,
                )
            )
        )
    return status


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


async def abort(context: "grpc.aio.ServicerContext[Any, Any]", error: GatewayError) -> NoReturn:
    """End the call with the error's status and details. Never returns."""
    trailing = ((DETAILS_KEY, details(error).SerializeToString()),)
    await context.abort(STATUS[error.reason], error.message[:MESSAGE_MAX], trailing)
