"""A real Prometheus as a process, with a storage of its own, and what it is asked."""

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.ports import free_port
from tests.support.processes import all_gone
from tests.support.tools import tool
from tests.support.waiting import eventually_sync

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 15.0
ASK_SECONDS: Final = 20.0
EVERY: Final = "1s"
Series = list[dict[str, Any]]


class Prometheus:
    """Asks it; every answer is the `data` of its API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **parameters: str | float) -> Any:
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=ASK_SECONDS) as answer:  # noqa: S310 on loopback
                told = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        return told["data"]

    def now(self, expr: str, at: float) -> Series:
        found: Series = self.ask("query", query=expr, time=at)["result"]
        return found

    def over(self, expr: str, since: float, until: float) -> Series:
        found: Series = self.ask("query_range", query=expr, start=since, end=until, step=1)["result"]
        return found

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=ASK_SECONDS):  # noqa: S310 on loopback
                return True
        except OSError:
            return False

    def firing(self) -> list[dict[str, str]]:
        """Return the labels of the alerts that fire now."""
        return [each["labels"] for each in self.ask("alerts")["alerts"] if each["state"] == "firing"]


def configuration(rules: Path, targets: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return a configuration that scrapes addresses, each with the labels that Kubernetes would give it."""
    return {
        "global": {"scrape_interval": EVERY, "evaluation_interval": EVERY, "scrape_timeout": EVERY},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {
                "job_name": "trunkline",
                "static_configs": [
                    {"targets": [address], "labels": dict(labels)} for address, labels in targets.items()
                ],
            }
        ],
    }


@contextmanager
def prometheus(folder: Path, rules: Path, targets: Mapping[str, Mapping[str, str]]) -> Iterator[Prometheus]:
    """Run one; it is gone afterwards, with all that it stored."""
    config, storage, port = folder / "prometheus.yml", folder / "storage", free_port()
    config.write_text(yaml.safe_dump(configuration(rules, targets)), "utf-8")
    command = [
        # Of the same Debian package as promtool, which the table of commands has.
        str(Path(tool("promtool")).with_name("prometheus")),
        f"--config.file={config}",
        f"--storage.tsdb.path={storage}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = folder / "prometheus.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    made = Prometheus(port)
    try:
        eventually_sync(lambda: made.is_ready() or process.poll() is not None, "Prometheus is ready", START_SECONDS)
        assert process.poll() is None, log.read_text("utf-8")
        yield made
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
        all_gone({process.pid})
        shutil.rmtree(storage, ignore_errors=True)
