"""One real Redis or Sentinel process, which a test kills, freezes and starts again at the same place.

It ends with the test's own process, however that ends. Nothing is kept on disk: who kills it, kills
what it knew.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.store.embedded import TETHER
from tests.support.tools import tool
from tests.support.waiting import eventually_sync

START_SECONDS: Final = 10.0
CLIENT_SECONDS: Final = 2.0
LAST_WORDS_BYTES: Final = 2048
# Shorter than what makes Sentinels and nodes believe that a replica is gone.
LAG_SECONDS: Final = 0.3
# Or the client would try for half a minute.
ONCE: Final = Retry(NoBackoff(), 0)


class RedisProcess:
    """A process with a configuration file and a log in `folder`, both named after it."""

    def __init__(
        self,
        folder: Path,
        lines: Sequence[str],
        how: Mapping[str, Any],
        *,
        name: str = "redis",
        program: str = "redis-server",
    ) -> None:
        """Write the configuration. `how` is what redis-py needs in order to do everything there."""
        self._how = dict(how)
        self._program = program
        self._log = folder / f"{name}.log"
        self._configuration = folder / f"{name}.conf"
        common = ["bind 127.0.0.1", f"dir {folder}"]
        if program == "redis-server":
            # A replica that comes back is served at once, not after the five seconds of a production server.
            common += ['save ""', "repl-diskless-sync-delay 0"]
        self._configuration.write_text("\n".join([*common, *lines, ""]), "utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """Return when it answers; once started, what it wrote into its own configuration stands."""
        # Passwords stand in the file, for a command line is there for all to read.
        command = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid())]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, tool(self._program), str(self._configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually_sync(lambda: self._answers() or not self.running, f"{self._program} answers", START_SECONDS)
        assert self.running, f"{self._program} ended at once: {self.log[-LAST_WORDS_BYTES:]}"

    def kill(self) -> float:
        """End it without a word, frozen or not; return when, on the monotonic clock."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(START_SECONDS)
        return time.monotonic()

    def freeze(self) -> float:
        """Let it stand still: connections stay, and nothing answers; return when."""
        os.kill(self.pid, signal.SIGSTOP)
        return time.monotonic()

    def thaw(self) -> None:
        """Let it go on with what has piled up."""
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it stand still for the block."""
        self.freeze()
        try:
            yield
        finally:
            if self.running:
                self.thaw()

    def client(self) -> "redis.Redis":
        """Return a client that may do everything."""
        patience = {"socket_timeout": CLIENT_SECONDS, "socket_connect_timeout": CLIENT_SECONDS}
        return redis.Redis(**{**patience, "retry": ONCE, **self._how})

    def ask(self, *command: str | int | bytes) -> Any:
        """Do one command, on a connection of its own."""
        with self.client() as client:
            return client.execute_command(*command)

    def info(self, section: str) -> dict[str, Any]:
        with self.client() as client:
            found: Any = client.info(section)
        return dict(found)

    def _answers(self) -> bool:
        with suppress(redis.RedisError, OSError):
            return bool(self.ask("PING"))
        return False


@contextmanager
def all_ended(processes: Sequence[RedisProcess]) -> Iterator[None]:
    """Kill all of them when the block ends, whatever happens to one."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()


@contextmanager
def parted(primary: RedisProcess, replicas: Sequence[RedisProcess]) -> Iterator[None]:
    """Let replicas fall behind for the block, as when the network between them and their primary is cut."""
    for each in replicas:
        each.freeze()
    # Or what is sent meanwhile would wait for them in the kernel.
    primary.ask("CLIENT", "KILL", "TYPE", "replica")
    time.sleep(LAG_SECONDS)
    try:
        yield
    finally:
        for each in replicas:
            each.thaw()
