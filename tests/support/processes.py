"""Real gateways and simulators: `python -m gateway …` as children, ended and looked for after the test."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support import forked
from tests.support.ports import free_port
from tests.support.waiting import eventually_sync

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 15.0
# The simulator has no limits: a test is about the dial rate, or is not slowed by it.
UNLIMITED: Final = {"main": {"connections_max": 2000, "dials_per_second": 2000, "dials_burst": 2000}}

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what would steer a gateway, or a `make` (the tests run in one)."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TRUNKLINE_", "OPENAI_", "PYTEST_", "COV_", "MAKE", "MFLAGS"))
    }
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


class Process:
    """One command in a session of its own; its words are in `output`.

    `forks` = its imports may have been done for it: for who does not ask how an interpreter begins.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, env: Mapping[str, str] | None = None, *, forks: bool = False
    ) -> None:
        self.log = log
        with log.open("wb") as file:
            self._process = (
                forked.begin(arguments, file, environment())
                if forks and env is None and forked.can_be_forked(arguments)
                else subprocess.Popen(
                    [sys.executable, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=dict(environment() if env is None else env),
                    start_new_session=True,
                )
            )
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def says(self, words: str, seconds: float = START_SECONDS) -> None:
        """Wait for words in the output."""
        eventually_sync(lambda: words in self.output or self.ended, f"{words!r} in {self.log}", seconds)
        assert words in self.output, f"it ended with {self.code}: {self.output[-2000:]}"

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        return self._process.wait(seconds)

    def stop(self) -> None:
        """End it, by force if need be."""
        if not self.ended:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_SECONDS)


# Looking into /proc.


def _stat(pid: int) -> list[str]:
    """Return the fields from the state on; empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def is_gone(pid: int) -> bool:
    """Tell whether no such process runs; one that only waits to be reaped counts as gone."""
    fields = _stat(pid)
    return not fields or fields[0] in "ZX"


def _everybody() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def descendants(pid: int) -> set[int]:
    """Return the living children of a process, and theirs."""
    parents = {each: int(fields[1]) for each in _everybody() if (fields := _stat(each))}
    found, new = set[int](), {pid}
    while new:
        new = {each for each, parent in parents.items() if parent in new} - found
        found |= new
    return {each for each in found if not is_gone(each)}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def valkeys(pid: int) -> list[int]:
    """Return the embedded servers below a process."""
    return [each for each in descendants(pid) if "valkey" in command_line(each).partition(" ")[0]]


def all_gone(pids: set[int], seconds: float = 5.0) -> None:
    """Wait until none of these runs."""

    def left() -> dict[int, str]:
        return {pid: command_line(pid) for pid in pids if not is_gone(pid)}

    eventually_sync(lambda: not left(), f"no process is left of {left()}", seconds)


# The stack.


@dataclass
class ProcessStack:
    """A simulator and a gateway as processes."""

    simulator: Process
    gateway: Process
    address: str
    ops: str
    folder: Path
    configuration: dict[str, Any]

    def until_warm(self, lines: int = 1) -> None:
        """Wait until the default pool has so many lines ready."""
        import grpc  # noqa: PLC0415
        from trunkline.v1 import admin_pb2, admin_pb2_grpc  # noqa: PLC0415

        with grpc.insecure_channel(self.address) as channel:
            stub = admin_pb2_grpc.AdminServiceStub(channel)

            def warm() -> bool:
                answer = stub.ListPools(admin_pb2.ListPoolsRequest(), timeout=5, wait_for_ready=True)
                return bool(answer.pools[0].warm >= lines)

            eventually_sync(warm, f"{lines} lines are warm", START_SECONDS)


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


def command(*arguments: str, env: Mapping[str, str] | None = None, seconds: float = 40) -> Finished:
    """Run `trunkline …` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=ROOT,
        env=dict(environment() if env is None else env),
        timeout=seconds,
        check=False,
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


@contextmanager
def simulator_process(folder: Path, *options: str, forks: bool = True) -> Iterator[tuple[Process, int]]:
    """Run a simulator."""
    port = free_port()
    arguments = ["-m", "gateway", "simulator", "--port", str(port), *options]
    process = Process(arguments, folder / "simulator.log", forks=forks)
    try:
        process.says("listening")
        yield process, port
    finally:
        process.stop()


def write_yaml(folder: Path, content: Mapping[str, Any]) -> Path:
    path = folder / "trunkline.yaml"
    path.write_text(yaml.safe_dump(dict(content)), "utf-8")
    return path


@contextmanager
def process_stack(
    *, insecure_dev: bool = True, env: Mapping[str, str] | None = None, forks: bool = True, **changes: Any
) -> Iterator[ProcessStack]:
    """Run both; fail the test when a process of theirs is left behind."""
    with (
        tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name,
        simulator_process(Path(name), forks=forks) as (simulator, port),
    ):
        folder = Path(name)
        address, ops = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        content = {
            "grpc": {"address": address},
            "ops": {"address": ops},
            "accounts": UNLIMITED,
            "targets": {"openai": {"url": f"ws://127.0.0.1:{port}/v1/realtime"}},
            "limits": {"drain_seconds": 1},
            "pools": {"default": {"floor": 1, "ceiling": 8, "reserve": 0}},
            **changes,
        }
        arguments = ["-m", "gateway", "serve", "--config", str(write_yaml(folder, content))]
        arguments += ["--insecure-dev"] if insecure_dev else []
        gateway = Process(arguments, folder / "gateway.log", env, forks=forks)
        below = set[int]()
        try:
            gateway.says('"serving"')
            below = descendants(gateway.pid)
            yield ProcessStack(simulator, gateway, address, ops, folder, content)
        finally:
            gateway.stop()
            all_gone(below | {gateway.pid})
