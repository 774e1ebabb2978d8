"""Reservations over gRPC: capacity kept for a caller whose phone is ringing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

import grpc
from trunkline.v1 import lease_pb2 as lease

from gateway.core.errors import CallerError, GatewayError, Reason
from gateway.core.events import LineSource
from gateway.core.principal import Right
from gateway.core.reservation import TTL_MAX_SECONDS, TTL_SECONDS
from gateway.rpc.auth import current_principal
from gateway.rpc.parts import ServiceParts
from gateway.rpc.responses import line_source
from gateway.rpc.status import abort
from gateway.runtime.lease import Holder, Wish
from gateway.runtime.opening import DEFAULT_TEMPLATE
from gateway.runtime.pools import find_pool

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
KEY_MAX_BYTES: Final = 64
CORRELATION_MAX: Final = 128


class LeaseService:
    """Reservations."""

    def __init__(self, parts: ServiceParts) -> None:
        """Serve from `parts`."""
        self._parts = parts

    async def Acquire(self, request: lease.AcquireRequest, context: _Context) -> lease.AcquireResponse:  # noqa: N802
        """Reserve one unit of a pool."""
        try:
            return await self._acquire(request, context)
        except GatewayError as error:
            await abort(context, error)

    async def KeepAlive(  # noqa: N802
        self, request_iterator: AsyncIterator[lease.KeepAliveRequest], context: _Context
    ) -> AsyncIterator[lease.KeepAliveResponse]:
        """Extend reservations; each request is answered once, in order."""
        principal = current_principal()
        async for request in request_iterator:
            if not self._parts.knows(principal, Right.CONVERSE):
                text = "the caller's credentials have been taken away"
                await abort(context, CallerError(Reason.UNAUTHENTICATED, text))
            lease_id, ttl = await self._parts.reservations.keep_alive(request.lease_token, principal)
            yield lease.KeepAliveResponse(lease_id=lease_id, ttl_seconds=round(ttl))

    async def Release(self, request: lease.ReleaseRequest, context: _Context) -> lease.ReleaseResponse:  # noqa: N802
        """Give a reservation back."""
        del context
        ended = await self._parts.reservations.release(request.lease_token, current_principal())
        return lease.ReleaseResponse(released=ended)

    async def _acquire(self, request: lease.AcquireRequest, context: _Context) -> lease.AcquireResponse:
        parts, principal = self._parts, current_principal()
        if (refusal := parts.directory.refusal()) is not None:
            raise refusal
        _check(request)
        pool = find_pool(parts.pools.values(), request.template or DEFAULT_TEMPLATE, principal.tenant)
        wait_ms = min(request.wait_max_ms or pool.limits.wait_max_ms, pool.limits.wait_max_ms)
        left = context.time_remaining()
        wish = Wish(
            holder=Holder(principal.tenant, principal.caller, correlation_id=request.correlation_id),
            wait_seconds=wait_ms / 1000 if left is None else min(wait_ms / 1000, max(0.0, left)),
            # A caller who goes cancels this very task.
            abandoned=asyncio.get_running_loop().create_future(),
        )
        ttl = float(request.ttl_seconds or TTL_SECONDS)
        made = await parts.reservations.acquire(pool, ttl, wish, request.idempotency_key)
        return lease.AcquireResponse(
            lease_token=made.token,
            lease_id=made.lease_id,
            ttl_seconds=round(ttl),
            owner_address=parts.owner_address,
            source=line_source(LineSource.WARM if made.at_once else LineSource.WAITED),
            waited_ms=round(made.waited_seconds * 1000),
        )


def _check(request: lease.AcquireRequest) -> None:
    """Raise `CallerError` INVALID_FRAME for what no reservation can be."""
    if request.ttl_seconds > TTL_MAX_SECONDS:
        raise CallerError(Reason.INVALID_FRAME, f"ttl_seconds is over {TTL_MAX_SECONDS}")
    if len(request.idempotency_key.encode()) > KEY_MAX_BYTES:
        raise CallerError(Reason.INVALID_FRAME, f"idempotency_key is over {KEY_MAX_BYTES} bytes long")
    if len(request.correlation_id) > CORRELATION_MAX:
        raise CallerError(Reason.INVALID_FRAME, f"correlation_id is over {CORRELATION_MAX} long")
