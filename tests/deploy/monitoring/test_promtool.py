"""promtool's tests of the rules pass, cover every rule both ways, and fail when an expectation or a rule is changed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.deploy.monitoring.expressions import alerts, rules
from tests.deploy.monitoring.promtool import FILES, FOLDER, cases, failures, mutated, read, rules_of, test_rules

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(180)]
_LIMIT: Final = re.compile(r"(?<=> )([\d.]+)(?= \* [\d.]+ and)")


@pytest.mark.parametrize("name", FILES)
def test_rules_do_what_is_expected_of_them(name: str) -> None:
    done = test_rules(FOLDER / name)
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.parametrize("name", FILES)
def test_each_expectation_that_is_changed_is_noticed(name: str, tmp_path: Path) -> None:
    changed = mutated(read(name))
    wanted = cases(changed)
    assert wanted.total() > 90
    assert wanted - failures(changed, rules_of(name), tmp_path) == {}


def test_every_alert_is_seen_to_fire_and_not_to_fire() -> None:
    fires, rests = set[tuple[str, str]](), set[str]()
    for name in FILES:
        for each in read(name)["tests"]:
            for case in each.get("alert_rule_test", []):
                expected = case["exp_alerts"] or []
                fires |= {(case["alertname"], alert["exp_labels"].get("window", "")) for alert in expected}
                if not expected:
                    rests.add(case["alertname"])
    assert fires == {(each["alert"], each["labels"].get("window", "")) for each in alerts()}
    assert rests == {each["alert"] for each in alerts()}


def test_everything_that_is_recorded_is_compared_with_a_figure() -> None:
    looked_at = " ".join(expr for name in FILES for expr, _ in cases(read(name)))
    recorded = [each["record"] for each in rules() if "record" in each]
    assert len(recorded) > 20
    assert [each for each in recorded if not re.search(rf"{each}\b", looked_at)] == []


# A rule that is not what it was.


def _for_longer(rule: dict[str, Any]) -> None:
    rule["for"] = {"30s": "1m", "1m": "90s", "2m": "3m", "5m": "6m", "10m": "11m", "15m": "18m"}[rule["for"]]


def _at_once(rule: dict[str, Any]) -> None:
    del rule["for"]


def _twice_the_limit(rule: dict[str, Any]) -> None:
    rule["expr"] = _LIMIT.sub(lambda found: str(float(found[1]) * 2), rule["expr"])


def _half_the_limit(rule: dict[str, Any]) -> None:
    rule["expr"] = _LIMIT.sub(lambda found: str(float(found[1]) / 2), rule["expr"])


def _is_a_burn(rule: dict[str, Any]) -> bool:
    return "window" in rule["labels"]


def _waits(rule: dict[str, Any]) -> bool:
    return "for" in rule and not _is_a_burn(rule)


@pytest.mark.parametrize(
    ("change", "which", "name"),
    [
        (_for_longer, _waits, "rules_test.yaml"),
        (_at_once, _waits, "rules_test.yaml"),
        (_twice_the_limit, _is_a_burn, "budgets_test.yaml"),
        (_half_the_limit, _is_a_burn, "budgets_test.yaml"),
    ],
)
def test_each_alert_that_is_changed_is_noticed(
    change: Callable[[dict[str, Any]], None], which: Callable[[dict[str, Any]], bool], name: str, tmp_path: Path
) -> None:
    content, touched = rules_of(name), set[str]()
    for rule in [rule for group in content["groups"] for rule in group["rules"] if "alert" in rule and which(rule)]:
        before = str(rule)
        change(rule)
        assert str(rule) != before
        touched.add(rule["alert"])
    assert len(touched) >= 3
    assert touched - {alert for alert, _ in failures(read(name), content, tmp_path)} == set()
