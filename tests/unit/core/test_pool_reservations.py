"""Reservations: a unit of supply is kept, not a line, and nothing is used up by one that ends."""

import pytest

from gateway.core.effects import Dial, Reject, Reserve, Urgency
from gateway.core.errors import Reason
from gateway.core.ids import LeaseId, WaiterId
from gateway.core.reservation import ReservationEvent
from tests.unit.core.test_pool_stage import (
    TTL_SECONDS,
    WAIT_SECONDS,
    Stage,
    all_of,
    closes,
    dials,
    grants,
    limits,
    one,
    rejects,
    reserves,
)

# To reserve.


def test_a_unit_that_is_there_is_reserved_at_once_and_no_line_is_taken() -> None:
    stage = one(floor=1)
    stage.warm()
    waiter_id, effects = stage.reserve()
    assert reserves(effects) == [Reserve(waiter_id, LeaseId("lease-1"), True, 0.0)]
    assert (stage.stats().ready, stage.stats().reserved, stage.stats().leased) == (1, 1, 0)


def test_what_is_reserved_is_refilled_like_what_is_taken() -> None:
    stage = one(floor=1)
    stage.warm()
    assert len(dials(stage.reserve()[1])) == 1


def test_who_reserves_waits_his_turn_for_a_unit() -> None:
    stage = one()
    waiter_id, effects = stage.reserve()
    stage.now += 0.5
    told = stage.ready(dials(effects)[0])
    assert reserves(told) == [Reserve(waiter_id, LeaseId("lease-1"), False, 0.5)]


def test_who_reserves_and_gets_no_unit_is_sent_away_at_his_deadline() -> None:
    stage = one()
    waiter_id, _ = stage.reserve()
    assert rejects(stage.after(WAIT_SECONDS)) == [(waiter_id, Reason.WAIT_TIMED_OUT)]
    assert stage.stats().reserved == 0


def test_those_who_reserve_and_those_who_want_a_line_stand_in_one_queue() -> None:
    stage = one(dials_max=1)
    _, effects = stage.reserve()
    second, _ = stage.ask()
    (line,) = dials(effects)
    told = stage.ready(line)
    assert (len(reserves(told)), grants(told)) == (1, [])
    assert [grant.waiter_id for grant in grants(stage.ready(dials(told)[0]))] == [second]


def test_after_as_many_reservations_as_lines_nobody_hits() -> None:
    stage = one(floor=3, ceiling=3)
    stage.warm()
    for _ in range(3):
        stage.reserved()
    waiter_id, effects = stage.ask()
    assert (grants(effects), stage.stats().ready) == ([], 3)
    assert [who for who, _ in rejects(stage.after(WAIT_SECONDS))] == [waiter_id]


def test_what_is_not_reserved_is_still_a_hit() -> None:
    stage = one(floor=2, ceiling=2)
    stage.warm()
    stage.reserved()
    assert len(grants(stage.ask()[1])) == 1
    assert grants(stage.ask()[1]) == []


# To redeem.


def test_a_reservation_is_redeemed_at_once() -> None:
    stage = one(floor=1)
    (line,) = stage.warm()
    lease_id = stage.reserved()
    waiter_id, effects = stage.redeem(lease_id)
    (grant,) = grants(effects)
    assert (grant.waiter_id, grant.connection_id, grant.at_once) == (waiter_id, line, True)
    assert stage.stats().reserved == 0


def test_a_reservation_is_redeemed_once() -> None:
    stage = one(floor=1)
    stage.warm()
    lease_id = stage.reserved()
    stage.redeem(lease_id)
    with pytest.raises(KeyError):
        stage.redeem(lease_id)


@pytest.mark.parametrize("event", [ReservationEvent.RELEASED, ReservationEvent.USED])
def test_a_reservation_that_has_ended_cannot_be_redeemed(event: ReservationEvent) -> None:
    stage = one(floor=1)
    stage.warm()
    lease_id = stage.reserved()
    stage.end(lease_id, event)
    with pytest.raises(KeyError):
        stage.redeem(lease_id)


@pytest.mark.parametrize("late_seconds", [0.0, 1.0])
def test_a_reservation_cannot_be_redeemed_from_its_expiry_on(late_seconds: float) -> None:
    """Whether or not the timer has rung meanwhile."""
    stage = one(floor=1)
    stage.warm()
    lease_id = stage.reserved()
    stage.now += TTL_SECONDS + late_seconds
    with pytest.raises(KeyError):
        stage.redeem(lease_id)


def test_a_reservation_for_one_template_is_none_for_another() -> None:
    stage = Stage(a=limits(floor=1), b=limits(floor=1))
    stage.warm()
    lease_id = stage.reserved("b")
    with pytest.raises(KeyError):
        stage.redeem(lease_id, "a")
    assert stage.holds(lease_id, "b")


def test_who_redeems_comes_before_everybody_else() -> None:
    stage = one(floor=1, ceiling=1)
    (line,) = stage.warm()
    lease_id = stage.reserved()
    stage.ask(wait=60.0)
    stage.now += 10.0
    (replacement,) = dials(stage.lose(line))
    redeemer, _ = stage.redeem(lease_id)
    assert [grant.waiter_id for grant in grants(stage.ready(replacement))] == [redeemer]


def test_who_redeems_what_was_reserved_elsewhere_comes_before_everybody_else() -> None:
    stage = one(dials_max=1)
    _, effects = stage.ask()
    redeemer, _ = stage.redeem(None)
    assert [grant.waiter_id for grant in grants(stage.ready(dials(effects)[0]))] == [redeemer]


