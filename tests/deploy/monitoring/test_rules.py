"""The files that are delivered: fresh, whole, about what exists, and each alert with its page in the runbook."""

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import promql_parser as promql  # type: ignore[import-not-found, unused-ignore]
import pytest

from deploy.grafana import dashboard
from deploy.prometheus import parts
from deploy.prometheus import rules as written
from tests.deploy.monitoring import expressions as found
from tests.deploy.monitoring.expressions import Expression
from tests.support.reference_metrics import every
from tests.support.tools import tool

pytestmark = pytest.mark.deploy

ROOT: Final = Path(__file__).parents[3]
RUNBOOK: Final = ROOT / parts.RUNBOOK
ALL: Final = [*found.of_rules(), *found.of_panels()]
PARTS: Final = ("**It means**", "**Callers notice**", "**Look at**", "**Do**")
UNITS: Final = {"short", "none", "percentunit", "s", "cps", "currencyUSD"}


def names(expression: Expression) -> set[str]:
    return {each.name for each in found.selectors(expression.text) if each.name}


# Fresh.


def test_the_rules_are_what_their_code_makes() -> None:
    assert written.RULES.read_text("utf-8") == written.text()


def test_the_dashboard_is_what_its_code_makes() -> None:
    assert dashboard.DASHBOARD.read_text("utf-8") == dashboard.text()


# About what exists.


@pytest.mark.parametrize("expression", ALL, ids=lambda each: each.where)
def test_an_expression_reads_only_series_and_labels_that_exist(expression: Expression) -> None:
    known = found.known()
    read = names(expression)
    assert read
    assert read - known.keys() == set()
    for each in found.selectors(expression.text):
        of_it = known[each.name or ""]
        assert {matcher.name for matcher in each.matchers.matchers} - of_it == set(), each.name
    own = set().union(*(known[name] for name in read))
    assert set(found.labels(expression.text)) - own == set()


@pytest.mark.parametrize(
    "text",
    [
        "sum(trunkline_acquire_total)",
        'sum(trunkline_connections{status="ready"})',
        "sum by (tenant) (trunkline_sessions)",
    ],
)
def test_what_does_not_exist_is_noticed(text: str) -> None:
    with pytest.raises((AssertionError, KeyError)):
        test_an_expression_reads_only_series_and_labels_that_exist(Expression("seeded", text))


def test_what_is_no_expression_is_noticed() -> None:
    with pytest.raises(ValueError, match="expected type matrix"):
        promql.parse("rate(trunkline_acquires_total)")


def test_values_of_labels_are_those_of_the_code() -> None:
    """A misspelt value would be read as nothing, and never fire."""
    said = {
        (matcher.name, value)
        for each in ALL
        for selector in found.selectors(each.text)
        for matcher in selector.matchers.matchers
        for value in matcher.value.split("|")
        if matcher.name in ("result", "state", "reason", "le")
    }
    assert said <= {
        *(("result", each) for each in ("hit", "wait", "dialled", "timeout", "shed", "cancelled", "ok", "failed")),
        *(("state", each) for each in ("ready", "leased")),
        *(("reason", each) for each in ("internal", "overloaded", "superseded")),
        ("le", "1.5"),
    }
    assert 1.5 in next(each.buckets for each in every() if each.name == "trunkline_first_audio_seconds")


def test_every_metric_is_shown() -> None:
    shown = set().union(*(names(each) for each in found.of_panels()))
    shown |= set().union(*(names(each) for each in found.of_rules() if not each.where.startswith("Trunkline")))
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert {each.name for each in every()} - bare == set()


# Whole.


