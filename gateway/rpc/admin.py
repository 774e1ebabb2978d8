"""What operators see and do. Reading and writing need different rights; auth.py knows which."""

from typing import Any, TypeAlias

import grpc
from trunkline.v1 import admin_pb2

from gateway.core.errors import CallerError, Reason
from gateway.rpc import views
from gateway.rpc.parts import ServiceParts
from gateway.rpc.responses import PROTOCOL_REVISION, durability
from gateway.rpc.status import abort
from gateway.runtime.pool import WarmPool

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AdminService:
    """What operators see and do."""

    # Every method of the contract that answers; services.py knows them all.
    served: tuple[str, ...] = ()

    def __init__(self, parts: ServiceParts) -> None:
        """Serve from `parts`."""
        self._parts = parts

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
        leases = [each for pool in self._parts.named(request.pool) for each in views.leases(pool, self._parts.gateway)]
        leases.sort(key=lambda each: -each.held_ms)
        return admin_pb2.ListLeasesResponse(leases=leases)

    async def ListSessions(  # noqa: N802
        self, request: admin_pb2.ListSessionsRequest, context: _Context
    ) -> admin_pb2.ListSessionsResponse:
        """Show every session."""
        del context
        sessions = [
            views.session(session, self._parts.gateway)
            for session in self._parts.directory.sessions()
            if request.pool in ("", session.pool)
        ]
        return admin_pb2.ListSessionsResponse(sessions=sessions)

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
        pools = await self._pools(request.pool, context)
        for pool in pools:
            pool.pause()
        return admin_pb2.PausePoolResponse(pool=views.pool(pools[0], self._parts.gateway))

    async def UnpausePool(  # noqa: N802
        self, request: admin_pb2.UnpausePoolRequest, context: _Context
    ) -> admin_pb2.UnpausePoolResponse:
        """End a pause or a drain."""
        pools = await self._pools(request.pool, context)
        for pool in pools:
            pool.unpause()
        return admin_pb2.UnpausePoolResponse(pool=views.pool(pools[0], self._parts.gateway))

    async def DrainPool(  # noqa: N802
        self, request: admin_pb2.DrainPoolRequest, context: _Context
    ) -> admin_pb2.DrainPoolResponse:
        """Close a pool's idle lines and refuse new callers."""
        pools = await self._pools(request.pool, context)
        for pool in pools:
            pool.drain()
        return admin_pb2.DrainPoolResponse(pool=views.pool(pools[0], self._parts.gateway))

    async def RetireLines(  # noqa: N802
        self, request: admin_pb2.RetireLinesRequest, context: _Context
    ) -> admin_pb2.RetireLinesResponse:
        """Replace idle lines that an older template has configured."""
        pools = await self._pools(request.pool, context) if request.pool else self._parts.named("")
        current = {pool.template.version for pool in pools}
        if request.below_version and request.below_version not in current:
            text = f"no template has version {request.below_version!r} now"
            await abort(context, CallerError(Reason.INVALID_FRAME, text))
        return admin_pb2.RetireLinesResponse(retired=sum(pool.retire_others() for pool in pools))

    async def _pools(self, name: str, context: _Context) -> list[WarmPool]:
        pools = [pool for pool in self._parts.named(name) if name]
        if not pools:
            known = ", ".join(sorted({pool.name for pool in self._parts.pools.values()}))
            await abort(context, CallerError(Reason.UNKNOWN_TEMPLATE, f"no pool {name!r}; there are: {known}"))
        return pools
