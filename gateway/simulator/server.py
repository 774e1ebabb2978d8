"""The simulator as a server: the handshake of the Realtime API, the control endpoints, start and stop."""

import asyncio
import time
from collections import deque
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from gateway.simulator.connection import GOING_AWAY, Connection
from gateway.simulator.options import SimulatorOptions

REALTIME_PATH: Final = "/v1/realtime"

_MESSAGE_MAX_BYTES: Final = 32 * 1024 * 1024
_CLOSED_KEPT: Final = 1_000
_STOP_SECONDS: Final = 1.0
_CLOSE_SECONDS: Final = 0.5
_CALLER_GONE: Final = 499
_BETA_CLOSE_CODE: Final = 4000
_BETA_REASON: Final = "invalid_request_error.beta_api_shape_disabled"
_KEY_SUBPROTOCOL: Final = "openai-insecure-api-key."


class Simulator:
    """A Realtime API on a plain socket. `async with Simulator(options)`, or `start` and `stop`."""

    def __init__(self, options: SimulatorOptions) -> None:
        """Nothing listens yet."""
        self.options = options
        self._open = dict[Connection, None]()  # in the order they came
        self._closed = deque[dict[str, object]](maxlen=_CLOSED_KEPT)
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

    async def start(self) -> None:
        """Listen. Raises OSError if the port is taken."""
        app = web.Application()
        app.router.add_get(REALTIME_PATH, self._accept)
        app.router.add_get("/_sim/connections", self._show_connections)
        app.router.add_post("/_sim/faults", self._refuse_faults)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SECONDS, handle_signals=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.options.host, self.options.port).start()
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
            return web.Response(status=_CALLER_GONE)
        if "realtime=v1" in request.headers.get("OpenAI-Beta", ""):
            await socket.close(code=_BETA_CLOSE_CODE, message=_BETA_REASON.encode())
            return socket
        connection = Connection(self.options, model, request.headers.get("OpenAI-Safety-Identifier"))
        self._open[connection] = None
        self._all_closed.clear()
        try:
            await connection.serve(socket, request.transport)
        finally:
            del self._open[connection]
            self._closed.append(connection.describe())
            if not self._open:
                self._all_closed.set()
        return socket

    async def _show_connections(self, _: web.Request) -> web.Response:
        return web.json_response({"time": time.time(), "connections": self.connections()})

    async def _refuse_faults(self, _: web.Request) -> web.Response:
        return web.json_response({"error": "not implemented yet"}, status=501)


def _bears_key(request: web.Request) -> bool:
    """Any key will do; browsers bring it as a subprotocol."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    return (scheme.lower() == "bearer" and bool(key.strip())) or _KEY_SUBPROTOCOL in offered


def _refused(status: int, kind: str, code: str | None, message: str) -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": code}
    return web.json_response({"error": error}, status=status)
