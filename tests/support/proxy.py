"""What stands between two ends of a TCP connection: a balancer, and a path that a test makes bad.

The balancer is as a Kubernetes service is one: each connection goes to a backend drawn at random.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from random import Random

from tests.support.ports import free_port

_CHUNK_BYTES = 65_536
_END = b""
_UnderWay = asyncio.Queue[tuple[float, bytes]]


@contextlib.asynccontextmanager
async def random_proxy(backends: Sequence[str], seed: int = 1) -> AsyncIterator[str]:
    """Listen, and give the address; every connection ends with the block."""
    rng, tasks = Random(seed), set[asyncio.Task[None]]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(_CHUNK_BYTES):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = rng.choice(backends).rpartition(":")
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        for task in (pump(reader, back), pump(there, writer)):
            tasks.add(made := asyncio.ensure_future(task))
            made.add_done_callback(tasks.discard)

    port = free_port()
    server = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)


class Route:
    """The way to one server and back; a fault holds for connections that are there and for new ones."""

    def __init__(self, backend: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._backend = backend
        # Each way, on top of what the way takes anyhow.
        self.delay_seconds = 0.0
        self.connections = 0
        self._moves = asyncio.Event()
        self._moves.set()
        self._swallows = self._refuses = False
        self._holed = set[asyncio.WriteTransport]()
        self._ends = set[asyncio.WriteTransport]()

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    # Faults.

    def freeze(self) -> None:
        """Let nothing pass; what was sent meanwhile comes after `heal`."""
        self._moves.clear()

    def swallow(self) -> None:
        """Take everything and pass nothing on, ever: a black hole."""
        self._swallows = True

    def heal(self) -> None:
        """Have no fault any more. A connection that has lost bytes is reset, as it can never go on."""
        self.delay_seconds, self._swallows, self._refuses = 0.0, False, False
        self._moves.set()
        for end in self._holed & self._ends:
            _reset(end)
        self._holed.clear()

    def reset(self) -> None:
        """End every connection with RST, to both sides."""
        for end in tuple(self._ends):
            _reset(end)

    def cut(self) -> None:
        """End every connection with RST, and each new one."""
        self._refuses = True
        self.reset()

    # Carrying.

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        if self._refuses:
            _reset(writer.transport)
            return
        host, _, port = self._backend.rpartition(":")
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        self.connections += 1
        ends = (writer.transport, back.transport)
        self._ends.update(ends)
        try:
            async with asyncio.TaskGroup() as ways:
                for source, target in ((reader, back), (there, writer)):
                    under_way = _UnderWay()
                    ways.create_task(self._take(source, under_way, ends))
                    ways.create_task(self._pass_on(under_way, target))
        finally:
            self._ends.difference_update(ends)
            self._holed.difference_update(ends)

    async def _take(
        self, source: asyncio.StreamReader, under_way: _UnderWay, ends: tuple[asyncio.WriteTransport, ...]
    ) -> None:
        """Note when each piece is due: bytes do not wait until those before them have arrived."""
        now = asyncio.get_running_loop().time
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK_BYTES):
                if self._swallows:
                    self._holed.update(ends)
                else:
                    under_way.put_nowait((now() + self.delay_seconds, data))
        under_way.put_nowait((now() + self.delay_seconds, _END))

    async def _pass_on(self, under_way: _UnderWay, target: asyncio.StreamWriter) -> None:
        now = asyncio.get_running_loop().time
        try:
            with contextlib.suppress(OSError):
                while True:
                    due_at, data = await under_way.get()
                    await asyncio.sleep(due_at - now())
                    await self._moves.wait()
                    if data == _END:
                        return
                    target.write(data)
                    await target.drain()
        finally:
            target.close()


def _reset(end: asyncio.WriteTransport) -> None:
    if not end.is_closing():
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.abort()


@contextlib.asynccontextmanager
async def route_to(backend: str) -> AsyncIterator[Route]:
    """Lead to a server; every connection ends with the block."""
    route, tasks = Route(backend), set[asyncio.Task[None]]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(made := asyncio.ensure_future(route.carry(reader, writer)))
        made.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", route.port)
    try:
        yield route
    finally:
        server.close()
        route.reset()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
