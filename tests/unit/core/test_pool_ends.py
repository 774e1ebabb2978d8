"""How lines and leases end: released, lost, leaked, aged, drained, recalled, fenced; each once."""

from random import Random

import pytest

from gateway.core.backoff import STUBBORN_AFTER, BackoffOptions
from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.effects import Close, Effect, Reject, Revoke
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId
from gateway.core.pool import OUTDATED_SECONDS, PoolCore
from gateway.core.share import NEVER
from tests.unit.core.test_pool_stage import (
    Stage,
    closes,
    dials,
    grants,
    lease_ids,
    limits,
    one,
    rejects,
    revokes,
)

# Leases.


def test_a_lease_ends_once() -> None:
    stage = one(floor=1)
    stage.warm()
    grant = stage.granted()
    assert closes(stage.release(grant)) == [Close(grant.connection_id, "ended")]
    assert stage.release(grant) == []
    assert stage.stats().draining == 1


def test_a_lease_that_nobody_gave_ends_nothing() -> None:
    stage = one(floor=1)
    stage.warm()
    assert stage.core.release(LeaseId("foreign"), "ended", stage.now) == []


def test_a_lease_ends_with_its_line() -> None:
    stage = one(floor=1, ceiling=1)
    (line,) = stage.warm()
    grant = stage.granted()
    stage.now += 5.0
    assert len(dials(stage.lose(line))) == 1
    assert stage.release(grant) == []
    assert not stage.core.renew(grant.lease_id, stage.now)
    assert (stage.stats().leased, stage.stats().draining) == (0, 0)


def test_a_line_may_be_lost_while_it_closes() -> None:
    stage = one(floor=1, ceiling=1)
    (line,) = stage.warm()
    stage.release(stage.granted())
    assert len(dials(stage.lose(line))) == 1
    assert stage.closed(line) == []


def test_the_early_death_of_a_leased_line_is_not_held_against_the_provider() -> None:
    """It was perhaps its caller's doing."""
    stage = one(backoff=BackoffOptions(first_seconds=0.0))
    for _ in range(6):
        (line,) = dials(stage.ask()[1])
        assert len(grants(stage.ready(line))) == 1
        stage.lose(line)
    assert not stage.breaker.is_open


def test_the_early_death_of_a_line_that_nobody_had_yet_is() -> None:
    stage = one(backoff=BackoffOptions(first_seconds=0.0))
    for _ in range(5):
        assert not stage.breaker.is_open
        waiter_id, effects = stage.ask()
        (line,) = dials(effects)
        stage.cancel(waiter_id)
        stage.ready(line)
        stage.lose(line)
        stage.now += 1.0
    assert stage.breaker.is_open


def test_lines_that_die_together_have_one_cause() -> None:
    """As when a provider restarts: they are replaced after one delay."""
    stage = one(floor=8, ceiling=16, backoff=BackoffOptions(first_seconds=1.0))
    for line in stage.warm():
        stage.lose(line)
    assert not stage.breaker.is_open
    assert stage.until_dial()[0] == pytest.approx(1.0)


# Leaks.


def test_a_lease_that_nobody_renews_is_taken_back() -> None:
    stage = one(floor=1, ceiling=1, leak_after_seconds=10.0)
    (line,) = stage.warm()
    grant = stage.granted()
    assert stage.after(9.9) == []
    assert stage.after(0.1) == [Revoke(grant.lease_id), Close(line, "leaked")]
    assert stage.release(grant) == []
    assert not stage.core.renew(grant.lease_id, stage.now)


def test_a_lease_that_is_renewed_is_never_taken_back() -> None:
    stage = one(floor=1, ceiling=1, leak_after_seconds=10.0)
    stage.warm()
    grant = stage.granted()
    for _ in range(20):
        assert revokes(stage.after(9.0)) == []
        assert stage.core.renew(grant.lease_id, stage.now)
    assert stage.stats().leased == 1


@pytest.mark.parametrize("renewed_after", [0.0, 2.4, 6.0, 9.9])
def test_a_leak_is_found_within_a_quarter_more_than_its_time(renewed_after: float) -> None:
    stage = one(floor=1, ceiling=1, leak_after_seconds=10.0)
    stage.warm()
    grant = stage.granted()
    stage.now += renewed_after
    stage.core.renew(grant.lease_id, stage.now)
    renewed_at = stage.now
    while not (told := revokes(stage.until_due())):
        pass
    assert told == [grant.lease_id]
    assert 10.0 <= stage.now - renewed_at <= 12.5


