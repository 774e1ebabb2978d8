"""How many lines a pool dials, and when: what is owed first, then the floor, and never more than it may."""

from gateway.core.effects import Close, Dial, Urgency
from gateway.core.ids import ConnectionId
from tests.unit.core.test_pool_stage import (
    Stage,
    all_of,
    closes,
    dials,
    grants,
    limits,
    one,
)

# The floor.


def test_nothing_is_dialled_before_the_start() -> None:
    stage = one(floor=2)
    assert stage.stats().total == 0
    assert dials(stage.start()) == [1, 2]


def test_the_floor_is_filled_and_no_more() -> None:
    stage = one(floor=3)
    assert len(stage.warm()) == 3
    assert stage.after(1.0) == []
    assert (stage.stats().ready, stage.stats().total) == (3, 3)


def test_without_a_floor_nothing_is_warm() -> None:
    assert one(floor=0).start() == []


def test_a_dial_says_whom_it_is_for() -> None:
    (refill,) = all_of(Dial, one(floor=1).start())
    (caused,) = all_of(Dial, one().ask()[1])
    assert (refill.urgency, caused.urgency) == (Urgency.REFILL, Urgency.WAITER)


def test_who_waits_is_dialled_for_before_any_floor() -> None:
    stage = Stage(a=limits(floor=2, ceiling=8), b=limits(ceiling=8))
    _, effects = stage.ask("b")
    assert [(dial.pool, dial.urgency) for dial in all_of(Dial, effects)] == [
        ("b", Urgency.WAITER),
        ("a", Urgency.REFILL),
        ("a", Urgency.REFILL),
    ]


def test_dials_in_flight_count_as_supply() -> None:
    stage = one(floor=2, ceiling=8)
    begun = dials(stage.start())
    stage.ready(begun[0])
    stage.granted()
    assert stage.stats().dialling == 2
    assert dials(stage.after(1.0)) == []


# How many at once.


def test_a_few_dials_begin_and_each_success_doubles_the_number() -> None:
    stage = one(floor=40, ceiling=40, dials_max=20)
    assert len(dials(stage.start())) == 4
    at_once = []
    for line in range(1, 5):
        stage.ready(ConnectionId(line))
        at_once.append(stage.stats().dialling)
    assert at_once == [8, 16, 20, 20]


def test_only_so_many_lines_are_dialled_at_once() -> None:
    stage = one(floor=8, ceiling=8, dials_max=2)
    first, _ = dials(stage.start())
    assert len(dials(stage.ready(first))) == 1


def test_after_a_failure_one_dial_tries_the_water() -> None:
    stage = one(floor=3, ceiling=8)
    first, second, third = dials(stage.start())
    stage.fail(first)
    stage.fail(second)
    assert dials(stage.after(60.0)) == []  # the third is still on its way
    stage.fail(third)
    (probe,) = dials(stage.after(60.0))
    assert len(dials(stage.ready(probe))) == 2


# The ceiling.


def test_the_ceiling_is_never_passed() -> None:
    stage = one(ceiling=3, dials_max=9)
    _, effects = stage.ask(wait=60.0)
    for _ in range(6):
        effects += stage.ask(wait=60.0)[1]
    stage.settle_dials(effects)
    assert (stage.stats().leased, stage.stats().total, stage.stats().waiting) == (3, 3, 4)


def test_the_ceiling_counts_lines_that_are_closing() -> None:
    stage = one(ceiling=1, floor=1)
    (line,) = stage.warm()
    stage.release(stage.granted())
    assert dials(stage.ask()[1]) == []
    assert stage.stats().total == 1
    assert len(dials(stage.closed(line))) == 1


def test_a_used_connection_is_never_granted_again() -> None:
    stage = one(floor=1, ceiling=1)
    (line,) = stage.warm()
    assert closes(stage.release(stage.granted())) == [Close(line, "ended")]
    _, effects = stage.ask()
    assert grants(effects) == []
    (replacement,) = dials(stage.closed(line))
    assert replacement != line
    assert grants(stage.ready(replacement))[0].connection_id == replacement


def test_the_ceilings_of_a_class_are_not_passed_together() -> None:
    stage = Stage(a=limits(ceiling=2), b=limits(ceiling=1))
    for pool in ("a", "a", "a", "b", "b"):
        stage.settle_dials(stage.ask(pool, wait=60.0)[1])
    assert [(stage.stats(pool).leased, stage.stats(pool).waiting) for pool in "ab"] == [(2, 1), (1, 1)]


# The reserve.


def test_the_reserve_is_kept_for_those_who_have_waited() -> None:
    stage = one(ceiling=3, reserve=2, reserve_after_ms=250)
    stage.settle_dials(stage.ask()[1])
    assert dials(stage.ask()[1]) == []
    assert dials(stage.after(0.249)) == []
    assert len(dials(stage.after(0.001))) == 1


def test_the_pool_wakes_when_the_reserve_opens() -> None:
    stage = one(ceiling=3, reserve=2, reserve_after_ms=250)
    stage.settle_dials(stage.ask()[1])
    stage.ask()
    assert stage.due_in() == 0.25


def test_the_floor_does_not_use_the_reserve() -> None:
    stage = one(floor=3, ceiling=3, reserve=2)
    assert len(stage.warm()) == 1
    assert stage.after(60.0) == []


def test_an_old_waiter_opens_the_reserve_for_those_who_wait_only() -> None:
    """The floor is not filled from it: the reserve would be gone when the next one has waited."""
    stage = one(floor=2, ceiling=4, reserve=2)
    stage.warm()
    for _ in range(3):
        stage.ask()
    assert (stage.stats().leased, stage.stats().waiting, stage.stats().dialling) == (2, 1, 0)
    assert len(dials(stage.after(0.25))) == 1
