"""A caller that hangs up while the simulator keeps it waiting leaves nothing behind, not even a traceback."""

import asyncio
import contextlib

import pytest

from gateway.simulator import Simulator, SimulatorOptions
from tests.support.ports import free_port

REQUEST = (
    "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n"
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def ask(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST.encode())
    await writer.drain()
    return reader, writer


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_a_caller_that_hangs_up_during_the_delay_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    async with Simulator(SimulatorOptions(port=port, connect_delay_ms=50)):
        for _ in range(5):
            _, writer = await ask(port)
            await hang_up(writer)
        # One that came after them and stays is served: theirs have been dealt with by then.
        reader, writer = await ask(port)
        assert (await asyncio.wait_for(reader.readline(), 5.0)).startswith(b"HTTP/1.1 101")
        await hang_up(writer)
    assert caplog.records == []