def test_each_template_has_its_own_time_after_which_a_lease_is_leaked() -> None:
    stage = Stage(
        a=limits(floor=1, ceiling=1, leak_after_seconds=10.0), b=limits(floor=1, ceiling=1, leak_after_seconds=40.0)
    )
    stage.warm()
    quick, slow = stage.granted("a"), stage.granted("b")
    ends = dict[LeaseId, float]()
    since = stage.now
    while len(ends) < 2:
        ends |= dict.fromkeys(revokes(stage.until_due()), stage.now - since)
    assert 10.0 <= ends[quick.lease_id] <= 12.5
    assert 40.0 <= ends[slow.lease_id] <= 50.0


# Age.


def test_an_idle_line_is_retired_by_age_and_replaced() -> None:
    stage = one(floor=1, age_max_seconds=300.0)
    (line,) = stage.warm()
    stage.after(5.0)
    assert stage.due_in() == 295.0
    assert stage.after(294.9) == []
    effects = stage.after(0.1)
    assert closes(effects) == [Close(line, "aged")]
    assert len(dials(effects)) == 1


def test_a_line_is_handed_out_only_while_most_of_its_life_is_left() -> None:
    stage = one(floor=1, age_max_seconds=300.0)
    (line,) = dials(stage.start())
    stage.ready(line, life_seconds=100.0)
    stage.now += 19.9
    stage.after(0.0)
    assert stage.stats().ready == 1
    stage.now += 0.1
    _, effects = stage.ask()
    assert closes(effects) == [Close(line, "aged")]
    assert grants(effects) == []


def test_lines_do_not_all_go_at_once() -> None:
    plain = limits(floor=8, ceiling=8, dials_max=8, age_max_seconds=300.0, age_jitter_ratio=0.2)
    core = PoolCore({"a": ("v1", plain)}, Breaker(BreakerOptions()), Random(5), lease_ids())
    begun = dials(core.start(0.0))
    while begun:
        begun += dials(core.dial_succeeded(begun.pop(0), None, 0.0))
    ends, now = list[float](), 0.0
    while len(ends) < 8:
        due = core.next_deadline(now)
        assert due is not None
        now = due
        ends += [now] * len(closes(core.tick(now)))
    assert len(set(ends)) == 8
    assert all(240.0 <= end <= 300.0 for end in ends)


def test_a_leased_line_does_not_age() -> None:
    stage = one(floor=1, ceiling=1, age_max_seconds=300.0)
    stage.warm()
    stage.ask()
    assert stage.after(10_000.0) == []


# Drain and pause.


def test_a_drained_pool_sends_waiters_away_and_closes_idle_lines() -> None:
    stage = one(floor=2, ceiling=3, dials_max=1)
    idle, leased = stage.warm()
    assert stage.granted().connection_id == leased
    effects = stage.core.drain(stage.now)
    assert closes(effects) == [Close(idle, "drained")]
    assert dials(effects) == []
    waiter_id, told = stage.ask()
    assert told == [Reject(waiter_id, Reason.DRAINING, 0.0)]
    assert stage.stats().draining_pool


def test_when_draining_nobody_waits() -> None:
    stage = one()
    waiters = [stage.ask()[0], stage.reserve()[0], stage.redeem(None)[0], stage.ask_alone()[0]]
    told = rejects(stage.core.drain(stage.now))
    assert sorted(told) == [(waiter_id, Reason.DRAINING) for waiter_id in waiters]
    assert stage.stats().waiting == 0


def test_a_line_that_comes_after_the_drain_is_closed() -> None:
    stage = one(floor=1)
    (line,) = dials(stage.start())
    stage.core.drain(stage.now)
    assert stage.ready(line) == [Close(line, "drained")]


def test_after_the_drain_nothing_is_dialled() -> None:
    stage = one(floor=3)
    first, second, third = dials(stage.start())
    stage.ready(first)
    stage.core.drain(stage.now)
    told = [*stage.fail(second), *stage.ready(third), *stage.closed(first), *stage.closed(third), *stage.after(100.0)]
    assert dials(told) == []


def test_after_drain_and_the_end_of_all_leases_nothing_is_left() -> None:
    stage = one(floor=2)
    idle, leased = stage.warm()
    grant = stage.granted()
    stage.core.drain(stage.now)
    stage.release(grant)
    assert stage.stats().dialling == 1
    stage.fail(ConnectionId(3))
    stage.closed(idle)
    stage.closed(leased)
    assert stage.stats().total == 0
    while stage.due is not None:
        assert stage.until_due() == []


