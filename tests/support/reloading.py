"""A gateway process whose configuration and secrets a test changes while it runs."""

import json
import signal
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.ports import free_port
from tests.support.processes import UNLIMITED, Process, all_gone, descendants
from tests.support.stack import pool
from tests.support.waiting import eventually

SECONDS: Final = 5.0
# A look at the files is due every two seconds; a machine that is busy takes its time.
RELOAD_SECONDS: Final = 10.0


class Reloading:
    """The process, and the file that it follows."""

    def __init__(self, folder: Path, upstream: str, changes: Mapping[str, Any]) -> None:
        """Write the configuration; nothing runs before `start`."""
        self.folder = folder
        self.file = folder / "trunkline.yaml"
        self.address, self.ops = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.content: dict[str, Any] = {
            "grpc": {"address": self.address},
            "ops": {"address": self.ops},
            "accounts": UNLIMITED,
            "targets": {"openai": {"url": upstream}},
            "limits": {"drain_seconds": 1},
            "pools": {"default": pool()},
        }
        self._process: Process | None = None
        self.write(**changes)

    @property
    def process(self) -> Process:
        assert self._process is not None
        return self._process

    def start(self, *, insecure_dev: bool, env: Mapping[str, str] | None) -> None:
        """Return when it serves."""
        arguments = ["-m", "gateway", "serve", "--config", str(self.file)]
        flags = ["--insecure-dev"] if insecure_dev else []
        self._process = Process(arguments + flags, self.folder / "gateway.log", env, forks=True)
        self.process.says('"serving"')

    # The configuration.

    def write(self, **sections: Any) -> None:
        """Replace whole sections, and with them the file, at once."""
        self.content.update(sections)
        self.write_text(yaml.safe_dump(self.content))

    def write_text(self, text: str | bytes) -> None:
        """Replace the file at once."""
        fresh = self.file.with_name("trunkline.yaml.new")
        fresh.write_bytes(text.encode() if isinstance(text, str) else text)
        fresh.replace(self.file)

    def hang_up(self) -> None:
        """Ask it to look at its files now."""
        self.process.send(signal.SIGHUP)

    # What it says of itself.

    def events(self, name: str) -> Sequence[dict[str, Any]]:
        """Return the log lines of one event, oldest first."""
        lines = [json.loads(line) for line in self.process.output.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def ready(self) -> dict[str, Any]:
        """Return what /readyz says."""
        try:
            with urllib.request.urlopen(f"http://{self.ops}/readyz", timeout=SECONDS) as answer:
                told: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            told = json.loads(error.read())
        return told

    def configuration(self) -> tuple[str, str]:
        """Return how the component is, and why."""
        found = self.ready()["components"]["configuration"]
        return found["status"], found["reason"]

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.ops}/metrics", timeout=SECONDS) as answer:
            text: str = answer.read().decode()
        return text

    def metric(self, name: str) -> float:
        """Return the value of one sample, its labels included in the name; 0 = there is none."""
        for line in self.metrics().splitlines():
            if line.startswith(f"{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    # Waiting.

    async def reloaded(self, before: int) -> None:
        """Wait until it has followed a change, `before` being how often it had."""
        await eventually(lambda: len(self.events("reloaded")) > before, "it follows the change", RELOAD_SECONDS)

    async def follow(self, **sections: Any) -> None:
        """Change the file, and wait until that is in force."""
        before = len(self.events("reloaded"))
        self.write(**sections)
        self.hang_up()
        await self.reloaded(before)

    async def refused(self, before: int) -> str:
        """Wait until a change was refused; return why."""
        await eventually(lambda: len(self.events("reload_refused")) > before, "it is refused", RELOAD_SECONDS)
        why: str = self.events("reload_refused")[-1]["error"]
        return why


@contextmanager
def reloading(
    upstream: str, *, insecure_dev: bool = True, env: Mapping[str, str] | None = None, **changes: Any
) -> Iterator[Reloading]:
    """Run a gateway; fail when a process of it is left behind."""
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name:
        running, below = Reloading(Path(name), upstream, changes), set[int]()
        try:
            running.start(insecure_dev=insecure_dev, env=env)
            below = descendants(running.process.pid)
            yield running
        finally:
            running.process.stop()
            all_gone(below | {running.process.pid})
