"""The machine of the breaker, cell by cell, and what makes it move."""

from itertools import product

import pytest

from gateway.core.breaker import TABLE, Breaker, BreakerEvent, BreakerOptions, BreakerState
from gateway.core.errors import Reason
from gateway.core.transitions import IllegalTransitionError, step

S, E = BreakerState, BreakerEvent
DOWN, KEY = Reason.UPSTREAM_UNREACHABLE, Reason.UPSTREAM_REFUSED_KEY
FOREVER = float("inf")

# Written out a second time on purpose: the picture in the module's docstring.
ARROWS = {
    (S.CLOSED, E.FAILED_OFTEN): S.OPEN,
    (S.OPEN, E.PROBE_SENT): S.PROBING,
    (S.PROBING, E.PROBE_FAILED): S.OPEN,
    (S.PROBING, E.PROBE_SUCCEEDED): S.CLOSED,
}


@pytest.mark.parametrize(("state", "event"), list(product(S, E)))
def test_every_cell_is_an_arrow_or_raises(state: BreakerState, event: BreakerEvent) -> None:
    if (after := ARROWS.get((state, event))) is not None:
        assert step(TABLE, state, event) is after
    else:
        with pytest.raises(IllegalTransitionError):
            step(TABLE, state, event)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(BreakerOptions())
    for _ in range(5):
        breaker.failed(DOWN, now)
    assert breaker.is_open
    return breaker


def reopens_at(breaker: Breaker) -> float:
    return breaker.allows_at(waited_for=False)


# Opening.


def test_it_begins_closed_and_allows_everything() -> None:
    breaker = Breaker(BreakerOptions())
    assert not breaker.is_open
    assert (breaker.allows_at(waited_for=True), breaker.allows_at(waited_for=False)) == (0.0, 0.0)
    assert breaker.dialled() == 0


def test_five_failures_in_ten_seconds_open_it() -> None:
    breaker = Breaker(BreakerOptions())
    for at in (0.0, 3.0, 6.0, 9.0):
        breaker.failed(DOWN, at)
    assert not breaker.is_open
    breaker.failed(DOWN, 9.9)
    assert breaker.is_open
    assert breaker.last_failure is DOWN


def test_five_failures_over_ten_seconds_do_not_open_it() -> None:
    breaker = Breaker(BreakerOptions())
    for at in range(100):
        breaker.failed(DOWN, at * 2.5)
    assert not breaker.is_open


@pytest.mark.parametrize(("successes", "failures"), [(0, 5), (2, 5), (3, 7), (10, 21), (100, 201)])
def test_it_opens_at_more_than_two_failures_for_each_success(successes: int, failures: int) -> None:
    breaker = Breaker(BreakerOptions())
    for _ in range(successes):
        breaker.succeeded(1.0)
    for _ in range(failures - 1):
        breaker.failed(DOWN, 2.0)
    assert not breaker.is_open
    breaker.failed(DOWN, 2.0)
    assert breaker.is_open


def test_old_successes_do_not_excuse_new_failures() -> None:
    breaker = Breaker(BreakerOptions())
    for _ in range(100):
        breaker.succeeded(1.0)
    for _ in range(5):
        breaker.failed(DOWN, 11.0)
    assert breaker.is_open


def test_a_line_that_died_at_once_was_no_success() -> None:
    breaker = Breaker(BreakerOptions())
    for at in range(5):
        breaker.succeeded(at)
        breaker.died(at + 0.1, at)
    assert breaker.is_open
    assert breaker.last_failure is Reason.UPSTREAM_CLOSED


@pytest.mark.parametrize("reason", [Reason.CONFIG_REJECTED, Reason.UNKNOWN_MODEL, Reason.SAFETY_IDENTIFIER_REFUSED])
def test_what_one_template_is_refused_for_speaks_for_the_provider(reason: Reason) -> None:
    breaker = Breaker(BreakerOptions())
    for _ in range(99):
        breaker.failed(reason, 1.0)
    assert not breaker.is_open
    breaker = opened()
    breaker.failed(reason, 1.0, breaker.dialled())
    assert not breaker.is_open


def test_a_fault_of_our_own_says_nothing() -> None:
    breaker = Breaker(BreakerOptions())
    for _ in range(99):
        breaker.failed(Reason.INTERNAL, 1.0)
    assert not breaker.is_open
    breaker = opened()
    breaker.failed(Reason.INTERNAL, 1.0, breaker.dialled())
    assert breaker.is_open
    assert breaker.allows_at(waited_for=True) == 0.0


# Open.


def test_while_it_is_open_a_waiter_may_probe_at_once_and_the_floor_later() -> None:
    breaker = opened(now=100.0)
    assert breaker.allows_at(waited_for=True) == 0.0
    assert reopens_at(breaker) == 130.0


