"""Many commands in little time: a process that has imported the command forks once for each.

Each is a process of its own, with its own arguments, environment, output and exit code; only the
second and a half that the imports take is paid once.
"""

import atexit
import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from tests.support.processes import ROOT, Finished, environment

SECONDS: Final = 30
_SERVER: Final = """
import gateway.cli.main as command, json, os, signal, sys, tempfile, time, traceback
for name in ("access", "admin", "call", "config", "demo", "probe", "serve", "stack"):
    __import__(f"gateway.cli.{name}")

def run(request, out, err):
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    os.setsid()
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["trunkline", *request["arguments"]]
    code = 0
    try:
        command.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

def wait(pid, ends_at):
    while time.monotonic() < ends_at:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None

for line in sys.stdin:
    request = json.loads(line)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            run(request, out, err)
        code = wait(pid, time.monotonic() + request["seconds"])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    print(json.dumps([code, *texts]), flush=True)
"""


class Commands:
    """Runs `trunkline …`, one at a time."""

    def __init__(self, server: "subprocess.Popen[str]") -> None:
        self._server = server

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> Finished:
        request: dict[str, Any] = {
            "arguments": arguments,
            "env": dict(environment() if env is None else env),
            "seconds": SECONDS,
        }
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(request), file=self._server.stdin, flush=True)
        code, out, err = json.loads(self._server.stdout.readline())
        assert code is not None, f"{arguments} did not end within {SECONDS} s: {out} {err}"
        return Finished(code, out, err)


@functools.cache
def _forking() -> "subprocess.Popen[str]":
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    )
    atexit.register(_end, server)
    return server


def _end(server: "subprocess.Popen[str]") -> None:
    with server:
        server.communicate(timeout=10)


@contextmanager
def commands() -> Iterator[Commands]:
    """Use the process that forks; the first of a worker begins it."""
    yield Commands(_forking())
