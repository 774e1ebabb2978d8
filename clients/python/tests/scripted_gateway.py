"""A gateway to test against: the contract on a real socket, its behaviour by script.

A script is a generator: it reads the caller's messages from its `Conversation` and yields the
gateway's. Run as a program it serves one script until it is killed.
"""

import itertools
import os
import queue
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import grpc
from trunkline.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    lease_pb2,
    lease_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
)
from trunkline.v1.session_pb2 import ConverseRequest, ConverseResponse

from . import scripts

# What the design sets for the gateway, as far as the client can notice it.
SERVER_ARGUMENTS = [
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 100),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.bdp_probe", 0),
]


@dataclass
class Conversation:
    """One `Converse` call, as the gateway sees it."""

    requests: Iterator[ConverseRequest]
    context: grpc.ServicerContext
    received: list[ConverseRequest] = field(default_factory=list)
    # Set when the call is over, however it ended.
    over: threading.Event = field(default_factory=threading.Event)
    # Set when the stream ended by the script's own will.
    finished: bool = False

    def __iter__(self) -> Iterator[ConverseRequest]:
        for request in self.requests:
            self.received.append(request)
            yield request

    def kinds(self) -> list[str]:
        return [request.WhichOneof("message") or "" for request in self.received]

    def header(self, name: str) -> str | bytes | None:
        return dict(self.context.invocation_metadata()).get(name)


Script = Callable[[Conversation], Iterator[ConverseResponse]]


