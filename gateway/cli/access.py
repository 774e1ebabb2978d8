"""How the commands reach a gateway: address, token and TLS. The one file that makes clients and speaks gRPC."""

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import grpc
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import aio
from grpc_status import rpc_status
from trunkline.v1 import admin_pb2 as admin
from trunkline.v1.admin_pb2_grpc import AdminServiceStub
from trunkline_client import AsyncClient, ConnectionOptions, TlsOptions

from gateway.cli.addresses import Endpoint, is_here, parts
from gateway.cli.failure import CommandError, RefusedError

if TYPE_CHECKING:
    from trunkline.v1.admin_pb2_grpc import AdminServiceAsyncStub

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

ASK_SECONDS: Final = 10.0
# A watch that lasts longer is begun anew.
_WATCH_SECONDS: Final = 86_400.0
# How much later than announced the next news of a watch may come.
_SILENCE_SECONDS: Final = 5.0
_CONNECT_MS: Final = 5000
# All sessions of a gateway come in one answer: about 400 bytes each.
_ANSWER_MAX_BYTES: Final = 64 * 1024 * 1024
# Nobody of ours spoke: the gateway is away, or says nothing in time.
_BARE: Final = {grpc.StatusCode.UNAVAILABLE: "CONNECTION_LOST", grpc.StatusCode.DEADLINE_EXCEEDED: "TIMED_OUT"}


