"""One real redis-server without a password, on a Unix socket or on a TCP port of its own."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support import redis_access
from tests.support.ports import free_port
from tests.support.redis_process import RedisProcess, all_ended

SEALING_KEY: Final = redis_access.SEALING_KEY
# What `fill` writes, for a test to delete.
FILLER: Final = "filler"


class RedisServer(RedisProcess):
    """The process, and what a gateway needs to use it."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        """Listen at `port`, or with none on a Unix socket. `options` are lines of redis.conf."""
        self.port = port
        socket = folder / "redis"
        self.url = f"redis://127.0.0.1:{port}" if port else f"unix://{socket}"
        where = [f"port {port}"] + ([] if port else [f"unixsocket {socket}"])
        how = {"host": "127.0.0.1", "port": port} if port else {"unix_socket_path": str(socket)}
        super().__init__(folder, [*where, *options], how)
        self.settings: Mapping[str, Any] = redis_access.settings(folder, self.url)

    def fill(self) -> None:
        """Use up all of `maxmemory`: until FILLER is deleted, no write is taken."""
        much = self.info("memory")["maxmemory"]
        self.ask("EVAL", "#!lua flags=allow-oom\nredis.call('SETRANGE', KEYS[1], ARGV[1], 'x')", 1, FILLER, much)


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Run one on a Unix socket; skip where there is none. `folder` has a short path: a socket's name is bounded."""
    server = RedisServer(folder, *options)
    with all_ended([server]):
        server.start()
        yield server


@contextmanager
def plain_redis(*options: str) -> Iterator[RedisServer]:
    """Run one on a TCP port, with lines of redis.conf such as `maxmemory 4mb`."""
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder:
        server = RedisServer(Path(folder), *options, port=free_port())
        with all_ended([server]):
            server.start()
            yield server
