"""A container in the foreground of a `podman run`, as a hardened cluster would hold it."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.containers import COMMAND_SECONDS, Containers, command
from tests.support.processes import ROOT
from tests.support.waiting import eventually_sync


class Container:
    """What runs; its words are in `output`."""

    # As a hardened cluster would run it: the restricted Pod Security profile, and nothing to write to but /tmp.
    HARDENED: Final = (
        "--read-only",
        "--read-only-tmpfs=false",
        "--tmpfs=/tmp:rw,size=16m,mode=1777",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--no-healthcheck",
    )

    def __init__(self, place: Containers, name: str, tag: str, arguments: Sequence[str], mounted: Path) -> None:
        self._place, self.name = place, name
        self.log = place.folder / f"{name}.log"
        options = ["run", "--rm", "--name", name, *self.HARDENED, "--volume", f"{mounted}:/etc/trunkline:ro"]
        with self.log.open("wb") as file:
            self._process = subprocess.Popen(
                [command("podman"), *options, tag, *arguments],
                cwd=ROOT,
                env=place.env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", errors="replace")

    @property
    def code(self) -> int | None:
        return self._process.poll()

    def says(self, words: str, seconds: float = COMMAND_SECONDS) -> None:
        """Wait for words in the output."""
        eventually_sync(lambda: words in self.output or self.code is not None, f"{words!r} in {self.log}", seconds)
        assert words in self.output, f"it ended with {self.code}: {self.output[-2000:]}"

    @property
    def pid(self) -> int:
        """The first process of the container, as this machine counts them."""
        return int(self._place.podman("inspect", "--format", "{{.State.Pid}}", self.name))

    def wait(self, seconds: float = COMMAND_SECONDS) -> int:
        return self._process.wait(seconds)

    def remove(self) -> None:
        """End it, by force if need be."""
        if self.code is None:
            self._place.podman("kill", self.name)
            self.wait()


@contextmanager
def container(place: Containers, name: str, tag: str, arguments: Sequence[str], mounted: Path) -> Iterator[Container]:
    """Run a container, and end it."""
    running = Container(place, name, tag, arguments, mounted)
    try:
        yield running
    finally:
        running.remove()
