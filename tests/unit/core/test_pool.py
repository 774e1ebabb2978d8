"""The promises of the pool to those who ask for a line. The machine in tests/property tries them all at once."""

import pytest

from gateway.core.effects import Dial, Grant, Reject
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.transitions import IllegalTransitionError
from tests.unit.core.test_pool_stage import (
    WAIT_SECONDS,
    Stage,
    closes,
    dials,
    grants,
    limits,
    one,
    proves,
    rejects,
)

# Hits.


def test_a_ready_line_is_granted_at_once_and_counted_as_a_hit() -> None:
    stage = one(floor=1)
    (line,) = stage.warm()
    stage.now += 5.0
    waiter_id, effects = stage.ask()
    assert grants(effects) == [Grant(waiter_id, line, LeaseId("lease-1"), True, True, 5.0, 0.0)]


def test_a_line_that_was_taken_is_replaced_at_once() -> None:
    stage = one(floor=1)
    stage.warm()
    _, effects = stage.ask()
    assert [type(effect) for effect in effects] == [Grant, Dial]


def test_the_freshest_line_is_granted_first() -> None:
    stage = one(floor=3)
    first, second, third = dials(stage.start())
    for line in (first, third, second):
        stage.now += 1.0
        stage.ready(line)
    assert [stage.granted().connection_id for _ in range(3)] == [second, third, first]


def test_every_lease_has_its_own_id() -> None:
    stage = one(floor=3)
    stage.warm()
    assert len({stage.granted().lease_id for _ in range(3)}) == 3


def test_a_line_of_one_template_never_serves_another() -> None:
    stage = Stage(a=limits(floor=1), b=limits())
    stage.warm()
    _, effects = stage.ask("b")
    assert grants(effects) == []
    assert stage.stats().ready == 1


def test_to_ask_for_an_unknown_template_is_a_bug() -> None:
    with pytest.raises(KeyError):
        one().ask("unheard-of")


# Proofs of life.


def test_a_proof_is_asked_for_at_half_its_age() -> None:
    stage = one(floor=1, proof_max_seconds=10.0)
    (line,) = stage.warm()
    assert stage.due_in() == 5.0
    assert stage.after(4.99) == []
    assert proves(stage.after(0.01)) == [line]


def test_a_line_is_asked_once_at_a_time() -> None:
    stage = one(floor=1, proof_max_seconds=10.0)
    (line,) = stage.warm()
    assert proves(stage.after(5.0)) == [line]
    assert stage.after(1.0) == []
    assert stage.prove(line) == []
    assert stage.due_in() == 5.0
    assert proves(stage.after(5.0)) == [line]


def test_a_line_whose_proof_is_as_old_as_allowed_is_granted() -> None:
    stage = one(floor=1, proof_max_seconds=10.0)
    stage.warm()
    stage.now += 10.0
    assert len(grants(stage.ask()[1])) == 1


def test_a_line_with_a_stale_proof_is_asked_and_not_granted() -> None:
    stage = one(floor=1, proof_max_seconds=10.0)
    (line,) = stage.warm()
    stage.now += 10.01
    _, effects = stage.ask()
    assert (grants(effects), proves(effects)) == ([], [line])


def test_a_waiter_gets_the_stale_line_as_soon_as_it_is_proven() -> None:
    stage = one(floor=1, proof_max_seconds=10.0)
    (line,) = stage.warm()
    stage.now += 20.0
    waiter_id, _ = stage.ask()
    stage.now += 0.1
    (grant,) = grants(stage.prove(line))
    assert (grant.waiter_id, grant.connection_id, grant.at_once) == (waiter_id, line, False)


def test_a_stale_line_is_passed_over_for_an_older_one_that_is_proven() -> None:
    stage = one(floor=2, proof_max_seconds=10.0)
    older, _ = stage.warm()
    stage.after(5.0)
    stage.prove(older)
    stage.now += 8.0
    assert stage.granted().connection_id == older


def test_a_line_that_turns_out_dead_is_replaced_for_its_waiter() -> None:
    stage = one(floor=1, proof_max_seconds=10.0)
    (line,) = stage.warm()
    stage.now += 20.0
    waiter_id, effects = stage.ask()
    (refill,) = dials(effects)
    (replacement,) = dials(stage.lose(line))
    assert [grant.waiter_id for grant in grants(stage.ready(replacement))] == [waiter_id]
    assert grants(stage.ready(refill)) == []


def test_proof_of_a_line_that_is_gone_does_nothing() -> None:
    stage = one(floor=1, proof_max_seconds=10.0)
    (line,) = stage.warm()
    stage.after(5.0)
    stage.lose(line)
    assert stage.prove(line) == []


def test_a_leased_line_is_not_asked() -> None:
    stage = one(floor=1, ceiling=1, proof_max_seconds=10.0)
    stage.warm()
    stage.granted()
    assert proves(stage.after(60.0)) == []


# Waiting.


def test_a_waiter_gets_the_line_that_becomes_ready_and_is_no_hit() -> None:
    stage = one()
    waiter_id, effects = stage.ask()
    stage.now += 0.5
    (grant,) = grants(stage.ready(dials(effects)[0]))
    assert (grant.waiter_id, grant.at_once) == (waiter_id, False)
    assert (grant.entry_age_seconds, grant.waited_seconds) == (0.0, 0.5)


def test_nobody_waits_beside_a_ready_connection() -> None:
    stage = one()
    _, effects = stage.ask()
    stage.ask()
    stage.ready(dials(effects)[0])
    assert (stage.stats().waiting, stage.stats().ready) == (1, 0)