@dataclass(frozen=True, slots=True)
class Access:
    """Where gateways are, and what is shown to them. The token never stands in argv."""

    address: str
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None

    def check(self) -> None:
        """Raise `CommandError` when this cannot be used, whoever is asked."""
        for part in parts(self.address):
            self.operator(Endpoint(part))

    def client(self) -> AsyncClient:
        """Make a client for calls. Raises `CommandError`."""
        self.check()
        if len(parts(self.address)) > 1:
            raise CommandError(f"--address {self.address}: calls go to one gateway; name one")
        authority, certificate, key = (
            None if file is None else str(file) for file in (self.ca_file, self.cert_file, self.key_file)
        )
        tls = TlsOptions(authority, certificate, key, self.server_name) if authority else None
        return AsyncClient(self.address, token=self._token(), options=ConnectionOptions(tls=tls))

    def operator(self, endpoint: Endpoint) -> "Operator":
        """Prepare to ask one gateway. Raises `CommandError`."""
        if (self.cert_file is None) != (self.key_file is None):
            raise CommandError("--cert-file and --key-file belong together: give both or none")
        if self.ca_file is None and (self.cert_file or self.server_name):
            raise CommandError("without --ca-file there is no TLS: give it, too")
        if self.ca_file is None and not is_here(endpoint.address):
            raise CommandError(f"{endpoint.address} is not this machine: give --ca-file, for a token needs TLS")
        # A gateway that was found by a name has a certificate for the name.
        return Operator(endpoint.address, self._credentials(), self._token(), self.server_name or endpoint.name)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        if self.ca_file is None:
            return None
        authority, certificate, key = (
            _content(option, file)
            for option, file in (
                ("--ca-file", self.ca_file),
                ("--cert-file", self.cert_file),
                ("--key-file", self.key_file),
            )
        )
        self._check_pem(self.ca_file)
        return grpc.ssl_channel_credentials(authority, key, certificate)

    def _check_pem(self, ca_file: Path) -> None:
        """Raise `CommandError` for files that gRPC would only say of that it cannot shake hands."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(ca_file)
        except ssl.SSLError:
            raise CommandError(f"--ca-file {ca_file} holds no certificate in PEM") from None
        if self.cert_file is None:
            return
        try:
            context.load_cert_chain(self.cert_file, self.key_file, password="")
        except (ssl.SSLError, ValueError):
            files = f"{self.cert_file} and {self.key_file}"
            raise CommandError(f"{files} are no certificate and its key in PEM, without a password") from None

    def _token(self) -> str:
        token = os.environ.get("TRUNKLINE_TOKEN", "")
        if self.token_file is not None:
            token = (_content("--token-file", self.token_file) or b"").decode("utf-8", "replace").strip()
        # gRPC would refuse it too, but with the whole header in its message.
        if not token.isascii() or not token.isprintable() or " " in token:
            raise CommandError("the token holds characters that no token has (a line end in TRUNKLINE_TOKEN?)")
        return token


def _content(option: str, file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError(f"{option} {file} cannot be read: {error.strerror}") from None


class Operator:
    """What operators ask one gateway, in `async with`. Everything raises `RefusedError`, and has a deadline."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None, token: str, server_name: str) -> None:
        """Prepare; nothing is sent. An empty `server_name` is the address's own."""
        self._address = address
        self._credentials = credentials
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._arguments: list[tuple[str, int | str]] = [
            ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
            ("grpc.max_receive_message_length", _ANSWER_MAX_BYTES),
            ("grpc.enable_retries", 0),
        ]
        if is_here(address):
            # A proxy variable of the machine must not send loopback traffic away.
            self._arguments.append(("grpc.enable_http_proxy", 0))
        if server_name and credentials is not None:
            self._arguments.append(("grpc.ssl_target_name_override", server_name))

    async def __aenter__(self) -> Self:
        """Make the channel. It connects with the first question."""
        if self._credentials is None:
            self._channel = aio.insecure_channel(self._address, self._arguments)
        else:
            self._channel = aio.secure_channel(self._address, self._credentials, self._arguments)
        self._stub: AdminServiceAsyncStub = AdminServiceStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the channel."""
        await self._channel.close()

    async def pools(self) -> admin.ListPoolsResponse:
        """Return the pools."""
        return await self._ask(self._stub.ListPools, admin.ListPoolsRequest())

    async def leases(self) -> admin.ListLeasesResponse:
        """Return the leases and reservations."""
        return await self._ask(self._stub.ListLeases, admin.ListLeasesRequest())

    async def sessions(self) -> admin.ListSessionsResponse:
        """Return the sessions."""
        return await self._ask(self._stub.ListSessions, admin.ListSessionsRequest())

    async def capabilities(self) -> admin.GetCapabilitiesResponse:
        """Return what the gateway can do."""
        return await self._ask(self._stub.GetCapabilities, admin.GetCapabilitiesRequest())

    async def pause(self, pool: str) -> admin.PausePoolResponse:
        """Refuse new callers of a pool."""
        return await self._ask(self._stub.PausePool, admin.PausePoolRequest(pool=pool))

    async def unpause(self, pool: str) -> admin.UnpausePoolResponse:
        """End a pause or a drain of a pool."""
        return await self._ask(self._stub.UnpausePool, admin.UnpausePoolRequest(pool=pool))

    async def drain_pool(self, pool: str) -> admin.DrainPoolResponse:
        """Close a pool's idle lines and refuse new callers."""
        return await self._ask(self._stub.DrainPool, admin.DrainPoolRequest(pool=pool))

    async def drain_gateway(self, deadline_seconds: int) -> admin.DrainGatewayResponse:
        """Make the gateway ready to stop; 0 = its own deadline."""
        request = admin.DrainGatewayRequest(deadline_seconds=deadline_seconds)
        return await self._ask(self._stub.DrainGateway, request)

    async def retire(self, pool: str, below_version: str) -> admin.RetireLinesResponse:
        """Replace idle lines of a pool, or of all, that an older template has configured."""
        request = admin.RetireLinesRequest(pool=pool, below_version=below_version)
        return await self._ask(self._stub.RetireLines, request)

    async def kill(self, session_id: str, reason: str) -> admin.KillSessionResponse:
        """End one session."""
        request = admin.KillSessionRequest(session_id=session_id, reason=reason)
        return await self._ask(self._stub.KillSession, request)

    async def set_limits(self, limits: admin.SetLimitsRequest) -> admin.SetLimitsResponse:
        """Change a pool's limits until the next start."""
        return await self._ask(self._stub.SetLimits, limits)

    async def watch(self, interval_ms: int) -> AsyncGenerator[admin.WatchResponse, None]:
        """Yield what there is, again and again. Close it in the task that reads it."""
        request = admin.WatchRequest(interval_ms=interval_ms)
        call = self._stub.Watch(request, timeout=_WATCH_SECONDS, metadata=self._metadata)
        shown = call.__aiter__()
        try:
            while True:
                async with asyncio.timeout(interval_ms / 1000 + _SILENCE_SECONDS):
                    news = await anext(shown, None)
                if news is None:
                    return
                yield news
        except aio.AioRpcError as failure:
            raise _refusal(failure) from None
        except TimeoutError:
            raise RefusedError("TIMED_OUT", "the gateway has stopped telling news") from None
        finally:
            call.cancel()

    async def _ask(self, method: aio.UnaryUnaryMultiCallable[_Request, _Response], request: _Request) -> _Response:
        try:
            return await method(request, timeout=ASK_SECONDS, metadata=self._metadata)
        except aio.AioRpcError as failure:
            raise _refusal(failure) from None


def _refusal(failure: aio.AioRpcError) -> RefusedError:
    """Take the reason from the details of a status; a proxy or gRPC itself gives none."""
    reason = _BARE.get(failure.code(), failure.code().name)
    try:
        status = rpc_status.from_call(failure)
    except ValueError:
        status = None
    for detail in status.details if status is not None else ():
        info = ErrorInfo()
        if detail.Unpack(info):
            reason = info.reason
    # What gRPC says before these words is the same for every cause.
    message = (failure.details() or "the gateway gave no message").rpartition("last error: ")[2]
    return RefusedError(reason, message)
