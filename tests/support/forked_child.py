"""The process that has imported what gateways and simulators need, and forks once for each: see forked.py.

A child goes on where an interpreter would begin with `python -m MODULE ARGUMENTS`, and ends as that does.
"""

import contextlib
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from importlib import import_module
from typing import Any, Final

_IMPORTED: Final = (
    "gateway.app",
    "gateway.cli.main",
    "gateway.cli.serve",
    "gateway.simulator.command",
    "tests.support.slots",
)
_REQUEST_MAX_BYTES: Final = 1_048_576


class _Forks:
    """Answers each request with the number of a new child, and tells how that ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)

    def asked(self) -> dict[str, Any]:
        """Return what is to be begun, in the children alone."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._tell_end(key.fd, *key.data)
                elif (request := self._forked()) is not None:
                    return request

    def _tell_end(self, watch: int, pid: int, ended: int) -> None:
        self._selector.unregister(watch)
        os.close(watch)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            os.write(ended, str(code).encode())
        os.close(ended)

    def _forked(self) -> dict[str, Any] | None:
        # Close-on-exec, as everything that Python opens: what a child starts must not keep them open.
        flags = socket.MSG_CMSG_CLOEXEC
        data, fds, _, _ = socket.recv_fds(self._control, _REQUEST_MAX_BYTES, 2, flags)
        if not data:
            sys.exit()  # nobody asks any more
        log, ended = fds
        pid = os.fork()
        if pid == 0:
            self._forget(ended)
            request: dict[str, Any] = json.loads(data)
            _become(request, log)
            return request
        os.close(log)
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, ended))
        self._control.sendall(f"{pid}\n".encode())
        return None

    def _forget(self, ended: int) -> None:
        """Close what only the parent needs."""
        for key in self._selector.get_map().values():
            if key.data is not None:
                os.close(key.fd)
                os.close(key.data[1])
        self._selector.close()
        self._control.close()
        os.close(ended)


def _become(request: dict[str, Any], log: int) -> None:
    """Make of this child what an interpreter of its own would be."""
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.setpriority(os.PRIO_PROCESS, 0, request["priority"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["-m", *request["arguments"]]
    signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    # Ctrl-C is meant for the tests, which end what they have begun.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for each in _IMPORTED:
        import_module(each)
    gc.collect()
    gc.freeze()
    asked = _Forks(socket.socket(fileno=int(sys.argv[1]))).asked()
    runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
