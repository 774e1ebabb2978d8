"""TLS before a plain server on loopback, in a process of its own: the simulator speaks no TLS.

python -m tests.support.tls_front PORT TARGET_PORT CERT_FILE KEY_FILE
"""

import asyncio
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import trustme

from tests.support.ports import free_port
from tests.support.processes import Process

HOST = "127.0.0.1"
BACKLOG = 2048


@dataclass(frozen=True)
class TlsFront:
    """Where it listens, and the file with the authority to trust."""

    port: int
    ca_file: Path

    @property
    def trust(self) -> dict[str, str]:
        """Return the environment in which OpenSSL trusts that authority."""
        return {"SSL_CERT_FILE": str(self.ca_file)}


@contextmanager
def tls_front(folder: Path, target_port: int) -> Iterator[TlsFront]:
    """Run one."""
    authority = trustme.CA()
    issued = authority.issue_cert(HOST, "localhost")
    ca_file, cert_file, key_file = folder / "front-ca.pem", folder / "front.pem", folder / "front.key"
    authority.cert_pem.write_to_path(str(ca_file))
    issued.private_key_pem.write_to_path(str(key_file))
    cert_file.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    port = free_port()
    arguments = ["-m", __name__, str(port), str(target_port), str(cert_file), str(key_file)]
    process = Process(arguments, folder / "front.log")
    try:
        process.says("listening")
        yield TlsFront(port, ca_file)
    finally:
        process.stop()


class _Side(asyncio.Protocol):
    """One end of a connection that is passed on; each knows the other."""

    def __init__(self) -> None:
        self.other: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.other is not None:
            self.other.flow()

    def data_received(self, data: bytes) -> None:
        self.early.append(data)
        self.flow()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def flow(self) -> None:
        """Pass on what has come, once there is somebody to take it."""
        if self.other is not None and self.other.transport is not None and self.early:
            self.other.transport.write(b"".join(self.early))
            self.early.clear()


class _Outer(_Side):
    """The encrypted end."""

    def __init__(self, target_port: int) -> None:
        super().__init__()
        self._target_port = target_port
        self._dial: asyncio.Task[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other = inner = _Side()
        inner.other = self
        loop = asyncio.get_running_loop()
        self._dial = loop.create_task(loop.create_connection(lambda: inner, HOST, self._target_port))


async def serve(port: int, target_port: int, cert_file: str, key_file: str) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert_file, key_file)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Outer(target_port), HOST, port, ssl=context, backlog=BACKLOG)
    print("listening", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
