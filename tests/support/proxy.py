"""A layer-4 balancer as a Kubernetes service is one: each connection goes to a backend drawn at random."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from random import Random

from tests.support.ports import free_port

_CHUNK_BYTES = 65_536


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