def test_one_template_is_drained_alone() -> None:
    stage = Stage(a=limits(floor=1), b=limits(floor=1))
    stage.warm()
    assert [close.reason for close in closes(stage.core.drain(stage.now, "a"))] == ["drained"]
    assert rejects(stage.ask("a")[1])[0][1] is Reason.DRAINING
    assert len(grants(stage.ask("b")[1])) == 1


def test_a_paused_template_refuses_who_comes_and_serves_who_waits() -> None:
    stage = Stage(a=limits(), b=limits(floor=1))
    stage.warm()
    waiting, effects = stage.ask("a")
    stage.core.pause("a")
    assert stage.stats("a").paused
    refused = [stage.ask("a"), stage.reserve("a"), stage.ask_alone("a")]
    assert [rejects(told) for _, told in refused] == [[(who, Reason.POOL_PAUSED)] for who, _ in refused]
    assert [grant.waiter_id for grant in grants(stage.ready(dials(effects)[0]))] == [waiting]
    assert len(grants(stage.ask("b")[1])) == 1


def test_a_pause_or_a_drain_of_one_template_can_be_ended() -> None:
    stage = one(floor=1)
    stage.warm()
    stage.core.pause("a")
    assert stage.core.unpause("a", stage.now) == []
    stage.core.drain(stage.now, "a")
    assert len(dials(stage.core.unpause("a", stage.now))) == 1  # the floor
    assert not stage.stats().draining_pool


# Versions.


def test_a_ready_line_of_another_version_serves_until_its_successor_is_there() -> None:
    stage = one(floor=2, ceiling=8)
    older, newer = stage.warm()
    effects = stage.core.retire("a", "v2", stage.now)
    first, second = dials(effects)
    assert closes(effects) == []
    assert closes(stage.ready(first)) == [Close(older, "version")]
    assert closes(stage.ready(second)) == [Close(newer, "version")]
    assert stage.granted().configured


def test_the_new_lines_are_handed_out_first_and_leased_ones_live_on() -> None:
    stage = one(floor=2, ceiling=8)
    _, newer = stage.warm()
    assert stage.granted().connection_id == newer
    (first,) = dials(stage.core.retire("a", "v2", stage.now))  # another one was on its way already
    stage.ready(first)
    assert stage.granted().connection_id == first
    assert stage.stats().leased == 2


def test_a_line_of_an_old_version_is_handed_out_without_its_configuration_counting() -> None:
    stage = one(floor=1, ceiling=8)
    stage.warm()
    stage.core.retire("a", "v2", stage.now)
    assert not stage.granted().configured


def test_where_a_successor_finds_no_place_one_line_after_the_other_goes_before_it() -> None:
    stage = one(floor=2, ceiling=2, reserve=0)
    older, newer = stage.warm()
    assert closes(stage.core.retire("a", "v2", stage.now)) == [Close(older, "version")]
    (successor,) = dials(stage.closed(older))
    assert closes(stage.ready(successor)) == [Close(newer, "version")]
    assert stage.stats().ready == 1


def test_without_successors_the_old_lines_go_after_a_while() -> None:
    stage = one(floor=2, ceiling=8, proof_max_seconds=100.0)
    stage.warm()
    stage.core.retire("a", "v2", stage.now)
    since, effects = stage.now, list[Effect]()
    while not closes(effects):
        stage.now = stage.core.next_deadline(stage.now) or NEVER
        effects = stage.core.tick(stage.now)
    assert stage.now - since == OUTDATED_SECONDS
    assert [close.reason for close in closes(effects)] == ["version", "version"]


def test_to_name_a_version_again_does_not_give_old_lines_more_time() -> None:
    stage = one(floor=1, ceiling=8, proof_max_seconds=100.0)
    (line,) = stage.warm()
    stage.core.retire("a", "v2", stage.now)
    stage.now += OUTDATED_SECONDS - 1.0
    stage.core.retire("a", "v2", stage.now)
    stage.now += 1.0
    assert Close(line, "version") in closes(stage.core.tick(stage.now))


def test_a_dial_with_an_old_key_that_fails_says_nothing_of_the_new_one() -> None:
    stage = one(floor=4, ceiling=8)
    lines = dials(stage.start())
    stage.core.retire("a", "v1.1", stage.now)
    stage.core.forgive(stage.now)
    for line in lines:
        stage.fail(line, Reason.UPSTREAM_REFUSED_KEY)
    assert not stage.stats().key_refused
    assert stage.stats().dialling == 4


