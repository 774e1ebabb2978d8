"""The one timer: never in the past, nothing missed, and not rung again and again for nothing."""

import pytest

from gateway.core.backoff import BackoffOptions
from gateway.core.effects import Effect
from tests.unit.core.test_pool_stage import (
    ON,
    Stage,
    closes,
    dials,
    limits,
    one,
    proves,
    revokes,
)


def test_an_idle_pool_needs_no_timer() -> None:
    assert Stage().due is None


def test_the_next_deadline_is_the_first() -> None:
    stage = one(ceiling=1)
    stage.ask(wait=0.2)
    stage.ask(wait=0.1)
    assert stage.due_in() == pytest.approx(0.1)


@pytest.mark.parametrize("late_seconds", [0.0, 1e-6, 0.5])
def test_a_waiters_deadline_that_passed_since_the_last_input_is_due_now(late_seconds: float) -> None:
    """The shell asks with a later clock than it settled with; what came due between is not forgotten."""
    stage = one(ceiling=1, reserve_after_ms=10_000)
    stage.ask(wait=0.001)
    stage.now += 0.001 + late_seconds
    assert stage.due == stage.now


def test_a_back_off_that_passed_since_the_last_input_is_due_now() -> None:
    stage = one(floor=1, backoff=BackoffOptions(first_seconds=1e-6))
    (line,) = dials(stage.start())
    stage.fail(line)
    stage.now += 0.001
    assert stage.due == stage.now


def test_the_pool_wakes_for_a_dial_that_has_begun_to_hang_since_the_last_settling() -> None:
    stage = one(reserve_after_ms=0)
    _, effects = stage.ask(wait=60.0)
    stage.now += 1.0
    stage.begun(dials(effects)[0])
    assert stage.due_in() == 3.0


def test_the_pool_wakes_when_a_line_has_stood_for_long_enough() -> None:
    """What failed before is over then, and the floor may be filled again."""
    stage = one(floor=1)
    begun = dials(stage.start())
    for _ in range(3):
        stage.ready(begun[0])
        stage.lose(begun[0])
        begun = dials(stage.after(10.0))
    (line,) = dials(stage.ask()[1])
    stage.ready(line)
    assert stage.due_in() == 5.0
    assert len(dials(stage.until_due())) == 1


def test_a_pool_that_can_do_nothing_is_not_called_again_and_again() -> None:
    stage = one(floor=4, ceiling=4, reserve=2)
    stage.warm()
    stage.after(5.0)
    assert stage.after(1.0) == []
    assert stage.due_in() > 100.0


def story(stage: Stage) -> list[Effect]:
    """A morning with a little of everything."""
    told = stage.start()
    told += stage.ready(dials(told)[0])
    told += stage.reserve("a", ttl=7.0)[1]
    told += stage.ask("b", wait=9.0)[1]
    line = dials(told)[-1]
    stage.begun(line)
    told += stage.ask("b", wait=9.0)[1]
    told += stage.fail(dials(told)[1])
    return told + stage.ask("a")[1]


def busy() -> Stage:
    plain = {"age_max_seconds": 40.0, "proof_max_seconds": 10.0, "leak_after_seconds": 10.0}
    return Stage(a=limits(floor=2, ceiling=8, reserve=1, **plain), b=limits(ceiling=4, reserve=1, demand=ON, **plain))


def test_a_tick_at_every_deadline_does_what_a_tick_every_fifty_milliseconds_does() -> None:
    """And between the deadlines nothing happens."""
    by_deadline, often = busy(), busy()
    assert story(by_deadline) == story(often)
    for _ in range(400):
        due = by_deadline.due
        if due is None:
            break
        while often.now + 0.05 < due:
            assert often.after(0.05) == [], "a deadline was missed"
        often.now = by_deadline.now = due
        assert by_deadline.after(0.0) == often.after(0.0)


def test_every_ring_moves_the_timer_on() -> None:
    stage = busy()
    story(stage)
    for _ in range(400):
        due = stage.due
        if due is None:
            break
        stage.now = due
        effects = stage.after(0.0)
        assert stage.after(0.0) == [], "not at rest"
        for line in proves(effects):
            stage.prove(line)
        for close in closes(effects):
            stage.closed(close.connection_id)
        assert stage.due is None or stage.due > due
        assert revokes(effects) == [] or stage.now >= 1010.0
    assert stage.now >= 1040.0