def test_who_redeems_what_was_reserved_elsewhere_takes_no_unit_that_is_reserved_here() -> None:
    stage = one(floor=1)
    stage.warm()
    stage.reserved()
    assert grants(stage.redeem(None)[1]) == []
    assert stage.stats().reserved == 1


def test_a_unit_that_was_reserved_here_is_not_lost_to_who_reserved_elsewhere() -> None:
    stage = one(floor=1, ceiling=1)
    stage.warm()
    lease_id = stage.reserved()
    stage.redeem(None, wait=60.0)
    redeemer, effects = stage.redeem(lease_id)
    assert [grant.waiter_id for grant in grants(effects)] == [redeemer]


def test_those_who_redeem_are_served_in_their_order() -> None:
    stage = one(dials_max=1)
    _, effects = stage.reserve()
    (line,) = dials(effects)
    (made,) = reserves(stage.ready(line))
    stage.after(10.0)
    begun = dials(stage.lose(line))
    redeemers = [stage.redeem(made.lease_id)[0], stage.redeem(None)[0], stage.redeem(None)[0]]
    served = list[WaiterId]()
    while begun and len(served) < 3:
        effects = stage.ready(begun.pop(0))
        begun += dials(effects)
        served += [grant.waiter_id for grant in grants(effects)]
    assert served == redeemers


def test_the_place_of_a_waiter_counts_those_who_redeem() -> None:
    stage = one()
    ordinary, _ = stage.ask()
    redeemer, _ = stage.redeem(None)
    assert stage.core.positions("a") == {redeemer: 1, ordinary: 2}


def test_a_full_queue_is_full_for_foreign_redeemers_too() -> None:
    stage = one(waiters_max=1)
    stage.ask()
    waiter_id, effects = stage.redeem(None)
    assert effects == [Reject(waiter_id, Reason.QUEUE_FULL, 0.0)]


def test_a_reservation_is_honoured_while_its_template_is_paused() -> None:
    stage = one(floor=1)
    stage.warm()
    lease_id = stage.reserved()
    stage.core.pause("a")
    assert len(grants(stage.redeem(lease_id)[1])) == 1


# Ends.


@pytest.mark.parametrize("event", [ReservationEvent.RELEASED, ReservationEvent.USED])
def test_a_reservation_that_ends_burns_nothing(event: ReservationEvent) -> None:
    stage = one(floor=1, ceiling=1)
    (line,) = stage.warm()
    lease_id = stage.reserved()
    assert stage.end(lease_id, event) == []
    assert stage.granted().connection_id == line


def test_a_reservation_ends_at_its_expiry_and_burns_nothing() -> None:
    stage = one(floor=1, ceiling=1)
    (line,) = stage.warm()
    lease_id = stage.reserved(ttl=3.0)
    stage.after(2.99)
    assert stage.holds(lease_id)
    assert closes(stage.after(0.01)) == []
    assert not stage.holds(lease_id)
    assert stage.granted().connection_id == line


def test_the_pool_wakes_when_a_reservation_expires() -> None:
    stage = one(floor=1, ceiling=1)
    stage.warm()
    stage.after(10.0)
    stage.reserved(ttl=3.0)
    assert stage.due_in() == 3.0


def test_the_end_of_a_reservation_serves_who_waits() -> None:
    stage = one(floor=1, ceiling=1)
    stage.warm()
    lease_id = stage.reserved()
    waiter_id, _ = stage.ask()
    assert [grant.waiter_id for grant in grants(stage.end(lease_id))] == [waiter_id]


def test_a_reservation_that_has_ended_ends_nothing_more() -> None:
    stage = one(floor=2, ceiling=2)
    stage.warm()
    first, _second = stage.reserved(), stage.reserved()
    stage.end(first)
    assert stage.end(first) == []
    assert stage.stats().reserved == 1


def test_a_renewed_reservation_lives_on() -> None:
    stage = one(floor=1)
    stage.warm()
    lease_id = stage.reserved(ttl=3.0)
    stage.now += 2.0
    assert stage.core.renew_reservation(lease_id, 3.0, stage.now)
    stage.after(2.9)
    assert stage.holds(lease_id)
    stage.after(0.1)
    assert not stage.holds(lease_id)


def test_a_reservation_that_has_ended_is_not_renewed() -> None:
    stage = one(floor=1)
    stage.warm()
    lease_id = stage.reserved(ttl=3.0)
    assert not stage.core.renew_reservation(lease_id, 3.0, stage.now + 3.0)
    stage.end(lease_id)
    assert not stage.core.renew_reservation(lease_id, 3.0, stage.now)


def test_a_reserved_line_that_dies_is_replaced_as_if_somebody_waited() -> None:
    stage = one()
    _, effects = stage.reserve()
    (line,) = dials(effects)
    assert len(reserves(stage.ready(line))) == 1
    stage.after(10.0)
    (dial,) = all_of(Dial, stage.lose(line))
    assert dial.urgency is Urgency.WAITER
    assert stage.stats().reserved == 1


def test_a_drain_ends_reservations_and_refuses_who_redeems() -> None:
    stage = one(floor=1)
    stage.warm()
    lease_id = stage.reserved()
    stage.core.drain(stage.now)
    assert not stage.holds(lease_id)
    with pytest.raises(KeyError):
        stage.redeem(lease_id)
    waiter_id, effects = stage.redeem(None)
    assert rejects(effects) == [(waiter_id, Reason.DRAINING)]
