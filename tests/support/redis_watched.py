"""A redis-server that tells all it was told: every command as it came, and everything that lies in it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port
from tests.support.redis_access import AS_OPERATOR, GATEWAY_RULES, GATEWAY_USER, operator_user
from tests.support.redis_process import RedisProcess, all_ended
from tests.support.waiting import eventually

_CHUNK_BYTES: Final = 65_536
_SLOWEST: Final = 128


class WatchedRedis(RedisProcess):
    """The gateway's user has a password of the test's choice."""

    def __init__(self, folder: Path, password: str) -> None:
        self.port = free_port()
        acl = folder / "users.acl"
        gateway_user = f"user {GATEWAY_USER} on >{password} {GATEWAY_RULES}"
        acl.write_text(f"user default off\n{gateway_user}\n{operator_user()}\n", "utf-8")
        how = {"host": "127.0.0.1", "port": self.port, **AS_OPERATOR}
        super().__init__(folder, [f"port {self.port}", f"aclfile {acl}"], how)

    @property
    def url(self) -> str:
        return f"redis://{GATEWAY_USER}@127.0.0.1:{self.port}"

    def everything(self) -> bytes:
        """Return every key with all that lies in it, and what is known of clients and slow commands."""
        with self.client() as client:
            found: list[Any] = [repr(client.client_list()).encode(), repr(client.slowlog_get(_SLOWEST)).encode()]
            for key in client.scan_iter():
                found.append(key)
                match client.type(key):
                    case b"stream":
                        found += [part for _, fields in client.xrange(key) for pair in fields.items() for part in pair]
                    case b"hash":
                        found += [part for pair in client.hgetall(key).items() for part in pair]
                    case b"zset":
                        found += client.zrange(key, 0, -1)
                    case b"string":
                        found.append(client.get(key) or b"")  # it may have expired just now
                    case b"none":
                        continue
                    case kind:
                        raise AssertionError(f"a key of kind {kind!r}")
        return b"\n".join(found)

    @asynccontextmanager
    async def monitored(self) -> AsyncIterator[bytearray]:
        """Collect what MONITOR tells: every command, as it was given."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"AUTH {AS_OPERATOR['username']} {AS_OPERATOR['password']}\r\nMONITOR\r\n".encode())
        heard = bytearray()

        async def listen() -> None:
            with contextlib.suppress(OSError):
                while piece := await reader.read(_CHUNK_BYTES):
                    heard.extend(piece)

        listening = asyncio.create_task(listen())
        try:
            await eventually(lambda: heard.count(b"+OK") == 2, "it tells")
            yield heard
        finally:
            listening.cancel()
            writer.close()


@contextmanager
def watched_redis(folder: Path, password: str) -> Iterator[WatchedRedis]:
    """Run one."""
    server = WatchedRedis(folder, password)
    with all_ended([server]):
        server.start()
        yield server
