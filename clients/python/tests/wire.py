"""The wire between a client and a gateway: a forwarder that reads the client's HTTP/2 frames as they pass."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from .scripted_gateway import free_port

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING = 4, 6
ACK: Final = 1
INITIAL_WINDOW: Final = 4
_HEADER_BYTES: Final = 9


@dataclass(frozen=True)
class Frame:
    """One frame from the client."""

    kind: int
    flags: int
    payload: bytes

    @property
    def settings(self) -> dict[int, int]:
        return dict(struct.iter_unpack(">HI", self.payload))


@dataclass
class Wire:
    """What has passed so far, of all connections."""

    address: str
    connections: int = 0
    frames: list[Frame] = field(default_factory=list)

    def pings(self) -> int:
        return sum(each.kind == PING and not each.flags & ACK for each in self.frames)

    def initial_window(self) -> int:
        return next(each.settings[INITIAL_WINDOW] for each in self.frames if each.kind == SETTINGS)

    async def read_frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward the client's frames until it ends."""
        writer.write(await reader.readexactly(len(PREFACE)))
        while True:
            header = await reader.readexactly(_HEADER_BYTES)
            payload = await reader.readexactly(int.from_bytes(header[:3], "big"))
            self.frames.append(Frame(header[3], header[4], payload))
            writer.write(header + payload)
            await writer.drain()


@asynccontextmanager
async def tapped(address: str, delay_seconds: float = 0.0) -> AsyncIterator[Wire]:
    """Forward a port to `address`; each connection is taken on after `delay_seconds`."""
    host, _, port = address.partition(":")
    wire = Wire(f"127.0.0.1:{free_port()}")
    over = asyncio.Event()
    under_way: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        wire.connections += 1
        writers = under_way[task] = [writer]
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), delay_seconds)
            return
        with suppress(asyncio.IncompleteReadError, OSError):
            back_reader, back_writer = await asyncio.open_connection(host, int(port))
            writers.append(back_writer)
            await asyncio.gather(wire.read_frames(reader, back_writer), _pipe(back_reader, writer))

    server = await asyncio.start_server(forward, "127.0.0.1", int(wire.address.partition(":")[2]))
    try:
        yield wire
    finally:
        # A gRPC channel lets go of its connection when it likes; the test does not wait for it.
        server.close()
        over.set()
        for writers in under_way.values():
            for each in writers:
                each.transport.abort()
        if under_way:
            await asyncio.wait(under_way, timeout=5.0)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while content := await reader.read(65_536):
            writer.write(content)
            await writer.drain()
    finally:
        writer.close()
