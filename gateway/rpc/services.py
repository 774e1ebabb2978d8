"""The contract's services: each method is one step from the wire to the runtime."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from trunkline.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    lease_pb2,
    lease_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    speech_pb2,
    speech_pb2_grpc,
)

from gateway.core.events import Durability
from gateway.core.template import Template
from gateway.rpc import views
from gateway.rpc.auth import current_principal
from gateway.rpc.responses import PROTOCOL_REVISION, durability
from gateway.rpc.status import abort
from gateway.rpc.stream import Context, GrpcStream
from gateway.rpc.unserved import fill_unserved
from gateway.runtime.directory import Directory
from gateway.runtime.pool import WarmPool


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """What the services reach."""

    directory: Directory
    pools: Mapping[str, WarmPool]
    gateway: str
    version: str
    message_max_bytes: int
    durability: Callable[[], Durability]

    def templates(self) -> list[Template]:
        """Every template, by name."""
        return [self.pools[name].template for name in sorted(self.pools)]


class SessionService:
    """Conversations. No cleanup lives here: the session's owner does it."""

    def __init__(self, parts: ServiceParts) -> None:
        """Serve from `parts`."""
        self._parts = parts

    async def Converse(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """Run one session on this call."""
        del request_iterator  # read() and write() cost less and need no queue
        stream = GrpcStream(context, current_principal(), self._parts.message_max_bytes)
        error = await self._parts.directory.serve(stream)
        if error is not None:
            await abort(context, error)


class LeaseService:
    """Reservations."""

    def __init__(self, parts: ServiceParts) -> None:
        """Serve from `parts`."""
        self._parts = parts


class SpeechService:
    """Text to speech."""

    def __init__(self, parts: ServiceParts) -> None:
        """Serve from `parts`."""
        self._parts = parts


_Admin: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class AdminService:
    """What operators see and do."""

    def __init__(self, parts: ServiceParts) -> None:
        """Serve from `parts`."""
        self._parts = parts

    async def ListPools(  # noqa: N802
        self, request: admin_pb2.ListPoolsRequest, context: _Admin
    ) -> admin_pb2.ListPoolsResponse:
        """Show every pool."""
        del context
        pools = [
            views.pool(self._parts.pools[name], self._parts.gateway)
            for name in sorted(self._parts.pools)
            if request.pool in ("", name)
        ]
        return admin_pb2.ListPoolsResponse(pools=pools)

    async def ListLeases(  # noqa: N802
        self, request: admin_pb2.ListLeasesRequest, context: _Admin
    ) -> admin_pb2.ListLeasesResponse:
        """Show every lease."""
        del context
        leases = [
            views.lease(session, session.line, self._parts.gateway)
            for session in self._parts.directory.sessions()
            if session.line is not None and request.pool in ("", session.request.template)
        ]
        return admin_pb2.ListLeasesResponse(leases=leases)

    async def ListSessions(  # noqa: N802
        self, request: admin_pb2.ListSessionsRequest, context: _Admin
    ) -> admin_pb2.ListSessionsResponse:
        """Show every session."""
        del context
        sessions = [
            views.session(session, self._parts.gateway)
            for session in self._parts.directory.sessions()
            if request.pool in ("", session.request.template)
        ]
        return admin_pb2.ListSessionsResponse(sessions=sessions)

    async def GetCapabilities(  # noqa: N802
        self, request: admin_pb2.GetCapabilitiesRequest, context: _Admin
    ) -> admin_pb2.GetCapabilitiesResponse:
        """Tell what this gateway can do."""
        del request, context
        return admin_pb2.GetCapabilitiesResponse(
            version=self._parts.version,
            protocol_revision=PROTOCOL_REVISION,
            methods=SERVED,
            durability=durability(self._parts.durability()),
            templates=[template.name for template in self._parts.templates()],
        )


# The generated base classes are left aside: theirs answer a missing method without a reason.
_SERVICES: tuple[tuple[Callable[[ServiceParts], Any], ServiceDescriptor, Callable[..., None]], ...] = (
    (
        SessionService,
        session_pb2.DESCRIPTOR.services_by_name["SessionService"],
        session_pb2_grpc.add_SessionServiceServicer_to_server,
    ),
    (
        LeaseService,
        lease_pb2.DESCRIPTOR.services_by_name["LeaseService"],
        lease_pb2_grpc.add_LeaseServiceServicer_to_server,
    ),
    (
        SpeechService,
        speech_pb2.DESCRIPTOR.services_by_name["SpeechService"],
        speech_pb2_grpc.add_SpeechServiceServicer_to_server,
    ),
    (
        AdminService,
        admin_pb2.DESCRIPTOR.services_by_name["AdminService"],
        admin_pb2_grpc.add_AdminServiceServicer_to_server,
    ),
)
SERVED = tuple(method for service, descriptor, _ in _SERVICES for method in fill_unserved(service, descriptor))
SERVICE_NAMES = tuple(descriptor.full_name for _, descriptor, _ in _SERVICES)


def add_services(server: grpc.aio.Server, parts: ServiceParts) -> None:
    """Put every service of the contract on a server."""
    for service, _, add in _SERVICES:
        add(service(parts), server)
