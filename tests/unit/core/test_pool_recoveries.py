"""A running session that needs another line comes before new callers, and is never told that too many wait."""

from gateway.core.effects import Close, Dial, Effect, Urgency
from gateway.core.errors import Reason
from tests.unit.core.test_pool_stage import WAIT_SECONDS, Stage, dials, grants, limits, one, rejects


def urgencies(effects: list[Effect]) -> list[Urgency]:
    return [effect.urgency for effect in effects if isinstance(effect, Dial)]


def full(leased: int, **changes: object) -> Stage:
    """A pool whose lines are all in use."""
    stage = one(floor=0, ceiling=leased, reserve=0, dials_max=16, **changes)
    for _ in range(leased):
        _, effects = stage.ask()
        stage.ready(dials(effects)[0])
    return stage


def test_a_session_that_has_lost_its_line_is_served_before_those_who_wait() -> None:
    stage = one(dials_max=1)
    caller, effects = stage.ask()
    session, _ = stage.recover()
    (first,) = dials(effects)
    told = stage.ready(first)
    assert [grant.waiter_id for grant in grants(told)] == [session]
    assert [grant.waiter_id for grant in grants(stage.ready(dials(told)[0]))] == [caller]


def test_a_reserved_unit_is_not_taken_for_it() -> None:
    stage = one(floor=1)
    stage.warm()
    lease_id = stage.reserved()
    session, effects = stage.recover()
    assert grants(effects) == []
    caller, told = stage.redeem(lease_id)
    assert [grant.waiter_id for grant in grants(told)] == [caller]
    assert [grant.waiter_id for grant in grants(stage.ready(dials(effects)[0]))] == [session]


def test_a_queue_that_is_full_of_callers_has_room_for_it_and_it_takes_none_of_theirs() -> None:
    stage = full(4, waiters_max=1, rotations_max=0)
    stage.ask()
    sessions = [stage.recover() for _ in range(20)]
    assert [rejects(effects) for _, effects in sessions] == [[]] * 20
    other = full(4, waiters_max=1, rotations_max=0)
    other.recover()
    assert rejects(other.ask()[1]) == []


def test_so_many_of_its_lines_may_stand_above_the_ceiling_and_no_callers() -> None:
    stage = full(4, rotations_max=2)
    _, effects = stage.ask()
    assert dials(effects) == []
    begun = [dials(stage.recover()[1]) for _ in range(4)]
    assert [len(each) for each in begun] == [1, 1, 0, 0]
    for (line,) in begun[:2]:
        stage.ready(line)
    assert stage.stats().leased == 6
    assert dials(stage.ask()[1]) == []


def test_its_dials_are_the_most_urgent_and_so_are_no_others() -> None:
    stage = one(floor=0, dials_max=16, ceiling=16)
    assert urgencies(stage.ask()[1]) == [Urgency.WAITER]
    assert urgencies(stage.recover()[1]) == [Urgency.RECOVERY]
    assert urgencies(stage.ask()[1]) == [Urgency.WAITER]


def test_lines_in_reserve_are_dialled_for_it_at_once() -> None:
    stage = one(ceiling=4, reserve=4)
    assert dials(stage.ask()[1]) == []
    assert len(dials(stage.recover()[1])) >= 1


def test_a_pause_and_a_drain_are_for_new_callers() -> None:
    stage = one(floor=1)
    stage.warm()
    stage.core.pause("a")
    assert len(grants(stage.recover()[1])) == 1
    session, effects = stage.recover()
    (line,) = dials(effects)
    assert rejects(stage.core.drain(stage.now, "a")) == []
    assert [grant.waiter_id for grant in grants(stage.ready(line))] == [session]
    caller, effects = stage.ask()
    assert rejects(effects) == [(caller, Reason.DRAINING)]


def test_a_drained_pool_dials_for_it_alone_and_keeps_no_line_that_nobody_needs() -> None:
    stage = one(floor=2, dials_max=4)
    stage.core.drain(stage.now, "a")
    session, effects = stage.recover()
    assert urgencies(effects) == [Urgency.RECOVERY]
    assert [grant.waiter_id for grant in grants(stage.ready(dials(effects)[0]))] == [session]
    gone, effects = stage.recover()
    (line,) = dials(effects)
    stage.core.cancel(gone, stage.now)
    told = stage.ready(line)
    assert [effect.reason for effect in told if isinstance(effect, Close)] == ["drained"]
    assert dials(told) == []


def test_it_is_sent_away_when_its_time_is_up() -> None:
    stage = full(1, rotations_max=0)
    session, _ = stage.recover()
    stage.now += WAIT_SECONDS
    assert rejects(stage.core.tick(stage.now)) == [(session, Reason.POOL_EXHAUSTED)]


def test_it_says_nothing_of_demand() -> None:
    stage = Stage(a=limits(floor=0))
    stage.recover()
    assert stage.stats().floor == 0
