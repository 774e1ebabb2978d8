"""promtool's own tests of the rules: run as they are, or with every expectation changed."""

import copy
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.prometheus.rules import RULES
from tests.support.tools import tool

FOLDER: Final = Path(__file__).parents[3] / "deploy/prometheus"
FILES: Final = sorted(path.name for path in FOLDER.glob("*_test.yaml"))
SECONDS: Final = 120.0
# An alert or an expression, and when it is looked at.
Case = tuple[str, str]
_ALERT: Final = re.compile(r"alertname: ?(\S+), time: (\S+),")
_BUDGETS: Final = ("trunkline-objectives", "trunkline-budgets")
_EXPR: Final = re.compile(r'expr: "(.*)", time: (\S+),$', re.MULTILINE)


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text("utf-8"))
    return content


def test_rules(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [tool("promtool"), "test", "rules", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


test_rules.__test__ = False  # type: ignore[attr-defined]  # pytest's mark for what is no test


def rules_of(name: str) -> dict[str, Any]:
    """Return the rules that a file of tests is about: what is far from them costs time alone."""
    content: dict[str, Any] = yaml.safe_load(RULES.read_text("utf-8"))
    is_about_budgets = name != "rules_test.yaml"
    content["groups"] = [each for each in content["groups"] if (each["name"] in _BUDGETS) is is_about_budgets]
    return content


def failures(content: dict[str, Any], rules: dict[str, Any], folder: Path) -> Counter[Case]:
    """Run tests and rules that are not in files; return what failed, and how often."""
    file, of_rules = folder / "changed_test.yaml", folder / "rules.yaml"
    of_rules.write_text(yaml.safe_dump(rules), "utf-8")
    file.write_text(yaml.safe_dump({**content, "rule_files": [str(of_rules)]}), "utf-8")
    told = test_rules(file).stderr
    assert "FAILED" in told or not told.strip(), told
    expressions = [(expr.replace('\\"', '"'), time) for expr, time in _EXPR.findall(told)]
    return Counter([*_ALERT.findall(told), *expressions])


# Changing expectations.


def _without(expected: list[dict[str, Any]], at: int) -> list[dict[str, Any]]:
    return [each for number, each in enumerate(expected) if number != at]


def _with(expected: list[dict[str, Any]], at: int, part: str, name: str) -> list[dict[str, Any]]:
    made = copy.deepcopy(expected)
    made[at][part][name] += "x"
    return made


def alert_mutants(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the case with each part of what it expects changed: an alert less, one more, each label, each text."""
    expected = case.get("exp_alerts", [])
    lists = [[*expected, {"exp_labels": {"severity": "page"}, "exp_annotations": {}}]]
    for at, alert in enumerate(expected):
        lists.append(_without(expected, at))
        lists += [_with(expected, at, part, name) for part in ("exp_labels", "exp_annotations") for name in alert[part]]
    return [{**case, "exp_alerts": each} for each in lists]


def expr_mutants(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the case with each sample changed in its value or its labels, left out, and with one too many."""
    expected = case["exp_samples"] or []
    lists = [[*expected, {"labels": "more", "value": 1}]]
    for at, sample in enumerate(expected):
        more = sample["value"] + max(1, abs(sample["value"])) * 1e-3
        named = sample["labels"].replace('="', '="x', 1)
        lists += [_without(expected, at), [*_without(expected, at), {**sample, "value": more}]]
        lists.append([*_without(expected, at), {**sample, "labels": named}])
    return [{**case, "exp_samples": each} for each in lists]


def mutated(content: dict[str, Any]) -> dict[str, Any]:
    """Return the tests with every expectation replaced by all its changed forms; promtool reports each by itself."""
    tests = []
    for each in content["tests"]:
        alerts = [mutant for case in each.get("alert_rule_test", []) for mutant in alert_mutants(case)]
        exprs = [mutant for case in each.get("promql_expr_test", []) for mutant in expr_mutants(case)]
        tests.append({**each, "alert_rule_test": alerts, "promql_expr_test": exprs})
    return {**content, "tests": tests}


def cases(content: dict[str, Any]) -> Counter[Case]:
    """Return every case, and how often it stands there."""
    alerts = [(c["alertname"], c["eval_time"]) for each in content["tests"] for c in each.get("alert_rule_test", [])]
    exprs = [(c["expr"], c["eval_time"]) for each in content["tests"] for c in each.get("promql_expr_test", [])]
    return Counter([*alerts, *exprs])
