"""The blocking client. `trunkline_client.aio` has the same methods on asyncio."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from types import TracebackType
from typing import Final, Self, TypeVar

import grpc
from trunkline.v1.admin_pb2 import (
    GetCapabilitiesRequest,
    GetCapabilitiesResponse,
    ListLeasesRequest,
    ListLeasesResponse,
    ListPoolsRequest,
    ListPoolsResponse,
    ListSessionsRequest,
    ListSessionsResponse,
)
from trunkline.v1.admin_pb2_grpc import AdminServiceStub
from trunkline.v1.event_pb2 import Queued
from trunkline.v1.lease_pb2 import (
    AcquireRequest,
    AcquireResponse,
    KeepAliveRequest,
    KeepAliveResponse,
    ReleaseRequest,
    ReleaseResponse,
)
from trunkline.v1.lease_pb2_grpc import LeaseServiceStub
from trunkline.v1.session_pb2 import ConverseRequest, GetSessionRequest, GetSessionResponse
from trunkline.v1.session_pb2_grpc import SessionServiceStub

from trunkline_client import _requests, inputs
from trunkline_client._channel import call_metadata, channel_arguments, channel_credentials, stream_arguments
from trunkline_client._status import error_of
from trunkline_client._sync_call import ConverseCall, RenewalCall, make_channel, only_answer
from trunkline_client._sync_dialling import Dialler
from trunkline_client._sync_lease import Lease
from trunkline_client._sync_resumable import ResumableSession
from trunkline_client._sync_session import Session
from trunkline_client.errors import refusal
from trunkline_client.options import RESUMABLE_BY_DEFAULT, ConnectionOptions

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_DEFAULTS: Final = ConnectionOptions()


class Client:
    """One gateway, and one connection to it, for use in `with`.

    Every method raises a `TrunklineError` for what the gateway refuses, CONNECTION_LOST where there
    is none, TIMED_OUT after its deadline, NOT_OPEN outside of the block.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | Callable[[], str] = "",
        options: ConnectionOptions = _DEFAULTS,
        traceparent: Callable[[], str | None] | None = None,
    ) -> None:
        """Prepare; nothing is sent.

        Args:
            address: A gRPC target: `host:port`, `unix:PATH`, or `dns:///name:port`, where each call
                goes to the next of the name's addresses.
            token: What is shown with each call, and nowhere else; or a function that returns it,
                asked before each call. Empty = none.
            options: Deadlines, limits, TLS.
            traceparent: A function that returns the span in which a call is made, as W3C `traceparent`
                says it, asked before each call; the gateway's spans stand below it. Empty or None = none.

        Raises:
            ValueError: For plaintext to another machine, for what is no target or no token.
            OSError: For a file of `options.tls` that cannot be read.
        """
        self._address = address
        self._options = options
        self._arguments = channel_arguments(address, options)
        self._credentials = channel_credentials(address, options)
        self._metadata = call_metadata(token, traceparent)
        self._channel: grpc.Channel | None = None
        self._dialler = Dialler(address, self._channel_to, self._converse)

    def __repr__(self) -> str:
        """Show where to, never with what."""
        return f"Client({self._address!r})"

    def __enter__(self) -> Self:
        """Make the channel. It connects with the first call."""
        self._channel = make_channel(self._address, self._arguments, self._credentials)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the channel."""
        self.close()

    def close(self) -> None:
        """Close the channel; sessions that are still open are cut. A second call does nothing."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
            self._dialler.close()

    # Conversations.

    def open(  # noqa: PLR0913 - one argument for each thing that can differ between two sessions
        self,
        template: str = "",
        *,
        overrides: inputs.SessionOverrides | None = None,
        instructions: str | None = None,
        voice: str | None = None,
        correlation_id: str = "",
        metadata: Mapping[str, str] | None = None,
        history: Iterable[inputs.HistoryItem] = (),
        lease: Lease | None = None,
        lease_token: str = "",
        safety_identifier: str = "",
        greet: inputs.Greet | None = None,
        resumable: bool = RESUMABLE_BY_DEFAULT,
        wait_max_ms: int = 0,
        life_max_seconds: int = 0,
        idle_max_seconds: int = 0,
        open_timeout_seconds: float = 15.0,
        on_queued: Callable[[Queued], None] | None = None,
    ) -> Session:
        """Return a session that begins with `with`; that raises what the gateway refuses.

        `template`: empty = `default`, or the reservation's. `overrides` is what is different for this
        session: only fields that are present count, and `instructions` and `voice` win over them.
        `correlation_id` (128 characters) and `metadata` (16 marks; keys of 64, values of 512 characters)
        are your own marks, for logs and operators. `history` is what was said before, oldest first;
        `greet` makes the model speak first. `lease` is a reservation that is held, from `reserve`;
        `lease_token` that of one from `acquire`. `safety_identifier` is the hashed id of the end user,
        where the account takes one. `resumable`: the session goes on when its connection is lost, where the
        gateway serves that (`is_resumable`).
        `wait_max_ms`, `life_max_seconds`, `idle_max_seconds`: 0 = the
        gateway's own limits, which bound these too. `open_timeout_seconds` bounds everything until
        `opened`, so it should be above `wait_max_ms`. `on_queued` is called with the caller's place,
        each time it changes before `opened`.
        """
        message = _requests.open_message(
            template,
            overrides=overrides,
            instructions=instructions,
            voice=voice,
            correlation_id=correlation_id,
            metadata=metadata,
            history=history,
            lease_token=_requests.token_of(lease, lease_token),
            safety_identifier=safety_identifier,
            greet=greet,
            wait_max_ms=wait_max_ms,
            life_max_seconds=life_max_seconds,
            idle_max_seconds=idle_max_seconds,
            resumable=resumable,
        )
        opening = nullcontext if lease is None else lease._opening  # noqa: SLF001 - between the two of them
        how = (message, self._options, open_timeout_seconds, on_queued, opening)
        return ResumableSession(self._dialler, *how) if resumable else Session(self._dialler, *how)

    def get_session(self, session_id: str) -> GetSessionResponse:
        """Return what is stored of a session of one's own.

        Raises UNKNOWN_SESSION, or NOT_IMPLEMENTED_YET at a gateway that does not serve it.
        """
        stub = SessionServiceStub(self._open_channel())
        return self._ask(stub.GetSession, GetSessionRequest(session_id=session_id))

    # Reservations.

    def reserve(
        self,
        template: str = "default",
        ttl_seconds: int = 30,
        *,
        wait_max_ms: int = 0,
        correlation_id: str = "",
    ) -> Lease:
        """Return a reservation that is made with `with` and keeps itself alive there.

        For `open(lease=…)`; given back at the end of the block unless that has used it. Arguments
        and errors are those of `acquire`.
        """

        def acquire() -> AcquireResponse:
            return self.acquire(template, ttl_seconds, wait_max_ms=wait_max_ms, correlation_id=correlation_id)

        return Lease(acquire, self._renew, self._release, self._options.close_timeout_seconds)

    def acquire(
        self,
        template: str = "default",
        ttl_seconds: int = 30,
        *,
        wait_max_ms: int = 0,
        correlation_id: str = "",
        idempotency_key: str = "",
    ) -> AcquireResponse:
        """Reserve one unit of a pool, for `open(lease_token=…)` within `ttl_seconds`.

        Args:
            template: The template whose pool is asked.
            ttl_seconds: How long it lives without `keep_alive`, 1 to 300.
            wait_max_ms: How long to wait for a unit; 0 = as long as the pool allows.
            correlation_id: Your own mark, echoed in logs and admin answers.
            idempotency_key: Makes a repeated call find the same reservation; up to 64 bytes.

        Raises:
            CapacityError: When no unit came free in time; `numbers` and `retry_after_seconds` say more.
        """
        stub = LeaseServiceStub(self._open_channel())
        request = AcquireRequest(
            template=template,
            ttl_seconds=ttl_seconds,
            wait_max_ms=wait_max_ms,
            correlation_id=correlation_id,
            idempotency_key=idempotency_key,
        )
        timeout_seconds = self._options.call_timeout_seconds + wait_max_ms / 1000
        return self._ask(stub.Acquire, request, timeout_seconds)

    def keep_alive(self, lease_token: str) -> KeepAliveResponse:
        """Let a reservation live for its whole time from now on; `ttl_seconds` 0 = it has ended."""
        return only_answer(self._renew(lease_token, self._options.call_timeout_seconds))

    def release(self, lease_token: str) -> ReleaseResponse:
        """Give a reservation back. Releasing twice, or after its end, is no error."""
        return self._release(lease_token, self._options.call_timeout_seconds)

    # What operators see.

    def pools(self, pool: str = "") -> ListPoolsResponse:
        """Return the pools, or the one of this name."""
        stub = AdminServiceStub(self._open_channel())
        return self._ask(stub.ListPools, ListPoolsRequest(pool=pool))

    def leases(self, pool: str = "") -> ListLeasesResponse:
        """Return the leases and reservations, of all pools or of one."""
        stub = AdminServiceStub(self._open_channel())
        return self._ask(stub.ListLeases, ListLeasesRequest(pool=pool))

    def sessions(self, pool: str = "") -> ListSessionsResponse:
        """Return the sessions of this gateway, of all pools or of one."""
        stub = AdminServiceStub(self._open_channel())
        return self._ask(stub.ListSessions, ListSessionsRequest(pool=pool))

    def capabilities(self) -> GetCapabilitiesResponse:
        """Return what this gateway can do."""
        stub = AdminServiceStub(self._open_channel())
        return self._ask(stub.GetCapabilities, GetCapabilitiesRequest())

    # The channel.

    def _open_channel(self) -> grpc.Channel:
        if self._channel is None:
            raise refusal("NOT_OPEN", "use the client inside `with`")
        return self._channel

    def _converse(self, requests: Iterator[ConverseRequest], channel: grpc.Channel | None = None) -> ConverseCall:
        """Start a stream where all calls go, or over a channel that ends with it."""
        shared = self._open_channel()
        stub = SessionServiceStub(channel or shared)
        return stub.Converse(requests, timeout=self._options.session_timeout_seconds, metadata=self._metadata())

    def _channel_to(self, address: str, connect_seconds: float) -> grpc.Channel:
        """Return a channel for one stream."""
        self._open_channel()
        arguments = stream_arguments(address, self._options, connect_seconds, self._address)
        return make_channel(address, arguments, channel_credentials(address, self._options))

    def _renew(self, lease_token: str, timeout_seconds: float) -> RenewalCall:
        # A stream of its own for each renewal: it has a deadline, and no proxy ends it for being idle.
        stub = LeaseServiceStub(self._open_channel())
        requests = iter((KeepAliveRequest(lease_token=lease_token),))
        return stub.KeepAlive(requests, timeout=timeout_seconds, metadata=self._metadata())

    def _release(self, lease_token: str, timeout_seconds: float) -> ReleaseResponse:
        stub = LeaseServiceStub(self._open_channel())
        return self._ask(stub.Release, ReleaseRequest(lease_token=lease_token), timeout_seconds)

    def _ask(
        self,
        method: "grpc.UnaryUnaryMultiCallable[_Request, _Response]",  # generic for type checkers only
        request: _Request,
        timeout_seconds: float | None = None,
    ) -> _Response:
        seconds = timeout_seconds or self._options.call_timeout_seconds
        try:
            return method(request, timeout=seconds, metadata=self._metadata())
        except grpc.RpcError as failure:
            raise error_of(failure) from None