class ScriptedGateway(
    session_pb2_grpc.SessionServiceServicer,
    lease_pb2_grpc.LeaseServiceServicer,
    admin_pb2_grpc.AdminServiceServicer,
):
    """Plays `script` in every conversation, and answers the other calls in one line each."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.address = ""
        self.headers: list[str | bytes | None] = []
        self.spans: list[str | bytes | None] = []
        self.asked = threading.Event()
        self.stalled = threading.Event()
        # What happens to reservations.
        self.ttl_seconds: int | None = None
        self.refusal: tuple[str, grpc.StatusCode] | None = None
        self.renewals_hang = False
        self.renewed_at: list[float] = []
        self.released: list[str] = []
        self.conversations_begun = 0
        self._conversations: queue.Queue[Conversation] = queue.Queue()

    def conversation(self) -> Conversation:
        """Wait for the next conversation that has begun."""
        return self._conversations.get(timeout=5)

    def Converse(  # noqa: N802 - gRPC names it
        self, request_iterator: Iterator[ConverseRequest], context: grpc.ServicerContext
    ) -> Iterator[ConverseResponse]:
        conversation = Conversation(request_iterator, context)
        context.add_callback(conversation.over.set)
        self.conversations_begun += 1
        self._conversations.put(conversation)
        yield from self.script(conversation)
        conversation.finished = True

    def GetSession(  # noqa: N802
        self, request: session_pb2.GetSessionRequest, context: grpc.ServicerContext
    ) -> session_pb2.GetSessionResponse:
        self._note(context)
        if request.session_id != "s1":
            scripts.refuse(context, "UNKNOWN_SESSION", grpc.StatusCode.NOT_FOUND)
        return session_pb2.GetSessionResponse(session_id=request.session_id)

    def Acquire(  # noqa: N802
        self, request: lease_pb2.AcquireRequest, context: grpc.ServicerContext
    ) -> lease_pb2.AcquireResponse:
        self._note(context)
        return lease_pb2.AcquireResponse(
            lease_token=request.template, lease_id=request.idempotency_key or "l1", ttl_seconds=request.ttl_seconds
        )

    def KeepAlive(  # noqa: N802
        self, request_iterator: Iterator[lease_pb2.KeepAliveRequest], context: grpc.ServicerContext
    ) -> Iterator[lease_pb2.KeepAliveResponse]:
        """Answer each request by `ttl_seconds` (None = 1), unless told otherwise."""
        for request in request_iterator:
            self.renewed_at.append(time.monotonic())
            assert request.lease_token
            if self.refusal is not None:
                scripts.refuse(context, *self.refusal)
            if self.renewals_hang:
                over = threading.Event()
                if context.add_callback(over.set):
                    over.wait(10)
                return
            yield lease_pb2.KeepAliveResponse(
                lease_id="l1", ttl_seconds=1 if self.ttl_seconds is None else self.ttl_seconds
            )

    def Release(  # noqa: N802
        self, request: lease_pb2.ReleaseRequest, context: grpc.ServicerContext
    ) -> lease_pb2.ReleaseResponse:
        self._note(context)
        self.released.append(request.lease_token)
        return lease_pb2.ReleaseResponse(released=request.lease_token == "L1")

    def ListPools(  # noqa: N802
        self, request: admin_pb2.ListPoolsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListPoolsResponse:
        self._note(context)
        return admin_pb2.ListPoolsResponse(pools=[admin_pb2.Pool(name=request.pool)])

    def ListLeases(  # noqa: N802
        self, request: admin_pb2.ListLeasesRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListLeasesResponse:
        self._note(context)
        return admin_pb2.ListLeasesResponse(leases=[admin_pb2.Lease(pool=request.pool)])

    def ListSessions(  # noqa: N802
        self, request: admin_pb2.ListSessionsRequest, context: grpc.ServicerContext
    ) -> admin_pb2.ListSessionsResponse:
        self._note(context)
        return admin_pb2.ListSessionsResponse(sessions=[admin_pb2.Session(pool=request.pool)])

    def GetCapabilities(  # noqa: N802
        self, request: admin_pb2.GetCapabilitiesRequest, context: grpc.ServicerContext
    ) -> admin_pb2.GetCapabilitiesResponse:
        del request
        # The one call that never comes back: for deadlines.
        context.add_callback(self.stalled.set)
        self.asked.set()
        self.stalled.wait(10)
        return admin_pb2.GetCapabilitiesResponse(version="1")

    def _note(self, context: grpc.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata())
        self.headers.append(metadata.get("authorization"))
        self.spans.append(metadata.get("traceparent"))


@contextmanager
def serving(
    script: Script,
    credentials: grpc.ServerCredentials | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
) -> Iterator[ScriptedGateway]:
    """Serve on a free port of 20000 to 32000; stop at once afterwards."""
    # Calls that this client does not make stay as generated: not implemented.
    gateway = ScriptedGateway(script)  # type: ignore[abstract]
    port = free_port() if port is None else port
    gateway.address = f"{host}:{port}"
    # Threads that nobody joins would hold the test back: scripts end with their call.
    with ThreadPoolExecutor(max_workers=8) as pool:
        server = grpc.server(pool, options=SERVER_ARGUMENTS)
        session_pb2_grpc.add_SessionServiceServicer_to_server(gateway, server)
        lease_pb2_grpc.add_LeaseServiceServicer_to_server(gateway, server)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(gateway, server)
        if credentials is None:
            server.add_insecure_port(gateway.address)
        else:
            server.add_secure_port(gateway.address, credentials)
        server.start()
        try:
            yield gateway
        finally:
            server.stop(None).wait(5)


def _own_ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = range(30_000, 32_000)[worker % 8 :: 8]
    return itertools.cycle(random.sample(mine, len(mine)))


# Below the ephemeral range, some for each xdist worker. A port that was drawn is bound a little
# later: it comes again only after all the others.
_ports = _own_ports()


def free_port() -> int:
    """Return a port that could be bound a moment ago."""
    for port in itertools.islice(_ports, 200):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def main() -> None:
    """Serve the script of the first argument on the port of the second."""
    script: Script = getattr(scripts, sys.argv[1])
    with serving(script, port=int(sys.argv[2])):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        threading.Event().wait(60)


if __name__ == "__main__":
    main()