def test_first_come_first_served() -> None:
    stage = one()
    waiters, begun = list[WaiterId](), list[ConnectionId]()
    for _ in range(3):
        waiter_id, effects = stage.ask()
        waiters.append(waiter_id)
        begun += dials(effects)
    served = list[WaiterId]()
    while begun:  # the last dialled is ready first
        effects = stage.ready(begun.pop())
        begun += dials(effects)
        served += [grant.waiter_id for grant in grants(effects)]
    assert served == waiters


def test_a_waiter_knows_its_place() -> None:
    stage = one()
    first, second, third = (stage.ask()[0] for _ in range(3))
    assert stage.core.positions("a") == {first: 1, second: 2, third: 3}
    stage.cancel(first)
    assert stage.core.positions("a") == {second: 1, third: 2}


def test_a_waiter_is_sent_away_at_its_deadline() -> None:
    stage = one()
    waiter_id, _ = stage.ask()
    assert stage.after(WAIT_SECONDS - 0.001) == []
    (reject,) = stage.after(0.001)
    assert isinstance(reject, Reject)
    assert (reject.waiter_id, reject.reason) == (waiter_id, Reason.WAIT_TIMED_OUT)
    assert reject.waited_seconds == pytest.approx(WAIT_SECONDS)


def test_a_line_that_comes_at_the_deadline_is_too_late() -> None:
    stage = one()
    _, effects = stage.ask()
    stage.now += WAIT_SECONDS
    told = stage.ready(dials(effects)[0])
    assert [type(effect) for effect in told] == [Reject]
    assert stage.stats().ready == 1


def test_who_asks_after_his_own_deadline_is_sent_away_at_once() -> None:
    stage = one(floor=1)
    stage.warm()
    waiter_id, effects = stage.ask(wait=0.0)
    assert effects == [Reject(waiter_id, Reason.WAIT_TIMED_OUT, 0.0)]


def test_a_waiter_is_answered_once() -> None:
    stage = one()
    _, effects = stage.ask()
    assert len(grants(stage.ready(dials(effects)[0]))) == 1
    assert stage.after(WAIT_SECONDS) == []


def test_a_cancelled_waiter_is_not_answered_and_its_dial_goes_on() -> None:
    stage = one()
    waiter_id, effects = stage.ask()
    assert stage.cancel(waiter_id) == []
    assert stage.ready(dials(effects)[0]) == []
    assert stage.stats().ready == 1


def test_a_cancelled_waiter_does_not_dial_for_the_next() -> None:
    """The dial that it caused serves who comes then."""
    stage = one()
    waiter_id, effects = stage.ask()
    stage.cancel(waiter_id)
    second, more = stage.ask()
    assert more == []
    assert [grant.waiter_id for grant in grants(stage.ready(dials(effects)[0]))] == [second]


def test_to_cancel_who_does_not_wait_does_nothing() -> None:
    assert one().cancel(WaiterId(99)) == []


def test_a_full_queue_sends_away_at_once() -> None:
    stage = one(waiters_max=1)
    stage.ask()
    waiter_id, effects = stage.ask()
    assert effects == [Reject(waiter_id, Reason.QUEUE_FULL, 0.0)]
    assert stage.stats().waiting == 1


def test_a_pool_without_a_queue_still_gives_what_is_ready() -> None:
    stage = one(floor=1, waiters_max=0)
    stage.warm()
    assert len(grants(stage.ask()[1])) == 1
    waiter_id, effects = stage.ask()
    assert rejects(effects) == [(waiter_id, Reason.QUEUE_FULL)]


def test_a_queue_is_not_full_of_waiters_that_are_too_late() -> None:
    stage = one(waiters_max=1)
    late, effects = stage.ask()
    stage.now += WAIT_SECONDS
    second, told = stage.ask()
    assert rejects(told) == [(late, Reason.WAIT_TIMED_OUT)]
    assert [grant.waiter_id for grant in grants(stage.ready(dials(effects)[0]))] == [second]


def test_the_age_of_the_oldest_waiter_is_known() -> None:
    stage = one()
    stage.ask()
    stage.now += 0.5
    stage.ask()
    assert stage.stats().oldest_wait_seconds == 0.5


# What is no use of the pool.


def test_what_is_on_no_shelf_is_a_bug() -> None:
    with pytest.raises(KeyError):
        one().lose(ConnectionId(7))


def test_a_line_that_is_not_on_its_way_cannot_become_ready_again() -> None:
    stage = one(floor=1)
    (line,) = stage.warm()
    assert stage.ready(line) == []
    assert (stage.stats().ready, stage.stats().total) == (1, 1)


def test_a_dial_cannot_be_lost_before_it_is_a_line() -> None:
    stage = one(floor=1)
    (line,) = dials(stage.start())
    with pytest.raises(IllegalTransitionError):
        stage.lose(line)


def test_a_line_that_leaves_by_age_takes_nobody_along() -> None:
    """It goes before anybody is served, and who asks then gets the next one."""
    stage = one(floor=1, age_max_seconds=300.0)
    (line,) = stage.warm()
    stage.now += 300.0
    waiter_id, effects = stage.ask()
    assert (len(closes(effects)), grants(effects)) == (1, [])
    lines = dials(effects)
    assert line not in lines
    assert [grant.waiter_id for grant in grants(stage.ready(lines[0]))] == [waiter_id]
