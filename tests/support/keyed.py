"""A provider that knows its keys: stands before a simulator, notes with which key each socket came, refuses some.

It looks at the head of the upgrade request and lets everything behind it pass untouched.
"""

import asyncio
import contextlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from tests.support.ports import free_port

_CHUNK_BYTES: Final = 65_536
_HEAD_SECONDS: Final = 10.0
_BEARER: Final = re.compile(rb"^authorization: *bearer +(\S+)\r$", re.IGNORECASE | re.MULTILINE)
_WORDS: Final = {"type": "invalid_request_error", "param": None, "code": "invalid_api_key"}


@dataclass
class Socket:
    """One that was let in. Times are of the loop's clock."""

    key: str
    asked_at: float
    is_open: bool = True


class KeyedProvider:
    """What stands in front."""

    def __init__(self, backend_port: int) -> None:
        self.port = free_port()
        self.sockets: list[Socket] = []
        # Keys that are refused, how long that takes, and how often it was done.
        self.refused: set[str] = set()
        self.refusal_seconds = 0.0
        self.refusals = Counter[str]()
        # Requests under way that are going to be refused.
        self.refusing = 0
        self._backend_port = backend_port
        self._now = asyncio.get_running_loop().time

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/realtime"

    def open_with(self, key: str) -> int:
        """How many sockets are open that came with a key."""
        return sum(each.is_open and each.key == key for each in self.sockets)

    def came_with(self, key: str, since: float = 0.0) -> list[Socket]:
        """Return the sockets that came with a key from a moment on."""
        return [each for each in self.sockets if each.key == key and each.asked_at >= since]

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            found = _BEARER.search(head)
            key = found[1].decode() if found else ""
            if key in self.refused:
                await self._refuse(key, writer)
            else:
                await self._pass_on(key, head, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # either side hung up
        finally:
            writer.close()

    async def _refuse(self, key: str, writer: asyncio.StreamWriter) -> None:
        self.refusing += 1
        try:
            await asyncio.sleep(self.refusal_seconds)
        finally:
            self.refusing -= 1
        self.refusals[key] += 1
        # As the service does, but for the stars.
        body = json.dumps({"error": {"message": f"Incorrect API key provided: {key}.", **_WORDS}}).encode()
        about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close"
        writer.write(f"HTTP/1.1 401 Unauthorized\r\n{about}\r\n\r\n".encode() + body)
        await writer.drain()

    async def _pass_on(self, key: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        noted = Socket(key, self._now())
        there, back = await asyncio.open_connection("127.0.0.1", self._backend_port)
        self.sockets.append(noted)
        back.write(head)
        ways = [asyncio.ensure_future(_pipe(reader, back)), asyncio.ensure_future(_pipe(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            back.close()
            noted.is_open = False


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK_BYTES):
            target.write(data)
            await target.drain()


@asynccontextmanager
async def keyed_provider(backend_port: int) -> AsyncIterator[KeyedProvider]:
    """Run one in front of a simulator's port; every connection ends with the block."""
    provider, tasks = KeyedProvider(backend_port), set[asyncio.Task[None]]()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.ensure_future(provider.carry(reader, writer)))
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", provider.port)
    try:
        yield provider
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
