"""Programs that are run as a user runs them: in a process of their own, against a gateway of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
EXAMPLES: Final = HERE.parent / "examples"
README: Final = HERE.parent / "README.md"
SECONDS: Final = 40.0


@dataclass(frozen=True)
class Outcome:
    """How a program ended, and what its user saw."""

    code: int
    out: str
    err: str


class Program:
    """One that has been started."""

    def __init__(self, arguments: Sequence[str], folder: Path, **more: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_")}
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={**kept, "PYTHONUNBUFFERED": "1", **more},
            text=True,
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def outcome(self, seconds: float = SECONDS) -> Outcome:
        """Wait for its end; one that does not end is killed, and fails the test."""
        try:
            out, err = self._process.communicate(timeout=seconds)
        finally:
            self._process.kill()
            self._process.communicate()
        return Outcome(self._process.returncode, out, err)


def example(name: str, folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Program:
    """Start one of the examples."""
    return Program([str(EXAMPLES / name), *arguments], folder, **(env or {}))
