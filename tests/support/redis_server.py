"""A real redis-server as a process, which a test kills and starts again at the same place."""

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis

from tests.support.tools import tool
from tests.support.waiting import eventually_sync

SEALING_KEY: Final = bytes(range(32))
START_SECONDS: Final = 10.0


class RedisServer:
    """Keeps nothing on disk: who kills it, kills what it knew."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "redis"
        self._process: subprocess.Popen[bytes] | None = None
        key = folder / "sealing-key"
        key.write_bytes(SEALING_KEY)
        # What a gateway needs to use it.
        self.settings: Mapping[str, Any] = {
            "redis": {"url": self.url},
            "store": {"sealing_keys": [{"id": "k1", "file": str(key)}]},
        }

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Return when it answers."""
        arguments = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--dir", str(self._folder)]
        command = [tool("redis-server"), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually_sync(self._answers, "redis-server answers", START_SECONDS)

    def kill(self) -> float:
        """End it without a word; return when, on the monotonic clock."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(START_SECONDS)
        return time.monotonic()

    def client(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url, socket_timeout=2.0)

    def _answers(self) -> bool:
        with suppress(redis.RedisError, OSError), self.client() as client:
            return bool(client.ping())
        return False


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """Run one; skip where there is none. `folder` has a short path: a Unix socket's name is bounded."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
