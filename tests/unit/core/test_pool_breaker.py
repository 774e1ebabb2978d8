"""What the breaker makes of a pool's dials, and of those of two pools that share one."""

from itertools import pairwise

import pytest

from gateway.core.backoff import BackoffOptions
from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.errors import Reason
from tests.unit.core.test_pool_stage import Stage, closes, dials, limits, one, rejects

QUICK = BackoffOptions(first_seconds=0.0)


def fail_until_open(stage: Stage) -> None:
    """Let the dials of a floor fail until the breaker opens."""
    begun = dials(stage.start())
    while not stage.breaker.is_open:
        begun = dials(stage.fail(begun[0])) or (begun if stage.breaker.is_open else stage.until_dial()[1])


def dials_of(stage: Stage, seconds: float, reason: Reason, *, asks_every: float | None = None) -> list[float]:
    """Let every dial fail for so long; return when each began."""
    times, end, asks_at = list[float](), stage.now + seconds, stage.now
    begun = dials(stage.start())
    while stage.now <= end:
        while begun:
            times.append(stage.now)
            begun += dials(stage.fail(begun.pop(0), reason))
        due = stage.due
        if asks_every is not None and (due is None or asks_at <= due):
            stage.now, asks_at = max(stage.now, asks_at), asks_at + asks_every
            begun += dials(stage.ask(wait=5.0)[1])
        elif due is None or due > end:
            break
        else:
            begun += dials(stage.until_due())
    return [time - 1000.0 for time in times]


def test_five_failures_stop_the_refill_for_half_a_minute() -> None:
    stage = one(floor=1, backoff=QUICK)
    fail_until_open(stage)
    assert stage.stats().breaker_open
    assert stage.until_dial()[0] == 30.0


def test_each_opening_lasts_half_a_minute_longer_up_to_five() -> None:
    times = dials_of(one(floor=1, backoff=QUICK), 3600.0, Reason.UPSTREAM_UNREACHABLE)
    probes = [round(after - before) for before, after in pairwise(times[4:])]
    assert probes[:3] == [30, 60, 90]
    assert max(probes) == 300


def test_a_waiter_may_cause_a_probe_while_the_breaker_is_open_but_one_at_a_time() -> None:
    stage = one(ceiling=8)
    stage.opened_breaker()
    _, effects = stage.ask()
    assert len(dials(effects)) == 1
    assert dials(stage.ask()[1]) == []
    assert dials(stage.after(1.0)) == []


def test_a_probe_that_succeeds_closes_the_breaker() -> None:
    stage = one(ceiling=8)
    stage.opened_breaker()
    begun = dials(stage.ask()[1])
    stage.ask()
    assert len(dials(stage.ready(begun[0]))) == 1
    assert not stage.stats().breaker_open


def test_a_probe_that_fails_leaves_it_open() -> None:
    stage = one(ceiling=8)
    stage.opened_breaker()
    begun = dials(stage.ask()[1])
    stage.fail(begun[0])
    assert stage.stats().breaker_open


@pytest.mark.parametrize("cancels", [True, False])
def test_a_probe_that_is_ended_from_here_leaves_the_way_free_for_the_next(cancels: bool) -> None:  # noqa: FBT001
    """The bug it was: nothing of the account was ever dialled again."""
    stage = one(ceiling=8)
    stage.opened_breaker()
    alone, effects = stage.ask_alone()
    told = stage.cancel(alone) if cancels else stage.core.fence(stage.now)
    assert [close.connection_id for close in closes(told)] == dials(effects)
    assert len(dials(told) or dials(stage.ask()[1])) == 1


def test_a_probe_that_hangs_is_given_up_for_another() -> None:
    stage = one(ceiling=8)
    stage.opened_breaker()
    (probe,) = dials(stage.ask(wait=60.0)[1])
    stage.begun(probe)
    stage.ask(wait=60.0)
    effects = stage.after(4.0)
    assert (len(closes(effects)), len(dials(effects))) == (1, 1)


def test_a_probe_without_a_place_at_the_account_is_asked_for_again() -> None:
    stage = one(ceiling=8)
    stage.opened_breaker()
    (probe,) = dials(stage.ask()[1])
    stage.refuse(probe, 0.5)
    assert len(dials(stage.after(0.5))) == 1


def test_two_pools_on_one_account_have_one_probe_between_them() -> None:
    breaker = Breaker(BreakerOptions())
    first, second = Stage(breaker, a=limits(ceiling=8)), Stage(breaker, a=limits(ceiling=8))
    (old,) = dials(second.ask(wait=60.0)[1])
    first.opened_breaker()
    (probe,) = dials(first.ask(wait=60.0)[1])
    second.fail(old)  # it began before the breaker opened
    assert dials(second.after(20.0)) == []
    first.ready(probe)
    assert len(dials(second.after(0.0))) == 1


def test_an_old_dial_that_gets_through_closes_the_breaker() -> None:
    breaker = Breaker(BreakerOptions())
    first, second = Stage(breaker, a=limits(ceiling=8)), Stage(breaker, a=limits(ceiling=8))
    (old,) = dials(second.ask(wait=60.0)[1])
    first.opened_breaker()
    first.ask(wait=60.0)
    second.ready(old)
    assert not breaker.is_open


def test_what_one_template_is_refused_for_does_not_open_it() -> None:
    stage = one(floor=1, backoff=QUICK)
    begun = dials(stage.start())
    for _ in range(9):
        begun = dials(stage.fail(begun[0], Reason.UNKNOWN_MODEL)) or stage.until_dial()[1]
    assert not stage.stats().breaker_open


# A key that is refused.


@pytest.mark.parametrize("asks_every", [None, 0.5])
def test_a_refused_key_is_tried_at_most_five_times_in_a_minute(asks_every: float | None) -> None:
    times = dials_of(one(floor=2), 59.9, Reason.UPSTREAM_REFUSED_KEY, asks_every=asks_every)
    assert 3 <= len(times) <= 5


def test_a_refused_key_is_probed_by_the_clock_alone_and_waiters_hear_of_it_at_once() -> None:
    stage = one(floor=1)
    times = dials_of(stage, 25.0, Reason.UPSTREAM_REFUSED_KEY)
    assert len(times) == 3
    assert stage.stats().key_refused
    waiter_id, effects = stage.ask()
    assert rejects(effects) == [(waiter_id, Reason.UPSTREAM_REFUSED_KEY)]


def test_a_key_that_is_accepted_again_is_good() -> None:
    stage = one(floor=1)
    dials_of(stage, 25.0, Reason.UPSTREAM_REFUSED_KEY)
    _, (probe,) = stage.until_dial()
    stage.ready(probe)
    assert not stage.stats().key_refused
    assert not stage.stats().breaker_open


def test_a_flapping_provider_is_not_dialled_in_a_loop() -> None:
    """It accepts, and drops after two seconds."""
    stage = one(floor=2)
    begun, times, end = dials(stage.start()), 0, stage.now + 60.0
    while stage.now < end:
        while begun:
            times += 1
            line = begun.pop(0)
            begun += dials(stage.ready(line))
            stage.now += 2.0
            begun += dials(stage.lose(line))
        _, begun = stage.until_dial()
    assert times <= 10
