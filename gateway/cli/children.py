"""Real processes for `demo` and `dev`: started by name, tied to this one, ended within bounds."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from gateway.cli.failure import CommandError

# Below the ephemeral range, so that no outgoing connection sits on the port by chance.
PORTS: Final = range(20_000, 32_000)
STOP_SECONDS: Final = 10.0
_TAIL_LINES: Final = 5


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on now. Raises `CommandError`."""
    for port in random.sample(PORTS, 200):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise CommandError(f"no free port between {PORTS.start} and {PORTS.stop}")


class Child:
    """One process that runs a verb of this command."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path | None, environment: Mapping[str, str]) -> None:
        """Start it; `log` takes what it says (None = our own stderr)."""
        self.name = name
        self.log = log
        command = [sys.executable, "-m", "gateway.cli.child", str(os.getpid()), *arguments]
        with log.open("wb") if log else contextlib.nullcontext() as file:
            self._process = subprocess.Popen(  # noqa: S603 ourselves
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=dict(environment),
                # Ctrl-C in the terminal is for us alone; we end it in order.
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise `CommandError` with its last words when it has ended."""
        if self._process.poll() is not None:
            text = f"the {self.name} ended with code {self._process.returncode}"
            raise CommandError(f"{text}\n{self._last_words()}".rstrip())

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return self._process.wait()

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after a while."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_SECONDS)

    def _last_words(self) -> str:
        if self.log is None:
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


@contextlib.contextmanager
def ended(children: list[Child]) -> Iterator[list[Child]]:
    """End every child that was appended to the list, the last one first."""
    try:
        yield children
    finally:
        # A second Ctrl-C must not leave one behind.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            while children:
                children.pop().stop()
        finally:
            signal.signal(signal.SIGINT, previous)
