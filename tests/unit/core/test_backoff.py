"""Full jitter: somewhere below a ceiling that doubles, never above the greatest delay."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.backoff import BackoffOptions, full_jitter_seconds

OPTIONS = BackoffOptions(first_seconds=0.25, max_seconds=8.0)


class Highest(Random):
    """Draws the end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


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
