"""The judges of the chaos runs: what is wrong is seen, and what is right is left alone."""

import pytest

from tests.chaos.__main__ import judged
from tests.chaos.figures import BOUNDS, spread
from tests.chaos.talker import History
from tests.chaos.validator import judge


def test_a_history_with_a_hole_or_a_double_is_noticed() -> None:
    one = History(sent=["a", "b"], items=[("1", "user", "a"), ("2", "user", "a")])
    verdict = judge([one])
    assert (verdict.lost, verdict.duplicated, verdict.failed_calls) == (1, 1, 1)
    other = History(sent=["a", "b"], items=[("1", "user", "b"), ("1", "user", "a")])
    assert [fault.split(" ", 2)[2][:16] for fault in judge([other]).faults] == [
        "ended with no wo",
        "heard its words ",
        "was told of item",
    ]


def test_percentiles_are_values_that_were_measured() -> None:
    assert spread([n / 1000 for n in range(200, 0, -1)]) == {"n": 200, "p50": 100.0, "p99": 198.0, "max": 200.0}
    assert spread([0.004]) == {"n": 1, "p50": 4.0, "p99": 4.0, "max": 4.0}


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.path)
def test_each_bound_decides(bound: object) -> None:
    good = {"trouble": [], "quick": False}
    for each in BOUNDS:
        _put(good, each.path, each.at_most if each.at_least < 0 else each.at_least)
    assert judged(good, quick=False, whole=True)[1]
    path = bound.path  # type: ignore[attr-defined]
    bad = {"trouble": [], "quick": False}
    for each in BOUNDS:
        worst = each.at_most + 0.5 if each.at_least < 0 else each.at_least - 0.01
        _put(bad, each.path, worst if each.path == path else each.at_most if each.at_least < 0 else each.at_least)
    assert not judged(bad, quick=False, whole=True)[1]


def test_a_figure_that_is_missing_is_not_passed() -> None:
    assert not judged({"trouble": []}, quick=False, whole=True)[1]
    assert judged({"trouble": []}, quick=False, whole=False)[1]
    assert not judged({"trouble": ["kills: lost"]}, quick=False, whole=False)[1]


def _put(figures: dict[str, object], path: str, value: float) -> None:
    *groups, name = path.split(".")
    into: dict[str, object] = figures
    for each in groups:
        into = into.setdefault(each, {})  # type: ignore[assignment]
    into[name] = value
