"""Full jitter below a ceiling that doubles; how many dials at once; what ends it and what does not."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backoff import WIDTH_FIRST, Backoff, BackoffOptions, full_jitter_seconds
from gateway.core.errors import Reason
from tests.unit.core.test_pool_stage import Highest

OPTIONS = BackoffOptions(first_seconds=0.25, max_seconds=8.0)
DOWN = Reason.UPSTREAM_UNREACHABLE


def failed(times: int, reason: Reason = DOWN) -> Backoff:
    """So many failures, a second apart; the last at 100."""
    backoff = Backoff(OPTIONS, Highest())
    for number in range(times):
        at = 101.0 - times + number
        backoff.failed(reason, None, at)
    return backoff


def died_young(times: int) -> Backoff:
    """So many early deaths, a second apart; the last at 100."""
    backoff = Backoff(OPTIONS, Highest())
    for number in range(times):
        at = 101.0 - times + number
        backoff.died_young(at)
    return backoff


# The delay.


@pytest.mark.parametrize(("failures", "ceiling"), [(1, 0.25), (2, 0.5), (3, 1.0), (5, 4.0), (6, 8.0), (7, 8.0)])
def test_the_window_doubles_up_to_its_greatest(failures: int, ceiling: float) -> None:
    assert full_jitter_seconds(failures, OPTIONS, Highest()) == ceiling


@given(failures=st.integers(1, 10**9), seed=st.integers())
def test_a_delay_stays_within_its_window(failures: int, seed: int) -> None:
    delay = full_jitter_seconds(failures, OPTIONS, Random(seed))
    assert 0.0 <= delay <= min(8.0, 0.25 * 2.0 ** min(failures - 1, 60))


def test_many_gateways_do_not_come_together() -> None:
    delays = [full_jitter_seconds(6, OPTIONS, Random(seed)) for seed in range(400)]
    assert min(delays) < 1.0
    assert max(delays) > 7.0
    assert 3.5 < sum(delays) / len(delays) < 4.5


def test_a_long_outage_does_not_overflow() -> None:
    assert full_jitter_seconds(10**6, OPTIONS, Highest()) == 8.0


def test_the_greater_of_our_delay_and_the_providers_is_kept() -> None:
    backoff = Backoff(OPTIONS, Highest())
    backoff.failed(Reason.UPSTREAM_RATE_LIMITED, 3.0, 100.0, 99.0)
    assert backoff.not_before == 103.0
    backoff = Backoff(OPTIONS, Highest())
    backoff.failed(Reason.UPSTREAM_RATE_LIMITED, 0.1, 100.0, 99.0)
    assert backoff.not_before == 100.25


def test_a_later_failure_never_shortens_the_wait() -> None:
    backoff = Backoff(OPTIONS, Highest())
    backoff.failed(DOWN, 60.0, 100.0, 99.0)
    backoff.failed(DOWN, None, 101.0, 100.5)
    assert backoff.not_before == 160.0


@pytest.mark.parametrize(
    "reason",
    [
        Reason.UPSTREAM_REFUSED_KEY,
        Reason.CONFIG_REJECTED,
        Reason.UNKNOWN_MODEL,
        Reason.SAFETY_IDENTIFIER_REFUSED,
    ],
)
def test_what_does_not_heal_by_itself_is_believed_the_third_time(reason: Reason) -> None:
    assert failed(2, reason).not_before == 100.5
    assert failed(3, reason).not_before == 130.0


def test_dials_that_fail_together_are_one_failure() -> None:
    backoff = Backoff(OPTIONS, Highest())
    for _ in range(9):
        backoff.failed(DOWN, None, 100.0, 99.0)
    assert (backoff.failures, backoff.not_before) == (1, 100.25)


def test_a_dial_that_began_after_the_last_failure_is_one_of_its_own_however_soon_it_fails() -> None:
    backoff = Backoff(OPTIONS, Highest())
    for number in range(4):
        backoff.failed(DOWN, None, 100.0 + number / 100, 99.999 + number / 100)
    assert (backoff.failures, backoff.not_before) == (4, 102.03)


def test_the_providers_own_delay_counts_even_when_dials_fail_together() -> None:
    backoff = Backoff(OPTIONS, Highest())
    backoff.failed(DOWN, None, 100.0, 99.0)
    backoff.failed(DOWN, 9.0, 100.0, 99.0)
    assert backoff.not_before == 109.0


# At once.


def test_the_number_at_once_doubles_by_success_and_is_one_after_a_failure() -> None:
    backoff = Backoff(OPTIONS, Highest())
    widths = [backoff.width]
    for _ in range(4):
        backoff.succeeded()
        widths.append(backoff.width)
    assert widths == [4, 8, 16, 32, 64]
    backoff.failed(DOWN, None, 100.0, 99.0)
    assert backoff.width == 1
    backoff.succeeded()
    assert backoff.width == 2


def test_the_number_at_once_stays_a_number() -> None:
    backoff = Backoff(OPTIONS, Highest())
    for _ in range(1000):
        backoff.succeeded()
    assert backoff.width == 1 << 16


# What ends it.


def test_a_success_takes_the_blame_away_and_forgives_nothing() -> None:
    backoff = failed(3)
    backoff.succeeded()
    assert (backoff.failures, backoff.last_failure, backoff.not_before) == (3, None, 101.0)


def test_a_line_that_stands_and_is_younger_than_the_failures_ends_it() -> None:
    backoff = failed(3)
    backoff.proved(ready_at=101.0, now=106.0)
    assert backoff.failures == 0


def test_a_line_that_is_older_than_the_failures_ends_nothing() -> None:
    backoff = failed(3)
    backoff.proved(ready_at=97.9, now=104.0)
    assert backoff.failures == 3


def test_a_new_series_of_failures_begins_when_the_old_one_is_over() -> None:
    backoff = failed(3)
    backoff.proved(ready_at=101.0, now=106.0)
    backoff.failed(DOWN, None, 200.0, 199.0)
    backoff.proved(ready_at=150.0, now=201.0)
    assert backoff.failures == 1


# The floor's own delay.


def test_three_quick_deaths_keep_the_floor_from_being_refilled_and_not_the_waiters() -> None:
    assert died_young(2).refill_not_before == 0.0
    backoff = died_young(3)
    assert (backoff.refill_not_before, backoff.not_before) == (130.0, 101.0)
    assert backoff.last_failure is Reason.UPSTREAM_CLOSED


def test_a_line_that_stands_lets_the_floor_be_refilled() -> None:
    backoff = died_young(3)
    backoff.proved(ready_at=101.0, now=106.0)
    assert backoff.refill_not_before == 106.0
    backoff.died_young(110.0)
    assert backoff.refill_not_before == 106.0


def test_to_postpone_is_no_failure_and_never_brings_forward() -> None:
    backoff = Backoff(OPTIONS, Highest())
    backoff.postpone(5.0, 100.0)
    backoff.postpone(1.0, 100.0)
    backoff.postpone_refill(7.0, 100.0)
    backoff.postpone_refill(2.0, 100.0)
    assert (backoff.not_before, backoff.refill_not_before) == (105.0, 107.0)
    assert (backoff.failures, backoff.last_failure, backoff.width) == (0, None, WIDTH_FIRST)
