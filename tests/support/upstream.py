"""A provider that says exactly what a test has written down, byte for byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import WSMsgType, web

from tests.support.ports import free_port

SECONDS: Final = 10.0


class Line:
    """One socket after its configuration was confirmed."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

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

    async def close(self, code: int) -> None:
        async with asyncio.timeout(SECONDS):
            await self._socket.close(code=code)


Script = Callable[[Line], Awaitable[None]]


@asynccontextmanager
async def provider(script: Script, *, status: int = 101) -> AsyncIterator[str]:
    """Run a provider; it answers handshakes with `status`, and after the configuration runs `script`."""

    async def accept(request: web.Request) -> web.StreamResponse:
        if status != 101:
            return web.json_response({"error": {"message": "no", "code": "no"}}, status=status)
        socket = web.WebSocketResponse(autoclose=False)
        await socket.prepare(request)
        line = Line(socket)
        await line.say(b'{"type":"session.created","session":{"id":"sess_up","model":"m"}}')
        while (heard := await line.hear()) is not None:
            if heard["type"] == "session.update":
                await line.say(b'{"type":"session.updated","session":{"id":"sess_up"}}')
                break
        await script(line)
        while await line.hear() is not None:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/v1/realtime", accept)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handle_signals=False)
    await runner.setup()
    port = free_port()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield f"ws://127.0.0.1:{port}/v1/realtime"
    finally:
        await runner.cleanup()
