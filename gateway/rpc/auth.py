"""Who calls. One way for every RPC: interceptor → principal. What is not allowed here is denied."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc
import structlog

from gateway.core.errors import CallerError, Reason
from gateway.core.principal import Principal, Right
from gateway.rpc.status import abort

_log = structlog.get_logger(__name__)
_principal: ContextVar[Principal] = ContextVar("principal")

# Kubernetes' own probe cannot send credentials, and the answer tells nothing but the state.
OPEN_METHODS: Final = frozenset({"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"})

METADATA_MAX_BYTES: Final = 8_192
# What HTTP/2 counts for each header beside its text.
HEADER_BYTES: Final = 32

_ADMIN: Final = "/trunkline.v1.AdminService/"
_READING: Final = ("ListPools", "ListLeases", "ListSessions", "Watch", "GetCapabilities")
RIGHTS: Final[Mapping[str, Right]] = {
    "/trunkline.v1.SessionService/": Right.CONVERSE,
    "/trunkline.v1.LeaseService/": Right.CONVERSE,
    "/trunkline.v1.SpeechService/": Right.CONVERSE,
    "/grpc.reflection.v1alpha.ServerReflection/": Right.CONVERSE,
    "/grpc.reflection.v1.ServerReflection/": Right.CONVERSE,
    **{f"{_ADMIN}{method}": Right.READ for method in _READING},
    _ADMIN: Right.ADMIN,
}


def current_principal() -> Principal:
    """Who makes the call that this task serves."""
    return _principal.get()


def needed_right(method: str) -> Right | None:
    """Return the right that a method (`/package.Service/Method`) needs; None = nobody may call it."""
    service = method[: method.rfind("/") + 1]
    return RIGHTS.get(method) or RIGHTS.get(service)


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """A caller and the SHA-256 of its token. The token itself is nowhere."""

    principal: Principal
    token_sha256: bytes


class StaticTokens:
    """Authenticates by `authorization: Bearer <token>` against hashed tokens."""

    def __init__(self, holders: Iterable[TokenHolder]) -> None:
        """Know these callers."""
        self._holders = tuple(holders)

    def knows(self, principal: Principal, right: Right) -> bool:
        """Whether this caller may still do what it does."""
        return any(
            (holder.principal.tenant, holder.principal.caller) == (principal.tenant, principal.caller)
            and holder.principal.may(right)
            for holder in self._holders
        )

    def authenticate(self, metadata: Mapping[str, str]) -> Principal | None:
        """Return who shows the token, or None. Takes the same time for every wrong token."""
        scheme, _, token = metadata.get("authorization", "").partition(" ")
        shown = hashlib.sha256(token.strip().encode()).digest()
        found: Principal | None = None
        for holder in self._holders:
            if hmac.compare_digest(shown, holder.token_sha256):
                found = holder.principal
        return found if scheme.lower() == "bearer" else None


class InsecureDev:
    """Lets everybody in, as one developer. The settings allow it on loopback only."""

    TENANT: Final = "dev"

    def knows(self, principal: Principal, right: Right) -> bool:
        """Whether it is the developer."""
        del right
        return principal.tenant == self.TENANT

    def authenticate(self, metadata: Mapping[str, str]) -> Principal | None:
        """Return the developer."""
        del metadata
        return Principal(self.TENANT, "dev", frozenset(Right))


Authenticator = StaticTokens | InsecureDev
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Stands before every method of the server."""

    def __init__(self, authenticator: Authenticator, metadata_max_bytes: int = METADATA_MAX_BYTES) -> None:
        """Ask `authenticator` about each call; another one may take its place."""
        self.authenticator = authenticator
        # gRPC's own limit holds only for those who have acknowledged it.
        self._metadata_max_bytes = metadata_max_bytes

    def knows(self, principal: Principal, right: Right) -> bool:
        """Whether a caller may still do what it does."""
        return self.authenticator.knows(principal, right)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Let the call through with its principal set, or answer it here."""
        method = handler_call_details.method
        if method in OPEN_METHODS:
            return await continuation(handler_call_details)
        sent = handler_call_details.invocation_metadata or ()
        if sum(len(key) + len(value) + HEADER_BYTES for key, value in sent) > self._metadata_max_bytes:
            _log.warning("metadata_too_large", method=method)
            error = CallerError(Reason.MESSAGE_TOO_LARGE, f"metadata is over {self._metadata_max_bytes} bytes")
            return _refusing(error, await continuation(handler_call_details))
        metadata = {key: value for key, value in sent if isinstance(value, str)}
        principal = self.authenticator.authenticate(metadata)
        if principal is None:
            _log.warning("authentication_failed", method=method)
            error = CallerError(Reason.UNAUTHENTICATED, "no valid credentials were sent")
            return _refusing(error, await continuation(handler_call_details))
        right = needed_right(method)
        if right is None or not principal.may(right):
            _log.warning("not_permitted", method=method, caller=principal.caller)
            error = CallerError(Reason.NOT_PERMITTED, f"the right {right or 'none'} is needed")
            return _refusing(error, await continuation(handler_call_details))
        _principal.set(principal)
        return await continuation(handler_call_details)


def _refusing(error: CallerError, handler: _Handler) -> _Handler:
    """Return a handler of the same kind that refuses before anything is read."""

    async def refuse(_request: object, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        await abort(context, error)

    if handler is None or not (handler.request_streaming or handler.response_streaming):
        return grpc.unary_unary_rpc_method_handler(refuse)
    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse)
    return grpc.unary_stream_rpc_method_handler(refuse)
