"""What operators see and do. Reading and writing need different rights; auth.py knows which."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeAlias

import grpc
import structlog
from trunkline.v1 import admin_pb2

from gateway.core.errors import CallerError, CapacityError, Reason
from gateway.core.events import ClosedReason
from gateway.core.pool_limits import PoolLimits
from gateway.core.principal import Right
from gateway.rpc import views
from gateway.rpc.auth import current_principal
from gateway.rpc.parts import ServiceParts
from gateway.rpc.responses import PROTOCOL_REVISION, durability
from gateway.rpc.status import abort
from gateway.runtime.pool import WarmPool
from gateway.runtime.session_options import Ending

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_log = structlog.get_logger(__name__)
WATCH_MS: Final = 1000
WATCH_MIN_MS: Final = 100
WATCH_MAX_MS: Final = 60_000
# Each costs the loop some milliseconds now and then.
WATCHERS_MAX: Final = 16
DRAIN_MAX_SECONDS: Final = 86_400
DETAIL_MAX: Final = 256
# What SetLimits may change: the names are the same in the contract and in the core.
_LIMITS: Final = ("floor", "ceiling", "dials_max", "waiters_max", "wait_max_ms")
_AT_MOST: Final = {"dials_max": 1000, "waiters_max": 100_000, "wait_max_ms": 3_600_000}
_AT_LEAST_ONE: Final = ("ceiling", "dials_max", "wait_max_ms")


class AdminService:
    """What operators see and do."""

    # Every method of the contract that answers; services.py knows them all.
    served: tuple[str, ...] = ()

    def __init__(self, parts: ServiceParts) -> None:
        """Serve from `parts`."""
        self._parts = parts
        self._watchers = 0

    async def ListPools(  # noqa: N802
        self, request: admin_pb2.ListPoolsRequest, context: _Context
    ) -> admin_pb2.ListPoolsResponse:
        """Show every pool."""
        del context
        pools = [views.pool(pool, self._parts.gateway) for pool in self._parts.named(request.pool)]
        return admin_pb2.ListPoolsResponse(pools=pools)

    async def ListLeases(  # noqa: N802
        self, request: admin_pb2.ListLeasesRequest, context: _Context
    ) -> admin_pb2.ListLeasesResponse:
        """Show every lease and reservation."""
        del context
        leaving = [pool for pool in self._parts.leaving() if request.pool in ("", pool.name)]
        pools = [*self._parts.named(request.pool), *leaving]
        leases = [each for pool in pools for each in views.leases(pool, self._parts.gateway)]
        leases.sort(key=lambda each: -each.held_ms)
        return admin_pb2.ListLeasesResponse(leases=leases)

    async def ListSessions(  # noqa: N802
        self, request: admin_pb2.ListSessionsRequest, context: _Context
    ) -> admin_pb2.ListSessionsResponse:
        """Show every session."""
        del context
        live = [each for each in self._parts.directory.sessions() if request.pool in ("", each.pool)]
        return admin_pb2.ListSessionsResponse(sessions=views.sessions(live, self._parts.gateway))

    async def Watch(  # noqa: N802
        self, request: admin_pb2.WatchRequest, context: _Context
    ) -> AsyncIterator[admin_pb2.WatchResponse]:
        """Show pools and sessions again and again, until the caller has seen enough."""
        interval_ms = request.interval_ms or WATCH_MS
        if not WATCH_MIN_MS <= interval_ms <= WATCH_MAX_MS:
            text = f"interval_ms must be {WATCH_MIN_MS} to {WATCH_MAX_MS}, not {interval_ms}"
            await abort(context, CallerError(Reason.INVALID_FRAME, text))
        if self._watchers >= WATCHERS_MAX:
            await abort(context, CapacityError(Reason.RATE_LIMITED, f"{WATCHERS_MAX} watch already"))
        self._watchers += 1
        try:
            async for shown in self._shown(context, interval_ms / 1000):
                yield shown
        finally:
            self._watchers -= 1

    async def _shown(self, context: _Context, interval_seconds: float) -> AsyncIterator[admin_pb2.WatchResponse]:
        gateway, principal = self._parts.gateway, current_principal()
        while True:
            if not self._parts.knows(principal, Right.READ):
                text = "the caller's credentials have been taken away"
                await abort(context, CallerError(Reason.UNAUTHENTICATED, text))
            yield admin_pb2.WatchResponse(
                pools=[views.pool(pool, gateway) for pool in self._parts.named("")],
                sessions=views.sessions(self._parts.directory.sessions(), gateway),
            )
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_seconds):
                    await self._parts.emptied.wait()
                    return

    async def GetCapabilities(  # noqa: N802
        self, request: admin_pb2.GetCapabilitiesRequest, context: _Context
    ) -> admin_pb2.GetCapabilitiesResponse:
        """Tell what this gateway can do."""
        del request, context
        return admin_pb2.GetCapabilitiesResponse(
            version=self._parts.version,
            protocol_revision=PROTOCOL_REVISION,
            methods=self.served,
            durability=durability(self._parts.durability()),
            templates=[template.name for template in self._parts.templates()],
        )

    async def PausePool(  # noqa: N802
        self, request: admin_pb2.PausePoolRequest, context: _Context
    ) -> admin_pb2.PausePoolResponse:
        """Refuse new callers of a pool."""
        return admin_pb2.PausePoolResponse(pool=await self._change(request.pool, context, WarmPool.pause))

    async def UnpausePool(  # noqa: N802
        self, request: admin_pb2.UnpausePoolRequest, context: _Context
    ) -> admin_pb2.UnpausePoolResponse:
        """End a pause or a drain."""
        return admin_pb2.UnpausePoolResponse(pool=await self._change(request.pool, context, WarmPool.unpause))

    async def DrainPool(  # noqa: N802
        self, request: admin_pb2.DrainPoolRequest, context: _Context
    ) -> admin_pb2.DrainPoolResponse:
        """Close a pool's idle lines and refuse new callers."""
        return admin_pb2.DrainPoolResponse(pool=await self._change(request.pool, context, WarmPool.drain))

    async def SetLimits(  # noqa: N802
        self, request: admin_pb2.SetLimitsRequest, context: _Context
    ) -> admin_pb2.SetLimitsResponse:
        """Change a pool's bounds until the next start."""
        given = {name: getattr(request, name) for name in _LIMITS if request.HasField(name)}
        pools = await self._pools(request.pool, context)
        limits = replace(pools[0].limits, **given)
        account = pools[0].template.line_class.account
        if (wrong := _wrong(limits, self._parts.lines_max[account])) is not None:
            await abort(context, CallerError(Reason.INVALID_FRAME, wrong))
        for pool in pools:
            pool.set_limits(replace(pool.limits, **given))
        self._note("limits", pool=request.pool, **given)
        return admin_pb2.SetLimitsResponse(pool=views.whole(pools, self._parts.gateway))

    async def DrainGateway(  # noqa: N802
        self, request: admin_pb2.DrainGatewayRequest, context: _Context
    ) -> admin_pb2.DrainGatewayResponse:
        """Refuse new sessions, let the running ones finish, then end the process."""
        seconds = request.deadline_seconds or self._parts.drain_seconds
        if seconds > DRAIN_MAX_SECONDS:
            text = f"deadline_seconds must be at most {DRAIN_MAX_SECONDS}"
            await abort(context, CallerError(Reason.INVALID_FRAME, text))
        running = len(self._parts.directory.sessions())
        self._note("drain_gateway", seconds=seconds)
        self._parts.drain(seconds)
        return admin_pb2.DrainGatewayResponse(sessions=running)

    async def KillSession(  # noqa: N802
        self, request: admin_pb2.KillSessionRequest, context: _Context
    ) -> admin_pb2.KillSessionResponse:
        """End one session; its caller is told why."""
        detail = request.reason
        if len(detail) > DETAIL_MAX or not detail.isprintable():
            text = f"reason must be up to {DETAIL_MAX} printable characters"
            await abort(context, CallerError(Reason.INVALID_FRAME, text))
        session = self._parts.directory.find(request.session_id)
        killed = session is not None and session.end(Ending(ClosedReason.KILLED, detail=detail))
        if killed:
            self._note("kill", session_id=request.session_id, detail=detail)
        return admin_pb2.KillSessionResponse(killed=killed)

    async def RetireLines(  # noqa: N802
        self, request: admin_pb2.RetireLinesRequest, context: _Context
    ) -> admin_pb2.RetireLinesResponse:
        """Replace idle lines that an older template has configured."""
        pools = await self._pools(request.pool, context) if request.pool else self._parts.named("")
        current = {pool.template.version for pool in pools}
        if request.below_version and request.below_version not in current:
            text = f"no template has version {request.below_version!r} now"
            await abort(context, CallerError(Reason.INVALID_FRAME, text))
        chosen = [pool for pool in pools if request.below_version in ("", pool.template.version)]
        retired = sum(pool.retire_outdated() for pool in chosen)
        self._note("retire", pool=request.pool, count=retired)
        return admin_pb2.RetireLinesResponse(retired=retired)

    async def _change(self, name: str, context: _Context, act: Callable[[WarmPool], None]) -> admin_pb2.Pool:
        pools = await self._pools(name, context)
        for pool in pools:
            act(pool)
        self._note(act.__name__, pool=name)
        return views.whole(pools, self._parts.gateway)

    async def _pools(self, name: str, context: _Context) -> list[WarmPool]:
        pools = [pool for pool in self._parts.named(name) if name]
        if not pools:
            known = ", ".join(sorted({pool.name for pool in self._parts.pools.values()}))
            await abort(context, CallerError(Reason.UNKNOWN_TEMPLATE, f"no pool {name!r}; there are: {known}"))
        return pools

    @staticmethod
    def _note(command: str, **fields: object) -> None:
        """Leave a trace of what an operator did."""
        principal = current_principal()
        _log.info("operator", command=command, tenant=principal.tenant, caller=principal.caller, **fields)


def _wrong(limits: PoolLimits, lines_max: int) -> str | None:
    for name in _AT_LEAST_ONE:
        if getattr(limits, name) < 1:
            return f"{name} must be at least 1"
    for name, most in _AT_MOST.items():
        if getattr(limits, name) > most:
            return f"{name} must be at most {most}"
    if limits.ceiling > lines_max:
        return f"ceiling {limits.ceiling} is over the {lines_max} connections_max of its account"
    if limits.floor + limits.reserve > limits.ceiling:
        return f"floor {limits.floor} + reserve {limits.reserve} is over ceiling {limits.ceiling}"
    return None
