"""Does what a page tells its reader to do: in a copy of the checkout, on ports of its own.

Each command is run by a real shell; folder, variables and file mode go over to the next one, as in a
terminal. What serves until Ctrl-C gets a terminal of its own. `make` is asked what it would do; of
that, only what serves is done.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from tests.support.ports import free_port
from tests.support.processes import environment
from tests.support.reference_blocks import ROOT, Command, Save, missing
from tests.support.reference_commands import verbs
from tests.support.tools import tool
from tests.support.waiting import eventually_sync

COMMAND_SECONDS: Final = 60
START_SECONDS: Final = 40.0
STOP_SECONDS: Final = 20.0
NOT_COPIED: Final = shutil.ignore_patterns(
    ".git", ".venv", "output", "node_modules", ".*_cache", "__pycache__", ".hypothesis"
)
# The ports that the pages name.
GRPC, OPS, SIMULATOR = "50051", "9464", "9180"
# What serves, and what it says once it does.
_SERVERS: Final = {"serve": '"serving"', "dev": "Ctrl-C stops both", "simulator": "listening"}
_LISTENS: Final = {"serve": {GRPC, OPS}, "dev": {GRPC, OPS, SIMULATOR}, "simulator": {SIMULATOR}}
# `trunkline dev` has the product's own ports; here it is given others.
_DEV: Final = """
import sys
from gateway.cli import dev, stack
grpc, ops, simulator = sys.argv[1:]
dev.Stack = lambda *_: stack.Stack(f"127.0.0.1:{grpc}", f"127.0.0.1:{ops}", int(simulator))
dev.dev()
"""
# The folder comes last: among the variables is one that the shell takes for it.
_STATE: Final = '{ export -p; echo "umask $(umask)"; echo "cd \'$(pwd -P)\' || exit"; } > "$TERMINAL_STATE"'


@dataclass
class _Server:
    verb: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        finally:
            # Also what it may have left behind: the group is its own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)


@dataclass
class Terminal:
    """One reader, in one folder."""

    folder: Path
    state: Path
    ports: dict[str, str]
    done: int = 0
    _servers: list[_Server] = field(default_factory=list)
    # The groups of what was left to run behind the prompt.
    _jobs: list[int] = field(default_factory=list)

    def follow(self, step: Command | Save) -> None:
        """Do one step; fail where it fails, or answers otherwise than the page shows."""
        if isinstance(step, Save):
            (self.folder / step.name).write_text(self._here(step.content), "utf-8")
            return
        self.done += 1
        text = self._made(step) if step.text.startswith("make ") else step.text
        if text:
            self._typed(Command(text, step.shown))

    def _typed(self, command: Command) -> None:
        first = shlex.split(command.text)[:2] if command.text.startswith("trunkline ") else []
        if first and first[1] in _SERVERS:
            self._serve(first[1], command)
            return
        code, told = self._run(self._addressed(self._here(command.text)))
        assert code == 0, f"{command.text}\nended with {code}:\n{told}"
        absent = missing(tuple(map(self._here, command.shown)), told)
        assert not absent, (
            f"{command.text}\nthe page shows {absent!r}, which is not there, or not in this order:\n{told}"
        )

    def _made(self, command: Command) -> str:
        """Have make print what it would do; return what serves of it, else nothing.

        `make dev` has to serve: the commands after it would fail for another reason than the true one.
        """
        tool("make")
        code, told = self._run(command.text.replace("make ", "make --dry-run ", 1))
        assert code == 0, f"{command.text}: {told}"
        assert told.strip(), f"{command.text} does nothing"
        last = told.strip().splitlines()[-1].removeprefix(".venv/bin/")
        serves = last.split()[:2] in [["trunkline", verb] for verb in _SERVERS]
        assert serves or command.text != "make dev", f"{command.text} serves nothing: {told}"
        return last if serves else ""

    def _run(self, text: str) -> tuple[int, str]:
        """Run it; return exit code and what a terminal would show."""
        told = self.folder.parent / "told"
        script = f'. "$TERMINAL_STATE"\n{text}\ncode=$?\n{_STATE}\nexit $code'
        with told.open("wb") as file:  # a pipe would wait for background jobs, too
            process = self._shell(script, file)
            if text.rstrip().endswith("&"):
                self._jobs.append(process.pid)
            try:
                code = process.wait(COMMAND_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(STOP_SECONDS)
                raise
        return code, told.read_text("utf-8", "replace")

    def _shell(self, script: str, told: BinaryIO) -> "subprocess.Popen[bytes]":
        """Start a shell that leads a group of its own, so that all of it can be ended."""
        return subprocess.Popen(
            ["sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=told,
            stderr=told,
            env={"TERMINAL_STATE": str(self.state)},
            start_new_session=True,
        )

    def _serve(self, verb: str, command: Command) -> None:
        for server in list(self._servers):  # the page says to stop what stands in the way
            if _LISTENS[verb] & _LISTENS[server.verb]:
                server.stop()
                self._servers.remove(server)
        log = self.folder.parent / f"server-{self.done}.log"
        text = f"exec {self._here(command.text)}"
        if verb == "serve":  # where the page's file names no address
            addresses = {"TRUNKLINE_GRPC__ADDRESS": GRPC, "TRUNKLINE_OPS__ADDRESS": OPS}
            text = "".join(f"export {name}=127.0.0.1:{self.ports[port]}\n" for name, port in addresses.items()) + text
        if verb == "dev":
            text = "exec " + shlex.join(
                [sys.executable, "-c", _DEV, *(self.ports[port] for port in (GRPC, OPS, SIMULATOR))]
            )
        with log.open("wb") as file:
            process = self._shell(f'. "$TERMINAL_STATE"\n{text}', file)
        self._servers.append(_Server(verb, process, log))
        wanted = tuple(map(self._here, command.shown))

        def serves() -> bool:
            told = log.read_text("utf-8", "replace")
            assert process.poll() is None, f"{command.text} ended: {told}"
            return _SERVERS[verb] in told and not missing(wanted, told)

        eventually_sync(serves, f"{command.text} serves and says {wanted}, in {log}", START_SECONDS)

    def _here(self, text: str) -> str:
        """Return the page's text with the ports of this test."""
        for theirs, ours in self.ports.items():
            text = re.sub(rf"\b{theirs}\b", ours, text)
        return text

    def _addressed(self, text: str) -> str:
        """Let each verb that calls a gateway call ours; one call of a probe is enough."""

        def addressed(found: re.Match[str]) -> str:
            options = (
                {option for each in verbs()[found[1]].params for option in each.opts} if found[1] in verbs() else ()
            )
            more = f" --address 127.0.0.1:{self.ports[GRPC]}" if "--address" in options else ""
            return found[0] + more + (" --calls 1" if found[1] == "probe" and "--calls" not in text else "")

        return text if "--address" in text else re.sub(r"\btrunkline ([a-z]+)", addressed, text)

    def stop(self) -> None:
        """End what still serves, the last one first."""
        for group in self._jobs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        while self._servers:
            self._servers.pop().stop()


@contextmanager
def terminal(folder: Path) -> Iterator[Terminal]:
    """Copy the checkout, and end everything afterwards."""
    checkout, state = folder / "trunkline", folder / "state"
    shutil.copytree(ROOT, checkout, ignore=NOT_COPIED)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    variables = environment(PATH=path).items()
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables if name.isidentifier()]
    lines.append(f"cd {shlex.quote(str(checkout))} || exit")
    state.write_text("\n".join(lines) + "\n", "utf-8")
    opened = Terminal(checkout, state, {port: str(free_port()) for port in (GRPC, OPS, SIMULATOR)})
    try:
        yield opened
    finally:
        opened.stop()