def test_prometheus_finds_nothing_wrong_with_the_rules() -> None:
    command = [tool("promtool"), "check", "rules", "--lint-fatal", str(written.RULES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_prometheus_finds_nothing_wrong_with_the_configuration_for_local_use(tmp_path: Path) -> None:
    """As compose lays it out: the rules beside it."""
    (tmp_path / "prometheus.yml").write_bytes((ROOT / "deploy/prometheus/prometheus.yml").read_bytes())
    (tmp_path / "rules.yaml").write_bytes(written.RULES.read_bytes())
    command = [tool("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 rule files found" in done.stdout


@pytest.mark.parametrize("rule", [each for each in found.rules() if "record" in each], ids=lambda each: each["record"])
def test_what_is_recorded_is_named_by_level_metric_and_operation(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"(?:(?:job|pool|instance):)?trunkline_?\w*:\w+", rule["record"])
    levels = {"job": parts.JOB, "pool": parts.POOL, "instance": parts.INSTANCE, "trunkline": parts.INSTANCE}
    assert found.known()[rule["record"]] == set(levels[rule["record"].partition(":")[0]].split(", "))


@pytest.mark.parametrize("rule", found.alerts(), ids=lambda each: each["alert"] + each["labels"].get("window", ""))
def test_an_alert_says_what_is_wrong_in_numbers_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    texts = rule["annotations"]
    assert texts.keys() == {"summary", "description", "runbook"}
    assert "$labels.job" in texts["summary"]
    if rule["alert"] not in ("TrunklineGatewayDown", "TrunklineGone"):  # they have nothing to count
        assert "$value" in texts["description"]
    assert texts["runbook"] == f"{parts.RUNBOOK}#{rule['alert'].lower()}"
    assert all(text.endswith(".") and not re.search(r"\s{2}|\n", text) for text in list(texts.values())[:2])


def test_alerts_do_not_stand_on_labels_of_callers() -> None:
    used = {label for each in ALL for label in found.labels(each.text)}
    assert used & {"tenant", "caller", "session", "session_id"} == set()


def test_each_alert_has_its_entry_in_the_runbook_and_each_entry_its_alert() -> None:
    text = RUNBOOK.read_text("utf-8")
    entries = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert sorted(entries) == sorted({each["alert"] for each in found.alerts()})
    for entry in entries:
        body = re.split(r"^#+ ", text.partition(f"### {entry}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
        assert [body.count(part) for part in PARTS] == [1, 1, 1, 1], entry
        severities = {each["labels"]["severity"] for each in found.alerts() if each["alert"] == entry}
        assert set(re.findall(r"`(page|ticket)`", body.partition("\n\n")[0])) == severities, entry


# The dashboard.


@pytest.mark.parametrize("panel", found.panels(), ids=lambda each: str(each["title"]))
def test_a_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        asked = Expression("", found.filled(target["expr"]))
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = set(found.labels(asked.text))
        is_grouped = re.search(r"\b(sum|max)\b", asked.text)
        assert shown <= (grouped if is_grouped else {label for name in names(asked) for label in found.known()[name]})


def test_the_dashboard_has_its_rows_and_variables() -> None:
    rows = [each["title"] for each in found.json_panels() if each["type"] == "row"]
    assert rows == ["Objectives", "Pool", "Sessions", "Latency", "Errors", "Survival", "Cost"]
    assert [each["name"] for each in found.variables()] == ["datasource", "namespace", "job", "instance", "pool"]


def test_panels_stand_side_by_side_and_not_on_each_other() -> None:
    places = [each["gridPos"] for each in found.json_panels()]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23


def test_panels_about_acquires_speak_of_callers() -> None:
    """Sessions that move, rotate or recover are not counted there."""
    read = [each for each in found.panels() if "trunkline_acquire" in str(each["targets"])]
    assert len(read) >= 4
    assert [each["title"] for each in read if "aller" not in each["title"] + each["description"]] == []


def test_titles_and_numbers_of_panels_differ() -> None:
    titles = [each["title"] for each in found.panels()]
    numbers = [each["id"] for each in found.json_panels()]
    assert len(set(titles)) == len(titles)
    assert len(set(numbers)) == len(numbers)
