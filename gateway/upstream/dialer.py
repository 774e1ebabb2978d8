"""Opens lines: TCP, TLS, upgrade, `session.created`, configuration, `session.updated`.

A bad key can show itself only after the upgrade, so a line is ready when its configuration is
confirmed and not before; a bare one, when its session was created. No redirects, no proxies from the
environment, no compression. Dials share nothing that one of them could hold.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohappyeyeballs
from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.uri import WebSocketURI, parse_uri

from gateway.core import realtime as wire
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
    # From the upgrade to `session.created`.
    created_seconds: float = 5.0
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

    async def dial(
        self, line: LineClass, session: dict[str, Any] | None, times: DialTimes, safety_identifier: str = ""
    ) -> RealtimeConnection:
        """Open a line of a class and apply `session`. Raises `DialError`, also past the deadline.

        None = a bare line: ready once its session was created, and configured by whoever gets it. A safety
        identifier stays with the line for its life.
        """
        account = self._accounts[line.account]
        headers, hide = openai.headers(account, safety_identifier), account.key.hide
        stage = _Stages(times)
        opened: ClientConnection | None = None
        try:
            async with asyncio.timeout(self._options.deadline_seconds) as deadline:
                opened = await self._connect(line, headers, stage)
                return await self._prepare(opened, session, stage, hide)
        except BaseException as error:
            if opened is not None:
                opened.transport.abort()
            if isinstance(error, TimeoutError) and deadline.expired():
                raise failures.of_deadline(stage.name, self._options.deadline_seconds) from None
            if isinstance(error, WebSocketException | OSError):
                raise failures.of_dial(error, time.time(), hide) from None
            raise

    async def _connect(self, line: LineClass, headers: dict[str, str], stage: "_Stages") -> ClientConnection:
        uri = parse_uri(openai.address(line))
        with stage("tcp"):
            tcp = await self._tcp(uri)
        if uri.secure:
            with stage("tls"):
                connection = await self._websocket(uri, tcp)
        else:
            connection = await self._websocket(uri, tcp)
        try:
            with stage("upgrade"):
                await connection.handshake(headers, self._options.user_agent)
        except BaseException:
            connection.transport.abort()
            raise
        return connection

    async def _tcp(self, uri: WebSocketURI) -> socket.socket:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(uri.host, uri.port, type=socket.SOCK_STREAM)
        return await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=0.25)

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
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(build, sock=tcp, **secure)
        except BaseException:
            tcp.close()
            raise
        return connection

    async def _prepare(
        self, connection: ClientConnection, session: dict[str, Any] | None, stage: "_Stages", hide: failures.Hide
    ) -> RealtimeConnection:
        seconds = self._options.created_seconds
        try:
            with stage("created"):
                async with asyncio.timeout(seconds) as deadline:
                    created = await _expect(connection, wire.SessionCreated, hide)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise failures.of_deadline("created", seconds) from None
        if session is not None:
            with stage("updated"):
                await connection.send(wire.session_update(session, _CONFIG_EVENT_ID), text=True)
                await _expect(connection, wire.SessionUpdatedEvent, hide)
        return RealtimeConnection(connection, created.session.id, _life(created.session.expires_at), hide)


def _life(expires_at: float | None) -> float | None:
    """How long a new session has to live, in seconds; the provider's deadline is on the wall clock."""
    left = None if expires_at is None else expires_at - time.time()
    # A session that is new and has ended already: our clock is wrong, not the session.
    return left if left is not None and left > 0 else None


async def _expect(connection: ClientConnection, wanted: type[Any], hide: failures.Hide) -> Any:
    """Read until the wanted event; an `error` event that concerns the dial is a refusal, the rest is passed over."""
    while True:
        frame = await connection.recv(decode=False)
        try:
            event = wire.decode(frame)
        except (ValueError, RecursionError):  # JSON may nest deeper than the decoder goes
            raise failures.of_garbage() from None
        if isinstance(event, wanted):
            return event
        if isinstance(event, wire.ServerError) and failures.refuses(event.error, _CONFIG_EVENT_ID):
            raise failures.of_error_event(event.error, hide)


class _Stages:
    """Where a dial is, and how long each stage took that ended."""

    def __init__(self, times: DialTimes) -> None:
        self.name = "tcp"
        self._times = times

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.name = name
        began = time.perf_counter()
        yield
        self._times.stages[name] = time.perf_counter() - began
