"""A real OpenTelemetry collector (Rotel): takes OTLP over gRPC, and writes down what it has taken."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.ports import free_port
from tests.support.processes import Process

# The agent is a binary beside the package's files.
_RUN: Final = "import os, pathlib, rotel, sys; agent = str(pathlib.Path(rotel.__file__).with_name('rotel-agent')); "
_RUN_IT: Final = _RUN + "os.execv(agent, [agent, *sys.argv[1:]])"
_FIELD: Final = re.compile(r"^ {4}(Trace ID|Parent ID|ID|Name|Status code|Status message) *: ?(.*)$")
_ATTRIBUTE: Final = re.compile(r"^ {5}-> ([\w.]+): \w+\((.*)\)$")
_LINKED: Final = re.compile(r"^ {5}-> Trace ID: (\w+)$")


@dataclass
class Told:
    """One span, as the collector has understood it."""

    fields: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)
    # The traces that it points to.
    links: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.fields.get("Name", "")

    @property
    def trace(self) -> str:
        return self.fields.get("Trace ID", "")


class Collector:
    """What runs."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        listen = ["--otlp-grpc-endpoint", self.address, "--otlp-http-endpoint", f"127.0.0.1:{free_port()}"]
        write = ["--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]
        self.process = Process(["-c", _RUN_IT, "start", *listen, *write], folder / "collector.log")

    @property
    def spans(self) -> list[Told]:
        """All that have come."""
        found = list[Told]()
        for line in self.process.output.splitlines():
            if line.startswith("Span #"):
                found.append(Told())
            elif not found:
                continue
            elif has := _FIELD.match(line):
                found[-1].fields[has[1]] = has[2].strip()
            elif has := _ATTRIBUTE.match(line):
                found[-1].attributes[has[1]] = has[2]
            elif has := _LINKED.match(line):
                found[-1].links.append(has[1])
        return found


@contextmanager
def collector() -> Iterator[Collector]:
    """Run one on loopback."""
    with tempfile.TemporaryDirectory(prefix="tk") as name:
        running = Collector(Path(name))
        try:
            running.process.says("Starting Rotel")
            yield running
        finally:
            running.process.stop()
