"""Callers talk on while gateways are killed and frozen under them: nothing is lost, nothing comes twice."""

import sys

import pytest

from tests.chaos.gateways import frozen, killed
from tests.chaos.talker import History
from tests.chaos.validator import judge
from tests.support.processes import on_linux
from tests.support.tools import tool

pytestmark = [on_linux, pytest.mark.heavy, pytest.mark.timeout(280)]


def shown(capsys: pytest.CaptureFixture[str], what: str, took: list[float], histories: list[History]) -> None:
    """Print the figures, and fail for what is lost or comes twice."""
    verdict, sorted_ms = judge(histories), sorted(seconds * 1000 for seconds in took)
    middle, longest = sorted_ms[len(sorted_ms) // 2], sorted_ms[-1]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{what}: callers back after p50 {middle:.0f} ms, max {longest:.0f} ms (n={len(took)}); "
            f"{verdict.total} events, {verdict.lost} lost, {verdict.duplicated} doubled\n"
        )
    assert verdict.faults == []
    assert (verdict.lost, verdict.duplicated, verdict.failed_calls) == (0, 0, 0)


async def test_callers_outlive_gateways_that_are_killed(capsys: pytest.CaptureFixture[str]) -> None:
    assert tool("redis-server")
    took, histories = await killed(times=8)
    shown(capsys, "killed", took, histories)
    assert len(took) >= 8
    assert max(took) <= 5.0


async def test_callers_outlive_gateways_that_are_frozen_and_thaw(capsys: pytest.CaptureFixture[str]) -> None:
    assert tool("redis-server")
    took, histories = await frozen(times=3)
    shown(capsys, "frozen", took, histories)
    assert max(took) <= 8.0


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
