"""The floor that demand calls for: arrivals in one lead time and a margin; nothing when nobody comes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.demand import Demand, DemandOptions


def after_calls(rate: float, seconds: float, *, lead: float = 1.0, k: float = 3.0) -> tuple[Demand, float]:
    """A demand that has seen so many callers a second, evenly, and the time of the last."""
    demand = Demand(DemandOptions(enabled=True, k=k))
    for _ in range(200):
        demand.dialled(lead)
    for number in range(int(rate * seconds)):
        demand.arrived(number / rate)
    return demand, (int(rate * seconds) - 1) / rate


def test_nobody_who_comes_calls_for_no_line() -> None:
    assert Demand(DemandOptions()).lines(0.0) == 0


def test_without_demand_no_line_is_called_for_whoever_comes() -> None:
    demand = Demand(DemandOptions(enabled=False))
    for _ in range(1000):
        demand.arrived(1.0)
    assert demand.lines(1.0) == 0


@pytest.mark.parametrize(("rate", "lead"), [(1.0, 1.0), (5.0, 1.0), (20.0, 0.5), (2.0, 4.0)])
def test_lines_cover_the_arrivals_of_one_lead_time_and_a_margin(rate: float, lead: float) -> None:
    demand, now = after_calls(rate, 300.0, lead=lead)
    mean = rate * lead
    called_for = mean + 3.0 * math.sqrt(mean)
    assert called_for <= demand.lines(now) <= 1.25 * called_for + 2


def test_the_margin_grows_with_k() -> None:
    bold, now = after_calls(5.0, 300.0, k=1.0)
    careful, _ = after_calls(5.0, 300.0, k=3.0)
    assert bold.lines(now) < careful.lines(now)


def test_slower_dials_call_for_more_lines() -> None:
    quick, now = after_calls(5.0, 300.0, lead=0.5)
    slow, _ = after_calls(5.0, 300.0, lead=4.0)
    assert quick.lines(now) < slow.lines(now)


def test_the_lead_time_follows_the_dials() -> None:
    demand = Demand(DemandOptions())
    assert demand.lead_seconds == 1.0
    demand.dialled(3.0)
    assert 1.0 < demand.lead_seconds < 3.0
    for _ in range(100):
        demand.dialled(3.0)
    assert demand.lead_seconds == pytest.approx(3.0, abs=0.01)


def test_a_dial_that_nearly_hung_does_not_make_all_of_them_slow() -> None:
    demand = Demand(DemandOptions())
    for seconds in [0.3, 60.0] * 20:
        demand.dialled(seconds)
    assert demand.usual_seconds < 1.0


def test_a_provider_that_becomes_slow_for_all_is_believed() -> None:
    demand = Demand(DemandOptions())
    for _ in range(30):
        demand.dialled(5.0)
    assert demand.usual_seconds > 4.0
    assert demand.lead_seconds > 4.0


def test_a_rush_is_seen_within_two_seconds() -> None:
    demand = Demand(DemandOptions())
    for number in range(40):
        demand.arrived(number / 20.0)
    assert demand.lines(2.0) >= 10 + 3 * math.sqrt(10)


def test_a_few_callers_at_once_are_chance_and_no_rush() -> None:
    demand = Demand(DemandOptions())
    for _ in range(5):
        demand.arrived(1.0)
    assert demand.per_lead(1.0) == pytest.approx(0.5)


def test_a_lull_does_not_empty_the_shelf_at_once() -> None:
    demand, now = after_calls(5.0, 300.0)
    assert demand.lines(now + 10.0) >= 5


def test_when_nobody_comes_any_more_nothing_is_kept() -> None:
    demand, now = after_calls(5.0, 300.0)
    assert demand.lines(now + 900.0) == 0


def test_one_caller_now_and_then_is_worth_no_line() -> None:
    demand = Demand(DemandOptions())
    for number in range(10):
        demand.arrived(number * 600.0)
    assert demand.lines(9 * 600.0 + 120.0) == 0


@given(
    arrivals=st.lists(st.floats(0.0, 60.0), max_size=60),
    lead=st.floats(0.05, 10.0),
    later=st.lists(st.floats(0.0, 400.0), min_size=2, max_size=8),
)
def test_time_alone_never_calls_for_more(arrivals: list[float], lead: float, later: list[float]) -> None:
    """Why the timer need not ask: what grows the floor is an input."""
    demand = Demand(DemandOptions())
    demand.dialled(lead)
    for at in sorted(arrivals):
        demand.arrived(at)
    lines = [demand.lines(60.0 + each) for each in sorted(later)]
    assert lines == sorted(lines, reverse=True)
