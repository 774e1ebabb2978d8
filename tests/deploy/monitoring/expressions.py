"""Every expression of rules and dashboard, taken apart: which series and labels it reads, and what it measures.

An alert is empty as long as nothing is wrong. What it *measures* is what stands before its thresholds.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

# Typed, where it is installed: only the tests in deploy/ need it.
import promql_parser as promql  # type: ignore[import-not-found, unused-ignore]
import yaml

from deploy.grafana.dashboard import DASHBOARD
from deploy.prometheus.rules import RULES
from gateway.telemetry.families import Family
from tests.support.reference_metrics import every

# What Kubernetes and Prometheus put on every series.
OF_THE_TARGET: Final = frozenset({"namespace", "job", "pod", "instance"})
# What Prometheus makes by itself.
OTHERS: Final = {"up": frozenset[str](), "ALERTS": frozenset({"alertname", "alertstate", "severity", "window"})}
_SET: Final = ("and", "unless")
_COMPARE: Final = ("==", "!=", ">", "<", ">=", "<=")


@dataclass(frozen=True)
class Expression:
    """One, and where it stands."""

    where: str
    text: str


# Where they stand.


@cache
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def _told_apart(labels: dict[str, str]) -> str:
    """Return what differs between alerts of one name."""
    return labels.get("window") or labels.get("severity", "")


def of_rules() -> list[Expression]:
    return [
        Expression(" ".join((each.get("record") or each["alert"], _told_apart(each.get("labels", {})))), each["expr"])
        for each in rules()
    ]


@cache
def json_panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels, and the rows between them."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    assert not any(row.get("panels") for row in found), "a row that is folded hides its panels"
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json_panels() if panel["type"] != "row"]


def variables() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["templating"]["list"]
    return found


def of_panels() -> list[Expression]:
    return [
        Expression(f"{panel['title']} ({target['refId']})", filled(target["expr"]))
        for panel in panels()
        for target in panel["targets"]
    ]


def filled(text: str, interval: str = "15s", over: str = "1h") -> str:
    """Put values in the place of Grafana's variables."""
    text = text.replace("$__rate_interval", interval).replace("$__range", over)
    return re.sub(r"\$\w+", ".*", text)


# Taking apart.


def parsed(text: str) -> promql.Expr:
    made: promql.Expr = promql.parse(text)
    return made


def nodes(text: str) -> list[promql.Expr]:
    found: list[promql.Expr] = []
    promql.walk(parsed(text), found.append)
    return found


def selectors(text: str) -> list[promql.VectorSelector]:
    return [node for node in nodes(text) if isinstance(node, promql.VectorSelector)]


def labels(text: str) -> Iterator[str]:
    """Yield the labels by which an expression groups or matches."""
    for node in nodes(text):
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            yield from node.modifier.labels
        if isinstance(node, promql.BinaryExpr) and node.modifier is not None and node.modifier.matching is not None:
            yield from node.modifier.matching.labels


def measured(text: str) -> list[str]:
    """Return what an expression compares, without the thresholds: each of these has a value, always."""
    return [each.prettify() for each in _measured(parsed(text))]


def _measured(node: promql.Expr) -> list[promql.Expr]:
    if isinstance(node, promql.ParenExpr):
        return _measured(node.expr)
    if isinstance(node, promql.BinaryExpr):
        if str(node.op) in _SET:
            return _measured(node.lhs) + _measured(node.rhs)
        if str(node.op) in _COMPARE:
            sides = [node.lhs, node.rhs]
            return [part for side in sides if not _is_number(side) for part in _measured(side)]
        if str(node.op) == "or" and _is_absence(node.rhs):
            return _measured(node.lhs) + _measured(node.rhs)
    if isinstance(node, promql.Call) and node.func.name == "absent_over_time":
        (of,) = node.args
        return [of.vector_selector]
    return [node]


def _is_number(node: promql.Expr) -> bool:
    if isinstance(node, promql.BinaryExpr):
        return _is_number(node.lhs) and _is_number(node.rhs)
    return isinstance(node, promql.NumberLiteral)


def _is_absence(node: promql.Expr) -> bool:
    return isinstance(node, promql.Call) and node.func.name == "absent_over_time"


# What there is.


def _series_of(family: Family) -> dict[str, frozenset[str]]:
    own = frozenset(family.labels)
    if not family.buckets:
        return {family.name: own}
    plain = {f"{family.name}_{part}": own for part in ("sum", "count")}
    return {f"{family.name}_bucket": own | {"le"}, **plain}


@cache
def _recorded() -> dict[str, frozenset[str]]:
    """Return the recorded series, with the labels by which the last aggregation left them."""
    found = dict[str, frozenset[str]]()
    for rule in rules():
        if "record" in rule:
            grouped = [n for n in nodes(rule["expr"]) if isinstance(n, promql.AggregateExpr) and n.modifier is not None]
            assert grouped, f"{rule['record']} is not aggregated"
            found[rule["record"]] = frozenset(grouped[0].modifier.labels if grouped[0].modifier else ()) - {"le"}
    return found


@cache
def known() -> dict[str, frozenset[str]]:
    """Return every series that an expression may read, with its labels."""
    own = {name: own | OF_THE_TARGET for each in every() for name, own in _series_of(each).items()}
    others = {name: own | OF_THE_TARGET for name, own in OTHERS.items()}
    return {**own, **others, **_recorded()}
