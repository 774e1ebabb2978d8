"""The contract's services: each method is one step from the wire to the runtime."""

import asyncio
from collections.abc import Callable
from typing import Any

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

from gateway.core.errors import GatewayError
from gateway.rpc.admin import AdminService
from gateway.rpc.auth import current_principal
from gateway.rpc.leases import LeaseService
from gateway.rpc.parts import ServiceParts
from gateway.rpc.status import abort
from gateway.rpc.stored import stored_session
from gateway.rpc.stream import Context, GrpcStream
from gateway.rpc.unserved import fill_unserved


class SessionService:
    """Conversations. No cleanup lives here: the session's owner does it."""

    def __init__(self, parts: ServiceParts) -> None:
        """Serve from `parts`."""
        self._parts = parts
        self._reading = asyncio.Semaphore(1)

    async def Converse(self, request_iterator: Any, context: Context) -> None:  # noqa: N802
        """Run one session on this call."""
        del request_iterator  # read() and write() cost less and need no queue
        stream = GrpcStream(context, current_principal(), self._parts.message_max_bytes)
        try:
            error = await self._parts.directory.serve(stream)
            if error is None:
                await stream.end()
        except asyncio.CancelledError:
            stream.leave()
            raise
        if error is not None:
            # Its frames hold the whole session, and a caller that does not read may let `abort` wait for long.
            error.__traceback__ = error.__context__ = error.__cause__ = None
            await abort(context, error)

    async def GetSession(  # noqa: N802
        self, request: session_pb2.GetSessionRequest, context: Context
    ) -> session_pb2.GetSessionResponse:
        """Tell what is stored of a session, to the caller that owns it."""
        try:
            async with self._reading:  # a long log costs the loop some milliseconds
                return await stored_session(self._parts, request.session_id, current_principal())
        except GatewayError as error:
            await abort(context, error)


class SpeechService:
    """Text to speech."""

    def __init__(self, parts: ServiceParts) -> None:
        """Serve from `parts`."""
        self._parts = parts


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
AdminService.served = SERVED
SERVICE_NAMES = tuple(descriptor.full_name for _, descriptor, _ in _SERVICES)


def add_services(server: grpc.aio.Server, parts: ServiceParts) -> None:
    """Put every service of the contract on a server."""
    for service, _, add in _SERVICES:
        add(service(parts), server)
