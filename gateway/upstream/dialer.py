"""Opens lines: TCP, TLS, upgrade, `session.created`, configuration, `session.updated`.

A bad key can show itself only after the upgrade, so a line is ready when its configuration is
confirmed and not before. No redirects, no proxies from the environment, no compression.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohappyeyeballs
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.uri import WebSocketURI, parse_uri

from gateway.core import realtime as wire
from gateway.core.errors import DialError, Reason
from gateway.core.template import LineClass
from gateway.runtime.ports import DialTimes
from gateway.upstream import failures, openai
from gateway.upstream.account import Account
from gateway.upstream.connection import CLOSE_SECONDS, RealtimeConnection

_CONFIG_EVENT_ID: Final = "tl-warm"


@dataclass(frozen=True, slots=True)
class DialOptions:
    """Bounds of one dial and of the line that it makes."""

    # From the first packet to `session.updated`.
    deadline_seconds: float = 10.0
    message_max_bytes: int = 16 << 20
    # How many messages the library may hold before it stops reading.
    queue_max_messages: int = 64
    user_agent: str = "trunkline"


class RealtimeDialer:
    """Dials OpenAI's Realtime API, or whatever speaks like it."""

    def __init__(self, accounts: Mapping[str, Account], options: DialOptions) -> None:
        """Use the keys of `accounts`, by the name that a line class gives."""
        self._accounts = accounts
        self._options = options
        self._tls = ssl.create_default_context()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2

    async def dial(self, line: LineClass, session: dict[str, Any], times: DialTimes) -> RealtimeConnection:
        """Open a line of a class and apply `session`. Raises `DialError`, also past the deadline."""
        opened: ClientConnection | None = None
        try:
            async with asyncio.timeout(self._options.deadline_seconds):
                opened = await self._connect(line, times)
                return await self._prepare(opened, session, times)
        except BaseException as error:
            if opened is not None:
                opened.transport.abort()
            if isinstance(error, ConnectionClosed):
                end = failures.of_close(error)
                raise DialError(end.reason, end.message, upstream_code=end.upstream_code) from None
            if isinstance(error, WebSocketException | OSError):  # TimeoutError is an OSError
                raise failures.of_handshake(error) from None
            raise

    async def _connect(self, line: LineClass, times: DialTimes) -> ClientConnection:
        uri = parse_uri(openai.address(line))
        with _timed(times, "tcp"):
            tcp = await self._tcp(uri)
        with _timed(times, "tls" if uri.secure else None):
            connection = await self._websocket(uri, tcp)
        try:
            with _timed(times, "upgrade"):
                headers = openai.headers(self._accounts[line.account])
                await connection.handshake(headers, self._options.user_agent)
        except BaseException:
            connection.transport.abort()
            raise
        return connection

    async def _tcp(self, uri: WebSocketURI) -> socket.socket:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(uri.host, uri.port, type=socket.SOCK_STREAM)
        tcp = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=0.25)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return tcp

    async def _websocket(self, uri: WebSocketURI, tcp: socket.socket) -> ClientConnection:
        options = self._options

        def build() -> ClientConnection:
            protocol = ClientProtocol(uri, max_size=options.message_max_bytes)
            return ClientConnection(
                protocol,
                # The library's keepalive kills a healthy line whose reader pauses; ours does not.
                ping_interval=None,
                close_timeout=CLOSE_SECONDS,
                max_queue=options.queue_max_messages,
            )

        secure: dict[str, Any] = {}
        if uri.secure:
            secure = {"ssl": self._tls, "server_hostname": uri.host}
        try:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(build, sock=tcp, **secure)
        except BaseException:
            tcp.close()
            raise
        return connection

    async def _prepare(
        self, connection: ClientConnection, session: dict[str, Any], times: DialTimes
    ) -> RealtimeConnection:
        with _timed(times, "created"):
            created = await _expect(connection, wire.SessionCreated)
        with _timed(times, "updated"):
            await connection.send(wire.session_update(session, _CONFIG_EVENT_ID), text=True)
            await _expect(connection, wire.SessionUpdatedEvent)
        return RealtimeConnection(connection, created.session.id, _life(created.session.expires_at))


def _life(expires_at: float | None) -> float | None:
    """How long a new session has to live, in seconds; the provider's deadline is on the wall clock."""
    left = None if expires_at is None else expires_at - time.time()
    # A session that is new and has ended already: our clock is wrong, not the session.
    return left if left is not None and left > 0 else None


async def _expect(connection: ClientConnection, wanted: type[Any]) -> Any:
    """Read until the wanted event; an `error` event is a refusal, anything else is passed over."""
    while True:
        frame = await connection.recv(decode=False)
        try:
            event = wire.decode(frame)
        except ValueError:
            text = "the provider sent a message that is not JSON"
            raise DialError(Reason.UPSTREAM_UNREACHABLE, text) from None
        if isinstance(event, wanted):
            return event
        if isinstance(event, wire.ServerError):
            raise failures.of_error_event(event.error)


@contextmanager
def _timed(times: DialTimes, stage: str | None, clock: Callable[[], float] = time.perf_counter) -> Any:
    began = clock()
    yield
    if stage is not None:
        times.stages[stage] = clock() - began