def test_a_template_that_is_added_is_served_and_one_that_was_drained_is_served_again() -> None:
    stage = one(floor=1)
    stage.warm()
    (line,) = dials(stage.core.add("b", "v1", limits(floor=1), stage.now))
    stage.ready(line)
    assert stage.granted("b").configured
    stage.core.drain(stage.now, "b")
    stage.core.add("b", "v2", limits(floor=1), stage.now)
    assert stage.stats("b").dialling == 1
    assert not stage.stats("b").draining_pool


def test_an_operator_may_have_them_closed_now() -> None:
    stage = one(floor=1, ceiling=8)
    (line,) = stage.warm()
    stage.core.retire("a", "v2", stage.now)
    assert closes(stage.core.retire("a", "v2", stage.now, at_once=True)) == [Close(line, "version")]


def test_a_dial_of_an_old_version_serves_until_its_successor_is_there() -> None:
    stage = one(floor=1)
    (line,) = dials(stage.start())
    assert stage.core.retire("a", "v2", stage.now) == []
    (replacement,) = dials(stage.ready(line))
    assert closes(stage.ready(replacement)) == [Close(line, "version")]
    assert stage.granted().configured


# Keys and limits.


def test_a_new_key_is_tried_at_once_whatever_the_old_one_was_refused_for() -> None:
    stage = one(floor=1)
    lines = dials(stage.start())
    for _ in range(STUBBORN_AFTER):
        stage.fail(lines[0], Reason.UPSTREAM_REFUSED_KEY)
        waited, lines = stage.until_dial()
    assert stage.stats().key_refused
    assert waited >= 20.0  # the old key is probed now and then
    (probe,) = lines
    (fresh,) = dials(stage.core.forgive(stage.now)) or [probe]
    stage.fail(probe, Reason.UPSTREAM_REFUSED_KEY)  # it had the old key, and says nothing of the new one
    if fresh == probe:
        waited, (fresh,) = stage.until_dial()
        assert waited <= 1.0
    stage.ready(fresh)
    assert not stage.stats().key_refused


def test_a_lower_ceiling_closes_idle_lines_and_no_leased_one() -> None:
    stage = one(floor=4, ceiling=8, reserve=0)
    stage.warm()
    stage.granted()
    effects = stage.core.set_limits("a", limits(floor=1, ceiling=2, reserve=0), stage.now)
    assert {close.reason for close in closes(effects)} == {"unwanted"}
    assert stage.stats().leased == 1
    assert stage.stats().leased + stage.stats().ready <= 2


def test_to_name_the_version_that_is_in_use_changes_nothing() -> None:
    stage = one(floor=1)
    stage.warm()
    assert stage.core.retire("a", "v1", stage.now) == []


# Other gateways.


def test_idle_lines_are_given_back_oldest_first_and_not_replaced_at_once() -> None:
    stage = Stage(a=limits(floor=2, dials_max=1), b=limits(floor=1))
    (first, second) = dials(stage.start())
    stage.now += 1.0
    (third,) = dials(stage.ready(first))
    stage.now += 1.0
    stage.ready(second)
    stage.now += 1.0
    stage.ready(third)
    effects = stage.core.give_back(2, stage.now)
    assert closes(effects) == [Close(first, "recalled"), Close(second, "recalled")]
    assert dials([*effects, *stage.closed(first), *stage.closed(second)]) == []
    since = stage.now
    assert len(stage.until_dial()[1]) == 2
    assert stage.now - since == 2.0


def test_no_line_that_somebody_is_owed_is_given_back() -> None:
    stage = one(floor=3, ceiling=3)
    first, second, _third = stage.warm()
    stage.reserved()
    effects = stage.core.give_back(3, stage.now)
    assert [close.connection_id for close in closes(effects)] == [first, second]


def test_who_comes_after_lines_were_given_back_causes_a_dial_at_once() -> None:
    stage = one(floor=1)
    stage.warm()
    stage.core.give_back(1, stage.now)
    assert len(dials(stage.ask()[1])) == 1


def test_a_fence_closes_everything_and_begins_anew() -> None:
    stage = one(floor=2, ceiling=8, dials_max=1)
    ready, _leased = stage.warm()
    grant = stage.granted()
    effects = stage.core.fence(stage.now)
    assert revokes(effects) == [grant.lease_id]
    assert sorted(close.connection_id for close in closes(effects)) == [1, 2, 3]
    assert {close.reason for close in closes(effects)} == {"fenced"}
    assert len(dials(effects)) == 1
    assert stage.release(grant) == []
    assert stage.stats().ready == 0
    assert ready not in dials(effects)
