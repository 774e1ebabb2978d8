"""A provider that says exactly what a test has written down, byte for byte."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import WSMsgType, web

from tests.support.ports import free_port

SECONDS: Final = 10.0


class Line:
    """One socket; a script gets it after its configuration was confirmed."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self._request = request
        self.headers = request.headers

    async def say(self, frame: bytes) -> None:
        async with asyncio.timeout(SECONDS):
            await self._socket.send_str(frame.decode())

    async def hear(self) -> dict[str, Any] | None:
        """Return the next client event; None = the line was closed."""
        message = await self._socket.receive()
        if message.type is not WSMsgType.TEXT:
            return None
        heard: dict[str, Any] = json.loads(message.data)
        return heard

    async def close(self, code: int, reason: str = "") -> None:
        async with asyncio.timeout(SECONDS):
            await self._socket.close(code=code, message=reason.encode())

    def write(self, data: bytes) -> None:
        """Put bytes on the wire as they are, whatever the protocol says of them."""
        self._transport.write(data)

    def freeze(self) -> None:
        """Read no more, as a stopped process does: what comes is taken by the kernel and never answered."""
        self._transport.pause_reading()

    def reset(self) -> None:
        """End with RST: no close frame, no FIN."""
        self._transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self._transport.abort()

    @property
    def _transport(self) -> asyncio.Transport:
        transport = self._request.transport
        assert transport is not None
        return transport


Script = Callable[[Line], Awaitable[None]]


Refusal = Callable[[web.Request], web.Response]

CREATED: Final = b'{"type":"session.created","session":{"id":"sess_up","model":"m"}}'
UPDATED: Final = b'{"type":"session.updated","session":{"id":"sess_up"}}'


async def configured(line: Line) -> None:
    """Welcome a line as the provider does: it is created, and its configuration is confirmed."""
    await line.say(CREATED)
    while (heard := await line.hear()) is not None:
        if heard["type"] == "session.update":
            await line.say(UPDATED)
            return


async def created(line: Line) -> None:
    """Welcome a line that nobody configures."""
    await line.say(CREATED)


async def nothing(_line: Line) -> None:
    """Neither welcome a line nor say anything on it."""


def refuse_with(status: int) -> Refusal:
    """Return what refuses each handshake with `status`."""
    return lambda _request: web.json_response({"error": {"message": "no", "code": "no"}}, status=status)


@asynccontextmanager
async def provider(
    script: Script,
    *,
    status: int = 101,
    refusal: Refusal | None = None,
    welcome: Script = configured,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[str]:
    """Run a provider: after `welcome` each line runs `script`. It refuses handshakes with `refusal` or `status`."""
    refuse = refusal if refusal is not None or status == 101 else refuse_with(status)

    async def accept(request: web.Request) -> web.StreamResponse:
        if refuse is not None:
            return refuse(request)
        answer = web.WebSocketResponse(autoclose=False)
        await answer.prepare(request)
        line = Line(answer, request)
        await welcome(line)
        await script(line)
        while await line.hear() is not None:
            pass
        return answer

    app = web.Application()
    app.router.add_get("/v1/realtime", accept)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    port = free_port()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        yield f"{'ws' if tls is None else 'wss'}://127.0.0.1:{port}/v1/realtime"
    finally:
        await runner.cleanup()
