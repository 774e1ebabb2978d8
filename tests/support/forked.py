"""Python processes that begin with their imports done: one process imports, and forks once for each.

Each is a process of its own, in a session of its own, with its own arguments, environment, output and
exit code. Only the second that the imports take is paid once for all tests of a worker.
"""

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

_ROOT: Final = Path(__file__).parents[2]
_START_SECONDS: Final = 60.0
_MODULES: Final = ("gateway", "tests.support.simulated_child", "tests.support.slots_child")


def can_be_forked(arguments: Sequence[str]) -> bool:
    """Tell whether the imports of `python ARGUMENTS` are done already, on a system that can tell its end."""
    return hasattr(os, "pidfd_open") and arguments[0] == "-m" and arguments[1] in _MODULES


class Forked:
    """One of them, with the methods of `subprocess.Popen` that tests use."""

    def __init__(self, pid: int, ended: int) -> None:
        """`ended` is where its exit code comes, as text, in the very moment of its end."""
        self.pid = pid
        self._ended = ended
        self._code: int | None = None

    def poll(self) -> int | None:
        self._hear(0)
        return self._code

    def wait(self, timeout: float) -> int:
        self._hear(timeout)
        if self._code is None:
            raise subprocess.TimeoutExpired([str(self.pid)], timeout)
        return self._code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _hear(self, seconds: float) -> None:
        if self._code is not None:
            return
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        if poll.poll(seconds * 1000):
            told = os.read(self._ended, 16)
            assert told, "the process that forks has ended"
            os.close(self._ended)
            self._code = int(told)


class _Forking:
    """The process that forks."""

    def __init__(self) -> None:
        # Packets: each request arrives whole, with its two files.
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(_START_SECONDS)
        self._asking = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.forked_child", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd=_ROOT,
                # What has threads when it forks is asking for trouble.
                env={**os.environ, "PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1"},
            )

    def begin(self, arguments: Sequence[str], log: BinaryIO, env: Mapping[str, str]) -> Forked:
        request = {
            "module": arguments[1],
            "arguments": arguments[2:],
            "env": dict(env),
            "priority": os.getpriority(os.PRIO_PROCESS, 0),
        }
        ended, theirs = os.pipe()
        try:
            with self._asking:
                socket.send_fds(self._control, [json.dumps(request).encode()], [log.fileno(), theirs])
                pid = self._control.recv(32)
        finally:
            os.close(theirs)
        assert pid, "the process that forks has ended"
        return Forked(int(pid), ended)

    def end(self) -> None:
        self._control.close()
        self._process.wait(10)


@functools.cache
def _forking() -> _Forking:
    forking = _Forking()
    atexit.register(forking.end)
    return forking


def begin(arguments: Sequence[str], log: BinaryIO, env: Mapping[str, str]) -> Forked:
    """Begin `python ARGUMENTS` at the root of the repository, with its words in a file."""
    return _forking().begin(arguments, log, env)
