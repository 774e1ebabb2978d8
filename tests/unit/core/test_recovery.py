"""Whether a lost line is replaced, and for how long it is tried."""

from random import Random

import pytest

from gateway.core.errors import CapacityError, Reason, UpstreamClosedError, UpstreamError
from gateway.core.recovery import MENDED, Recovery, RecoveryOptions

LOST = UpstreamClosedError(Reason.UPSTREAM_CLOSED, "lost", upstream_code="1006")
SHUT = UpstreamClosedError(Reason.UPSTREAM_CLOSED, "lost", upstream_code="1000")
FULL = CapacityError(Reason.POOL_EXHAUSTED, "full")


@pytest.fixture
def recovery() -> Recovery:
    return Recovery(RecoveryOptions(), Random(1))


@pytest.mark.parametrize("reason", Reason)
def test_only_what_a_fresh_line_can_mend_is_mended(reason: Reason, recovery: Recovery) -> None:
    delay = recovery.lost(UpstreamError(reason, ""), 0.0, 100.0, has_spoken=True)
    assert delay == (0.0 if reason in MENDED else None)


@pytest.mark.parametrize(("end", "words"), [(LOST, 1), (SHUT, 1), (SHUT, 0)])
def test_lines_that_die_young_are_replaced_twice(end: UpstreamError, words: int, recovery: Recovery) -> None:
    delays = [recovery.lost(end, at, at + 4.9, has_spoken=words > 0) for at in (0.0, 10.0, 20.0)]
    assert delays == [0.0, 0.0, None]


def test_lines_that_were_dead_when_they_came_are_tries_and_no_young_ones(recovery: Recovery) -> None:
    assert recovery.lost(LOST, 0.0, 100.0, has_spoken=True) == 0.0
    delays = [recovery.lost(LOST, 100.0, 100.0, has_spoken=False) for _ in range(6)]
    assert delays[-1] is None, "they are tries of one recovery, and those have an end"
    for number, delay in enumerate(delays[:-1]):
        assert delay is not None
        assert delay <= 0.25 * 2**number
    assert recovery.lost(LOST, 100.0, 104.0, has_spoken=True) == 0.0


def test_a_silent_line_that_has_lived_is_replaced_at_once(recovery: Recovery) -> None:
    assert recovery.lost(LOST, 0.0, 100.0, has_spoken=False) == 0.0


def test_the_first_line_of_all_may_be_dead_when_it_comes(recovery: Recovery) -> None:
    assert recovery.lost(LOST, 100.0, 100.1, has_spoken=False) == 0.0


def test_a_line_that_has_lived_forgives_those_that_had_not(recovery: Recovery) -> None:
    for at in range(0, 1000, 100):
        for since, until in ((at, at + 1.0), (at + 1.0, at + 2.0), (at + 2.0, at + 8.0)):
            assert recovery.lost(LOST, since, until, has_spoken=True) == 0.0


def test_it_is_tried_again_later_and_later_and_given_up(recovery: Recovery) -> None:
    recovery.lost(LOST, 0.0, 100.0, has_spoken=True)
    delays = []
    while (delay := recovery.failed(FULL, 100.0)) is not None:
        delays.append(delay)
    assert len(delays) == 5
    assert all(delay <= 0.25 * 2**number for number, delay in enumerate(delays))


def test_it_is_given_up_after_twenty_seconds(recovery: Recovery) -> None:
    recovery.lost(LOST, 0.0, 100.0, has_spoken=True)
    assert recovery.left_seconds(105.0) == 15.0
    assert recovery.failed(FULL, 120.0) is None
    assert recovery.left_seconds(130.0) == 0.0
    recovery.lost(LOST, 0.0, 200.0, has_spoken=True)
    assert recovery.failed(FULL, 200.0) is not None, "the next loss has its own time"


def test_what_names_a_delay_is_believed_and_what_cannot_heal_is_not_tried(recovery: Recovery) -> None:
    recovery.lost(LOST, 0.0, 100.0, has_spoken=True)
    later = CapacityError(Reason.RATE_LIMITED, "later", retry_after_seconds=7.0)
    assert recovery.failed(later, 100.0) == 7.0
    assert recovery.failed(UpstreamError(Reason.UPSTREAM_REFUSED_KEY, "no"), 100.0) is None
