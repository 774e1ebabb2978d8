"""The simulator as a server: the handshake of the Realtime API, start and stop."""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from gateway.simulator.committed import CommittedTurns
from gateway.simulator.connection import GOING_AWAY, Connection
from gateway.simulator.control import Control
from gateway.simulator.faults import ActiveFaults, Drawn, Fault, Scope
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.totals import Totals

REALTIME_PATH: Final = "/v1/realtime"

_MESSAGE_MAX_BYTES: Final = 32 * 1024 * 1024
_CLOSED_KEPT: Final = 1_000
# Many open at once: beyond the usual 128 a dial is dropped by the kernel and comes again a second later.
_BACKLOG: Final = 2_048
_STOP_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 0.5
_CALLER_GONE: Final = 499
_BETA_CLOSE_CODE: Final = 4000
_BETA_REASON: Final = "invalid_request_error.beta_api_shape_disabled"
_KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."
# How the service words a refused upgrade.
_REFUSALS: Final = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: (
        "invalid_request_error",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests"),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "The engine is currently overloaded, please try again later"),
}


class Simulator:
    """A Realtime API on a plain socket. `async with Simulator(options)`, or `start` and `stop`."""

    def __init__(self, options: SimulatorOptions) -> None:
        """Nothing listens yet."""
        self.options = options
        self._open = dict[Connection, None]()  # in the order they came
        self._closed = deque[dict[str, object]](maxlen=_CLOSED_KEPT)
        self._totals = Totals()
        self._committed = CommittedTurns(options.keep_committed)
        self._faults = ActiveFaults(options.faults, options.seed)
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where a Realtime client connects, without the model."""
        return f"ws://{self.options.host}:{self.options.port}{REALTIME_PATH}"

    @property
    def control_url(self) -> str:
        """Where the `/_sim` endpoints stand."""
        return f"http://{self.options.host}:{self.options.port}/_sim"

    def connections(self) -> list[dict[str, object]]:
        """Return the sockets that are open, and the last thousand that were."""
        return [*self._closed, *(each.describe() for each in self._open)]

    def observe(self) -> dict[str, object]:
        """Return what `GET /_sim/connections` tells: the sockets, `totals` since the start, times of `handshakes`."""
        return {"connections": self.connections(), **self._totals.describe()}

    def committed(self) -> dict[str, object]:
        """Return what `GET /_sim/committed` tells: the newest turns that became items, and how many are left out."""
        return self._committed.describe()

    def faults(self) -> dict[str, object]:
        """Return what `GET /_sim/faults` tells: the active set, and how many sockets have got each."""
        return self._faults.describe()

    def set_faults(self, faults: Iterable[Fault], scope: Scope = Scope.NEW) -> None:
        """Replace the active set. `Scope.ALL` also replaces what open sockets have; no faults at all clears."""
        self._faults.replace(faults, scope)
        if scope is Scope.ALL:
            for connection in tuple(self._open):
                connection.strike(self._faults.draw(is_open=True))

    def close_open(
        self, code: int = GOING_AWAY, reason: str = "", count: int | None = None, session_id: str | None = None
    ) -> int:
        """Close open sockets at once, the oldest first, at most `count`; how many. 1006 cuts them.

        `session_id` chooses the one of a session.
        """
        named = (each for each in self._open if session_id in (None, each.session_id))
        chosen = tuple(islice(named, count))
        for connection in chosen:
            connection.close(code, reason)
        return len(chosen)

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        app = web.Application()
        app.router.add_get(REALTIME_PATH, self._accept)
        app.router.add_routes(Control(self).routes())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SECONDS, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.options.host, self.options.port, backlog=_BACKLOG).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Close every socket and stop listening, within two seconds. Harmless when not started."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for connection in tuple(self._open):
            connection.close(GOING_AWAY, "The simulator stops.")
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._all_closed.wait()
        except TimeoutError:
            for connection in tuple(self._open):
                connection.abort()
        await runner.cleanup()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def _accept(self, request: web.Request) -> web.StreamResponse:
        self._totals.asked()
        drawn: tuple[Drawn, ...] = ()
        refusal = await self._turn_away(request)
        if refusal is None:
            drawn = self._faults.draw()
            refusal = await _strike_handshake(drawn, request)
        if refusal is not None:
            self._totals.refused()
            return refusal
        # No offer of compression: audio in base64 gains little and costs the loop a lot.
        socket = web.WebSocketResponse(
            max_msg_size=_MESSAGE_MAX_BYTES,
            protocols=("realtime",),
            compress=False,
            autoclose=False,
            timeout=_CLOSE_SECONDS,
        )
        try:
            await socket.prepare(request)
        except ConnectionResetError:  # it hung up during the delay; nobody reads the answer
            self._totals.refused()
            return web.Response(status=_CALLER_GONE)
        if "realtime=v1" in request.headers.get("OpenAI-Beta", ""):
            self._totals.refused()
            await socket.close(code=_BETA_CLOSE_CODE, message=_BETA_REASON.encode())
            return socket
        await self._serve(socket, request, drawn)
        return socket

    async def _turn_away(self, request: web.Request) -> web.Response | None:
        """Wait as long as the options say, then answer a request that the service would not accept."""
        if not _bears_key(request):
            message = "Missing bearer authentication in header"
            return _refused(401, "invalid_request_error", None, message)
        await asyncio.sleep(self.options.connect_delay_ms / 1000)
        model = request.query.get("model")
        if model is None and request.query.get("intent") != "transcription":
            return _refused(400, "invalid_request_error", "missing_model", "You must provide a model parameter.")
        if model is not None and model not in self.options.models:
            message = f"The model '{model}' does not exist or you do not have access to it."
            return _refused(404, "invalid_request_error", "model_not_found", message)
        return None

    async def _serve(self, socket: web.WebSocketResponse, request: web.Request, drawn: Sequence[Drawn]) -> None:
        safety_identifier = request.headers.get("OpenAI-Safety-Identifier")
        connection = Connection(self.options, request.query.get("model"), safety_identifier, self._committed, drawn)
        self._open[connection] = None
        self._totals.accepted()
        self._all_closed.clear()
        try:
            await connection.serve(socket, request.transport)
        finally:
            del self._open[connection]
            self._totals.closed()
            self._closed.append(connection.describe())
            if not self._open:
                self._all_closed.set()


async def _strike_handshake(drawn: Sequence[Drawn], request: web.Request) -> web.Response | None:
    """Let the faults of a socket act on its upgrade request; the answer if they refuse it."""

    def gone() -> bool:
        return request.transport is None or request.transport.is_closing()

    for each in drawn:
        refusal = await each.fault.before_upgrade(gone)
        if gone():
            return web.Response(status=_CALLER_GONE)
        if refusal is not None:
            answer = _refused(refusal.status, *_REFUSALS[refusal.status])
            if refusal.retry_after is not None:
                answer.headers["Retry-After"] = str(refusal.retry_after)
            return answer
    return None


def _bears_key(request: web.Request) -> bool:
    """Any key will do; browsers bring it as a subprotocol."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    return (scheme.lower() == "bearer" and bool(key.strip())) or _KEY_SUBPROTOCOL in offered


def _refused(status: int, kind: str, code: str | None, message: str) -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status)