def test_while_a_probe_is_under_way_nothing_else_is_dialled() -> None:
    breaker = opened()
    assert breaker.dialled()
    assert (breaker.allows_at(waited_for=True), reopens_at(breaker)) == (FOREVER, FOREVER)


def test_a_probe_that_fails_opens_it_for_longer_up_to_five_minutes() -> None:
    breaker, times = opened(), list[float]()
    for _ in range(12):
        breaker.failed(DOWN, 1000.0, breaker.dialled())
        times.append(reopens_at(breaker) - 1000.0)
    assert times == [60.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0, 300.0, 300.0, 300.0]


def test_a_probe_that_succeeds_closes_it_and_old_failures_do_not_count_again() -> None:
    breaker = opened()
    breaker.dialled()
    breaker.succeeded(1.0)
    assert not breaker.is_open
    for _ in range(4):
        breaker.failed(DOWN, 2.0)
    assert not breaker.is_open


def test_a_probe_that_is_abandoned_leaves_it_open_as_it_was() -> None:
    breaker = opened(now=100.0)
    breaker.abandoned(breaker.dialled())
    assert breaker.is_open
    assert reopens_at(breaker) == 130.0
    assert breaker.allows_at(waited_for=True) == 0.0


def test_a_dial_from_before_it_opened_does_not_end_its_probe() -> None:
    breaker = opened(now=100.0)
    breaker.dialled()
    breaker.failed(DOWN, 110.0, 0)
    breaker.abandoned(0)
    assert breaker.allows_at(waited_for=True) == FOREVER


def test_a_probe_that_ends_twice_does_not_end_the_next() -> None:
    breaker = opened()
    first = breaker.dialled()
    breaker.abandoned(first)
    assert breaker.dialled() != first
    breaker.abandoned(first)
    assert breaker.allows_at(waited_for=True) == FOREVER


def test_a_line_that_has_stood_lets_the_next_opening_be_short_again() -> None:
    breaker = opened()
    breaker.failed(DOWN, 50.0, breaker.dialled())
    breaker.dialled()
    breaker.succeeded(200.0)
    breaker.proved()
    for _ in range(5):
        breaker.failed(DOWN, 1000.0)
    assert reopens_at(breaker) == 1030.0


def test_a_success_alone_does_not_make_the_next_opening_short_again() -> None:
    breaker = opened()
    breaker.dialled()
    breaker.succeeded(200.0)
    for _ in range(5):
        breaker.failed(DOWN, 1000.0)
    assert reopens_at(breaker) == 1060.0


def test_a_line_that_stands_while_it_is_open_proves_nothing() -> None:
    breaker = opened()
    breaker.proved()
    breaker.failed(DOWN, 100.0, breaker.dialled())
    assert reopens_at(breaker) == 160.0


# The key.


def test_a_key_that_is_refused_three_times_in_a_row_is_believed_to_be_bad() -> None:
    breaker = Breaker(BreakerOptions())
    for _ in range(2):
        breaker.failed(KEY, 1.0)
    assert (breaker.key_refused, breaker.is_open) == (False, False)
    breaker.failed(KEY, 2.0)
    assert breaker.key_refused
    assert breaker.is_open


@pytest.mark.parametrize("between", ["success", "failure"])
def test_only_refusals_in_a_row_count(between: str) -> None:
    breaker = Breaker(BreakerOptions())
    for _ in range(2):
        breaker.failed(KEY, 1.0)
    if between == "success":
        breaker.succeeded(1.0)
    else:
        breaker.failed(DOWN, 1.0)
    breaker.failed(KEY, 1.0)
    assert not breaker.key_refused


def test_a_refused_key_is_probed_every_half_minute_and_not_earlier_for_waiters() -> None:
    breaker = Breaker(BreakerOptions())
    for _ in range(3):
        breaker.failed(KEY, 0.0)
    for probed_at in (30.0, 60.0, 90.0):
        assert breaker.allows_at(waited_for=True) == reopens_at(breaker) == probed_at
        breaker.failed(KEY, probed_at, breaker.dialled())


def test_a_key_that_works_again_is_forgiven() -> None:
    breaker = Breaker(BreakerOptions())
    for _ in range(3):
        breaker.failed(KEY, 0.0)
    breaker.dialled()
    breaker.succeeded(30.0)
    assert (breaker.key_refused, breaker.is_open) == (False, False)


def test_a_new_key_is_tried_at_once() -> None:
    breaker = Breaker(BreakerOptions())
    for _ in range(3):
        breaker.failed(KEY, 0.0)
    breaker.forgive(7.0)
    assert not breaker.key_refused
    assert breaker.allows_at(waited_for=True) <= 7.0
    assert reopens_at(breaker) <= 7.0
