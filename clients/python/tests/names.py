"""A name server for one name, whose addresses a test sets."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

from .scripted_gateway import free_port

_A: Final = 1
_ANSWER: Final = struct.Struct(">HHHIH4s")
_NAME_OF_THE_QUESTION: Final = 0xC00C


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for an IPv4 address by `addresses`."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.authority = f"127.0.0.1:{free_port()}"
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = data[12 : data.index(b"\0", 12) + 5]
        asked = int.from_bytes(question[-4:-2], "big")
        found = self.addresses if asked == _A else []
        head = data[:2] + struct.pack(">HHHHH", 0x8180, 1, len(found), 0, 0)
        answers = [_ANSWER.pack(_NAME_OF_THE_QUESTION, _A, 1, 1, 4, socket.inet_aton(each)) for each in found]
        assert self._transport is not None
        self._transport.sendto(head + question + b"".join(answers), addr)


@asynccontextmanager
async def name_server() -> AsyncIterator[NameServer]:
    """Serve on a free port."""
    server = NameServer()
    host, _, port = server.authority.partition(":")
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: server, local_addr=(host, int(port)))
    try:
        yield server
    finally:
        transport.close()
