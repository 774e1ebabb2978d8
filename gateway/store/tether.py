"""Runs a server that must not outlive its parent. Started as a script, on the bare interpreter.

    python -I -S tether.py <parent pid> <binary> [argument …]

On Linux it becomes the server (same pid), which the kernel kills when the parent ends, also by
`kill -9`. Elsewhere it stays, and kills the server when it gets SIGTERM or the parent is gone.
It imports nothing but the standard library, and the server gets an empty environment.
"""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
WATCH_SECONDS = 0.2
PARENT_GONE = 75


def main(parent: int, command: list[str]) -> int:
    """Run `command` for as long as `parent` lives; returns only where there is no exec to do."""
    if sys.platform.startswith("linux"):
        die_with_parent()
        # The parent may have ended before the line above: then nobody will send the signal.
        if os.getppid() != parent:
            return PARENT_GONE
        os.execve(command[0], command, {})  # noqa: S606 - becoming the server is the point
    return watch(parent, command)


def die_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent ends; survives exec.

    It comes when the *thread* that forked us ends, not the process. An event loop forks on its own
    thread, so a loop on the main thread is what makes this mean "the parent".
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def watch(parent: int, command: list[str]) -> int:
    """Stay beside the server until it ends; end it when told to, or when the parent is gone."""
    told: list[int] = []
    # Before there is a server: a signal in between would leave it alone in the world.
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    with subprocess.Popen(command, env={}) as server:  # noqa: S603 - our own parent's arguments
        while os.getppid() == parent and not told:
            try:
                return server.wait(timeout=WATCH_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        server.kill()
    return 0 if told else PARENT_GONE


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
