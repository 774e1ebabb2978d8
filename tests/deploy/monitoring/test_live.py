"""Rules and dashboard on a real Prometheus that scrapes real gateways, under load and while things go wrong."""

import asyncio
import math
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.grafana.picture import draw
from deploy.prometheus.rules import RULES
from tests.deploy.monitoring.expressions import Expression, measured, of_panels, of_rules, variables
from tests.deploy.monitoring.scene import Scene, busy, scene
from tests.deploy.monitoring.server import Prometheus, prometheus
from tests.support.processes import on_linux
from tests.support.waiting import eventually

pytestmark = [pytest.mark.deploy, on_linux, pytest.mark.timeout(180)]

OUTPUT: Final = Path(__file__).parents[3] / "output/monitoring"
# What must have come to its end: the account's key is refused from the start, for 30 s; its pool is empty, for 1 min.
EXPECTED: Final = frozenset({"TrunklineKeyRefused", "TrunklinePoolEmpty", "TrunklineInternalErrors"})
FIRING_SECONDS: Final = 100.0
# Through Redis' outage and a rotation of every long session.
LEAST_SECONDS: Final = 60.0
BROKEN: Final = (
    Expression("misspelt metric", "sum(rate(trunkline_acquire_total[1m]))"),
    Expression("misspelt label", 'sum(trunkline_connections{status="ready"})'),
    Expression("no such value", 'sum(trunkline_connections{state="idle"})'),
    Expression("nothing to divide by", "sum(up) / on (pool) sum by (pool) (trunkline_pool_floor)"),
    Expression("always undefined", "0 * trunkline_loop_lag_seconds_count / (0 * trunkline_loop_lag_seconds_count)"),
)


@dataclass
class Seen:
    """What Prometheus answered: for each expression how many series had a value."""

    rules: dict[str, dict[str, int]] = field(default_factory=dict)
    panels: dict[str, int] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    chosen: dict[str, int] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    @property
    def firing(self) -> set[str]:
        return {each["labels"]["alertname"] for each in self.alerts if each["state"] == "firing"}


def counted_now(asked: Prometheus, expr: str, at: float) -> int:
    return sum(math.isfinite(float(each["value"][1])) for each in asked.now(expr, at))


def counted_over(asked: Prometheus, expr: str, since: float, until: float) -> int:
    found = asked.over(expr, since, until)
    return sum(any(math.isfinite(float(value)) for _, value in each["values"]) for each in found)


def look(asked: Prometheus, since: float, until: float) -> Seen:
    """Ask for everything: what rules measure, now; what panels show, over the whole time."""
    seen = Seen()
    for each in of_rules():
        found = {part: counted_now(asked, part, until) for part in measured(each.text)}
        seen.rules[each.where] = found
    seen.panels = {each.where: counted_over(asked, each.text, since, until) for each in of_panels()}
    seen.broken = {each.where: counted_over(asked, each.text, since, until) for each in BROKEN}
    for name, metric, label in choices():
        seen.chosen[name] = counted_now(asked, f'group by ({label}) ({metric}{{{label}!=""}})', until)
    seen.alerts = asked.ask("alerts")["alerts"]
    return seen


async def watched() -> Seen:
    async with scene() as here:
        with (
            tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name,
            prometheus(Path(name), RULES, here.targets) as asked,
        ):
            since, until = await _lived(here, asked)
            seen = await asyncio.to_thread(look, asked, since, until)
            await asyncio.to_thread(draw, asked.url, OUTPUT / "dashboard.png", since, until)
        seen.troubles = here.troubles
    return seen


async def _lived(here: Scene, asked: Prometheus) -> tuple[float, float]:
    """Let everything happen until the alerts fire; return from when to when."""
    await eventually(lambda: len(asked.now("up == 1", time.time())) == len(here.targets), "both are scraped", 20)
    since = time.time()

    def is_over() -> bool:
        firing = {each["alertname"] for each in asked.firing()}
        return time.time() - since >= LEAST_SECONDS and firing >= EXPECTED

    async with busy(here):
        while time.time() - since < FIRING_SECONDS and not await asyncio.to_thread(is_over):  # noqa: ASYNC110 it is another process
            await asyncio.sleep(0.5)
        return since, time.time()


def choices() -> list[tuple[str, str, str]]:
    """Return each variable that is asked for, the metric and the label."""
    asked = [each for each in variables() if each["type"] == "query"]
    return [(each["name"], *re.findall(r"\((\w+).*, (\w+)\)$", each["query"])[0]) for each in asked]


def table(seen: Seen) -> str:
    rows = [(where, part, count) for where, parts in seen.rules.items() for part, count in parts.items()]
    rows += [(each.where, each.text, seen.panels[each.where]) for each in of_panels()]
    lines = [f"{count}\t{where}\t{' '.join(text.split())}" for where, text, count in rows]
    return "\n".join(["series\twhere\texpression", *lines, ""])


@pytest.fixture(scope="module")
def seen() -> Seen:
    found = asyncio.run(watched())
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "expressions.tsv").write_text(table(found), "utf-8")
    return found


def test_everything_that_a_rule_measures_has_a_value(seen: Seen) -> None:
    empty = [(where, part) for where, parts in seen.rules.items() for part, count in parts.items() if not count]
    assert empty == []
    assert len(seen.rules) == len(of_rules())


def test_every_panel_shows_something(seen: Seen) -> None:
    assert [where for where, count in seen.panels.items() if not count] == []
    assert len(seen.panels) > 40


def test_every_variable_of_the_dashboard_has_something_to_choose(seen: Seen) -> None:
    assert seen.chosen == {"namespace": 1, "job": 1, "instance": 2, "pool": 3}


def test_a_broken_expression_would_be_seen(seen: Seen) -> None:
    assert seen.broken == {each.where: 0 for each in BROKEN}


def test_a_refused_key_and_what_follows_from_it_wake_somebody(seen: Seen) -> None:
    assert seen.firing >= EXPECTED
    (refused,) = [each for each in seen.alerts if each["labels"]["alertname"] == "TrunklineKeyRefused"]
    told = {name: refused["labels"][name] for name in ("account", "job", "namespace", "severity")}
    assert told == {"account": "second", "job": "trunkline", "namespace": "voice", "severity": "page"}
    assert refused["annotations"]["description"].startswith("Gateways that open no lines on account second: 2.")


def test_texts_of_alerts_are_whole(seen: Seen) -> None:
    texts = [text for each in seen.alerts for text in each["annotations"].values()]
    assert len(texts) >= 9
    assert [text for text in texts if re.search(r"<|\{\{|\(\)|NaN", text)] == []


def test_nobody_is_woken_for_the_account_whose_key_is_good(seen: Seen) -> None:
    pages = [
        each["labels"] for each in seen.alerts if each["state"] == "firing" and each["labels"]["severity"] == "page"
    ]
    assert {(each.get("account"), each.get("pool")) for each in pages} <= {("second", None), (None, "refused")}
