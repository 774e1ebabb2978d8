"""The ops address: `/metrics`, `/livez`, `/readyz`. Read-only, always; writes are gRPC.

It stands on aiohttp's protocol without its application layer: three paths need no router, and this
way even an answer to garbage is ours. It names no versions, and not what went wrong inside.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self, cast

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gateway.telemetry.health import Health
from gateway.telemetry.metrics import Metrics

_READ_METHODS: Final = ("GET", "HEAD")
_PORT_MAX: Final = 65_535
_STOP_SECONDS: Final = 1.0
# A name without versions: left out, aiohttp would fill in its own and Python's.
_HEADERS: Final = {
    "Server": "trunkline",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
_log = structlog.get_logger(__name__)


class ListenError(Exception):
    """The ops address cannot be listened on; the sentence names it and says why."""


@dataclass(frozen=True, slots=True)
class OpsOptions:
    """Where to listen, and what one client may take.

    address: host:port, [v6]:port, or :port for all interfaces; a port is always named.
    connection_life_seconds: bounds everything slow: request, answer, idleness.
    """

    address: str = "127.0.0.1:9464"
    connections_max: int = 64
    connection_life_seconds: float = 10.0
    header_max_bytes: int = 4096
    headers_max: int = 32

    def __post_init__(self) -> None:
        """Refuse an address that could only fail later. Raises ValueError."""
        _, port = self.host_and_port
        if ":" not in self.address or not 0 < port <= _PORT_MAX:
            message = f"{self.address!r} is no host:port with a port of 1 to {_PORT_MAX}"
            raise ValueError(message)

    @property
    def host_and_port(self) -> tuple[str | None, int]:
        """Return the address in two parts; host None = all interfaces."""
        host, _, port = self.address.rpartition(":")
        return host.removeprefix("[").removesuffix("]") or None, int(port) if port.isdigit() else 0


class OpsServer:
    """Listens while entered."""

    def __init__(self, options: OpsOptions, metrics: Metrics, health: Health) -> None:
        """Wire the parts; nothing listens before `async with`."""
        self._options = options
        self._metrics = metrics
        self._health = health
        self._pages: dict[str, Callable[[web.BaseRequest], Awaitable[web.Response]]] = {
            "/metrics": self._show_metrics,
            "/livez": self._show_alive,
            "/readyz": self._show_ready,
        }
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        """Listen. Raises `ListenError`."""
        server = _Server(self._answer, self._options)
        self._runner = web.ServerRunner(server, shutdown_timeout=_STOP_SECONDS)
        await self._runner.setup()
        host, port = self._options.host_and_port
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            # Without asyncio's own sentence around it; a name that is not found has no such number.
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror
            message = f"cannot listen on ops address {self._options.address}: {why}"
            raise ListenError(message) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening and cut what is open, within a second."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.method not in _READ_METHODS:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": ", ".join(_READ_METHODS)})
        page = self._pages.get(request.path)
        return _plain(HTTPStatus.NOT_FOUND) if page is None else await page(request)

    async def _show_metrics(self, request: web.BaseRequest) -> web.Response:
        kind, parts = self._metrics.exposition(request.headers.get("Accept", ""))
        body = bytearray()
        for part in parts:
            body += part
            await asyncio.sleep(0)  # a thousand series take 7 ms: audio shall not wait for them
        return _response(HTTPStatus.OK, bytes(body), {"Content-Type": kind})

    async def _show_alive(self, _request: web.BaseRequest) -> web.Response:
        alive = self._health.alive(time.monotonic())
        return _json({"alive": alive}, ok=alive)

    async def _show_ready(self, _request: web.BaseRequest) -> web.Response:
        now = time.monotonic()
        return _json(self._health.report(now), ok=self._health.ready(now))


class _Server(web.Server):
    """Makes bounded connections."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.Response]], options: OpsOptions) -> None:
        super().__init__(answer)
        self._options = options

    def __call__(self) -> RequestHandler:
        return _Connection(self, self._options)


class _Connection(RequestHandler):
    """One client, for a limited time, whatever it does or leaves undone."""

    __slots__ = ("_end", "_options")

    def __init__(self, server: _Server, options: OpsOptions) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None is aiohttp's documented "off"
            max_line_size=options.header_max_bytes,
            max_field_size=options.header_max_bytes,
            max_headers=options.headers_max,
            lingering_time=0,
        )
        self._options = options
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # uvloop's transports do not inherit from asyncio's: to ask for the class would fail there.
        abort = cast("asyncio.Transport", transport).abort
        life = self._options.connection_life_seconds
        self._end = asyncio.get_running_loop().call_later(life, abort)
        manager = self._manager
        if manager is not None and len(manager.connections) > self._options.connections_max:
            abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's text quotes what the client sent
    ) -> web.Response:
        """Answer with the bare status; what a client sent is no line in our log."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            _log.error("ops_page_failed", method=request.method, exc_info=exc)
        return _plain(HTTPStatus(status))


def _json(body: dict[str, object], *, ok: bool) -> web.Response:
    status = HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE
    return _response(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


def _plain(status: HTTPStatus, headers: dict[str, str] | None = None) -> web.Response:
    kind = {"Content-Type": "text/plain; charset=utf-8"}
    return _response(status, f"{status.phrase}\n".encode(), {**kind, **(headers or {})})


def _response(status: HTTPStatus, body: bytes, headers: dict[str, str]) -> web.Response:
    response = web.Response(status=status, body=body, headers={**_HEADERS, **headers})
    response.force_close()
    return response
