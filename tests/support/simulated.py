"""A simulator as a process that a test freezes, kills and starts again on the same port, and asks what it saw."""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.ports import free_port
from tests.support.processes import Process

SECONDS: Final = 5.0


class SimulatedProvider:
    """The process may be gone and come back; its place stays."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder = folder
        self._options = options
        self._starts = 0
        self.port = free_port()
        self._process: Process | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/realtime"

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Return when it listens."""
        self.begin()
        self.process.says("listening")

    def begin(self) -> None:
        """Start without waiting until it listens."""
        self._starts += 1
        options = json.dumps({"port": self.port, **self._options})
        arguments = ["-m", "tests.support.simulated_child", options]
        # How long it is away when it comes back is what an interpreter takes.
        log, forks = self._folder / f"simulator-{self._starts}.log", self._starts == 1
        self._process = Process(arguments, log, forks=forks)

    def kill(self) -> None:
        self.process.send(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None and not self._process.ended:
            self.thaw()
            self._process.stop()

    def observe(self) -> dict[str, Any]:
        """Return what `GET /_sim/connections` tells. Blocks: ask it from a thread where a loop runs."""
        return self._ask("connections", None)

    def committed(self) -> dict[str, Any]:
        """Return what `GET /_sim/committed` tells. Blocks, too."""
        return self._ask("committed", None)

    def strike(self, faults: Sequence[dict[str, Any]], scope: str = "new") -> dict[str, Any]:
        return self._ask("faults", {"faults": list(faults), "scope": scope})

    def close(self, code: int = 1006, **which: Any) -> int:
        """Close open sockets, all or by `count` or `session_id`; return how many. 1006 = by RST."""
        return int(self._ask("close", {"code": code, **which})["closed"])

    def _ask(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/_sim/{path}", data)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310 on loopback
            told: dict[str, Any] = json.loads(answer.read())
        return told


@contextmanager
def simulated_provider(folder: Path, **options: Any) -> Iterator[SimulatedProvider]:
    """Run one. It answers at once unless `speed` says otherwise; faults are texts."""
    provider = SimulatedProvider(folder, **options)
    provider.start()
    try:
        yield provider
    finally:
        provider.stop()
