"""Dials that fail: how long the next one waits, who is told so, and when it is over."""

import pytest

from gateway.core.backoff import BackoffOptions
from gateway.core.effects import Close
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId
from tests.unit.core.test_pool_stage import (
    WAIT_SECONDS,
    Stage,
    closes,
    dials,
    grants,
    one,
    rejects,
)

# Back-off.


def test_after_a_failure_the_next_dial_waits() -> None:
    stage = one(floor=1, backoff=BackoffOptions(first_seconds=0.25))
    (line,) = dials(stage.start())
    assert stage.fail(line) == []
    assert stage.due_in() == 0.25
    assert dials(stage.after(0.249)) == []
    assert len(dials(stage.after(0.001))) == 1


def test_failures_in_a_row_widen_the_wait() -> None:
    stage = one(floor=1, backoff=BackoffOptions(first_seconds=1.0, max_seconds=4.0))
    (line,) = dials(stage.start())
    waits = []
    for _ in range(4):
        stage.fail(line)
        waits.append(stage.due_in())
        (line,) = dials(stage.until_due())
    assert waits == [1.0, 2.0, 4.0, 4.0]


def test_a_dial_that_begins_after_a_failure_and_fails_at_once_widens_the_wait() -> None:
    """However soon after the last failure that is."""
    stage = one(floor=1, backoff=BackoffOptions(first_seconds=0.01))
    (line,) = dials(stage.start())
    stage.fail(line)
    (line,) = dials(stage.until_due())
    assert dials(stage.fail(line)) == []
    assert stage.until_dial()[0] == pytest.approx(0.02)


def test_the_providers_own_delay_is_kept() -> None:
    stage = one(floor=1)
    (line,) = dials(stage.start())
    stage.fail(line, Reason.UPSTREAM_RATE_LIMITED, retry_after=7.0)
    assert stage.due_in() == 7.0


def test_a_success_alone_does_not_end_the_back_off() -> None:
    stage = one(floor=2, dials_max=1, backoff=BackoffOptions(first_seconds=1.0))
    (line,) = dials(stage.start())
    for _ in range(3):
        stage.fail(line)
        (line,) = dials(stage.until_due())
    (second,) = dials(stage.ready(line))
    stage.fail(second)
    assert stage.until_dial()[0] == 8.0


def test_a_line_that_has_stood_ends_the_back_off() -> None:
    stage = one(floor=2, dials_max=1, backoff=BackoffOptions(first_seconds=1.0))
    (line,) = dials(stage.start())
    for _ in range(3):
        stage.fail(line)
        (line,) = dials(stage.until_due())
    (second,) = dials(stage.ready(line))
    stage.after(5.0)
    stage.fail(second)
    assert stage.due_in() == 1.0


def test_a_line_from_before_the_failures_proves_nothing() -> None:
    stage = one(floor=2, dials_max=1, backoff=BackoffOptions(first_seconds=1.0))
    (line,) = dials(stage.start())
    (second,) = dials(stage.ready(line))
    stage.now += 1.0
    for _ in range(3):
        stage.fail(second)
        _, (second,) = stage.until_dial()
    stage.after(5.0)
    stage.fail(second)
    assert stage.until_dial()[0] == 8.0


def test_who_waits_and_cannot_be_reached_in_time_is_sent_away_at_once() -> None:
    stage = one()
    waiter_id, effects = stage.ask(wait=2.0)
    told = stage.fail(dials(effects)[0], Reason.UPSTREAM_RATE_LIMITED, retry_after=2.0)
    assert rejects(told) == [(waiter_id, Reason.UPSTREAM_RATE_LIMITED)]


def test_who_can_still_be_reached_waits_on() -> None:
    stage = one()
    waiter_id, effects = stage.ask(wait=2.0)
    assert stage.fail(dials(effects)[0], Reason.UPSTREAM_RATE_LIMITED, retry_after=1.9) == []
    (line,) = dials(stage.after(1.9))
    assert [grant.waiter_id for grant in grants(stage.ready(line))] == [waiter_id]


def test_who_comes_while_dialling_fails_hopelessly_is_sent_away_at_once() -> None:
    stage = one()
    _, effects = stage.ask()
    stage.fail(dials(effects)[0], Reason.UPSTREAM_UNREACHABLE, retry_after=60.0)
    waiter_id, told = stage.ask()
    assert rejects(told) == [(waiter_id, Reason.UPSTREAM_UNREACHABLE)]


def test_a_waiter_with_a_line_on_its_way_is_not_hopeless() -> None:
    stage = one(ceiling=8)
    stage.settle_dials(stage.ask()[1])
    _, effects = stage.ask(wait=2.0)
    _, more = stage.ask(wait=2.0)
    (first,), (second,) = dials(effects), dials(more)
    assert stage.fail(first, retry_after=60.0) == []
    assert len(grants(stage.ready(second))) == 1


def test_a_waiter_learns_what_really_stands_in_the_way() -> None:
    stage = one()
    waiter_id, effects = stage.ask()
    stage.fail(dials(effects)[0], Reason.UPSTREAM_RATE_LIMITED)
    assert stage.stats().last_failure is Reason.UPSTREAM_RATE_LIMITED
    stage.after(1.0)
    assert rejects(stage.after(1.0)) == [(waiter_id, Reason.UPSTREAM_RATE_LIMITED)]


def test_a_failure_that_is_over_is_not_blamed() -> None:
    stage = one(ceiling=2)
    _, effects = stage.ask()
    stage.fail(dials(effects)[0])
    (line,) = dials(stage.after(1.0))
    stage.ready(line)
    assert stage.stats().last_failure is None
    waiter_id, _ = stage.ask()
    assert rejects(stage.after(WAIT_SECONDS)) == [(waiter_id, Reason.WAIT_TIMED_OUT)]


def test_who_waits_while_every_line_is_in_use_hears_that() -> None:
    stage = one(floor=1, ceiling=1)
    stage.warm()
    stage.granted()
    waiter_id, _ = stage.ask()
    assert rejects(stage.after(WAIT_SECONDS)) == [(waiter_id, Reason.POOL_EXHAUSTED)]


# Early deaths.


def test_a_quick_death_is_a_failure() -> None:
    stage = one(floor=1, backoff=BackoffOptions(first_seconds=0.25))
    (line,) = stage.warm()
    stage.now += 4.9
    assert dials(stage.lose(line)) == []
    assert stage.stats().last_failure is Reason.UPSTREAM_CLOSED
    assert stage.until_dial()[0] == pytest.approx(0.25)


def test_a_line_that_had_stood_is_replaced_at_once() -> None:
    stage = one(floor=1)
    (line,) = stage.warm()
    stage.now += 5.0
    assert len(dials(stage.lose(line))) == 1


def die_young(stage: Stage, times: int) -> None:
    """Let so many lines of the floor die as soon as they are ready."""
    begun = dials(stage.start())
    for time in range(times):
        if time:
            begun = dials(stage.after(10.0))
        stage.ready(begun[0])
        stage.lose(begun[0])


def test_after_three_quick_deaths_the_floor_is_left_for_half_a_minute() -> None:
    stage = one(floor=1)
    die_young(stage, 3)
    assert stage.until_dial()[0] == 30.0


def test_after_three_quick_deaths_a_waiter_still_causes_a_dial() -> None:
    stage = one(floor=1)
    die_young(stage, 3)
    stage.now += 8.0
    assert len(dials(stage.ask()[1])) == 1


def test_a_line_that_stands_after_quick_deaths_lets_the_floor_be_filled_again() -> None:
    stage = one(floor=1)
    die_young(stage, 3)
    stage.now += 8.0
    stage.settle_dials(stage.ask()[1])
    assert dials(stage.after(4.9)) == []
    assert len(dials(stage.after(0.1))) == 1


def test_a_line_that_comes_with_no_life_left_does_not_start_a_storm() -> None:
    """The clock of one side is wrong: dialling at once again would go on for ever."""
    stage = one(floor=1)
    (line,) = dials(stage.start())
    effects = stage.ready(line, life_seconds=0.0)
    assert len(closes(effects)) == 1
    assert dials(effects) == []
    assert len(dials(stage.until_due())) == 1


def test_a_refused_configuration_is_tried_rarely() -> None:
    stage = one(floor=1, backoff=BackoffOptions(first_seconds=1.0))
    (line,) = dials(stage.start())
    for _ in range(2):
        stage.fail(line, Reason.CONFIG_REJECTED)
        (line,) = dials(stage.until_due())
    stage.fail(line, Reason.CONFIG_REJECTED)
    assert stage.due_in() == 30.0
    waiter_id, effects = stage.ask()
    assert rejects(effects) == [(waiter_id, Reason.CONFIG_REJECTED)]


# No place, or no turn, at the account.


def test_a_refused_place_is_no_failure() -> None:
    stage = one(floor=1)
    (line,) = dials(stage.start())
    assert stage.refuse(line, 1.0) == []
    assert stage.stats().last_failure is None
    assert stage.due_in() == 1.0
    assert len(dials(stage.after(1.0))) == 1


def test_a_place_refused_to_the_floor_may_be_asked_for_by_a_waiter_at_once() -> None:
    stage = one(floor=1)
    (line,) = dials(stage.start())
    stage.refuse(line, 60.0)
    assert len(dials(stage.ask()[1])) == 1


def test_a_place_refused_to_a_waiter_is_asked_for_again_when_the_account_says() -> None:
    stage = one()
    _, effects = stage.ask()
    assert dials(stage.refuse(dials(effects)[0], 0.5)) == []
    assert dials(stage.after(0.49)) == []
    assert len(dials(stage.after(0.01))) == 1


@pytest.mark.parametrize("reason", [Reason.POOL_EXHAUSTED, Reason.RATE_LIMITED])
def test_who_waits_while_the_account_has_no_place_or_no_turn_hears_that(reason: Reason) -> None:
    stage = one()
    waiter_id, effects = stage.ask()
    assert rejects(stage.refuse(dials(effects)[0], 60.0, reason)) == []
    assert rejects(stage.after(WAIT_SECONDS)) == [(waiter_id, reason)]


def test_a_refused_dial_is_never_tried_again_at_once() -> None:
    stage = one()
    _, effects = stage.ask()
    assert dials(stage.refuse(dials(effects)[0], 0.0)) == []
    assert stage.until_dial()[0] == pytest.approx(0.05)


# Dials that hang.


def hanging(**changes: object) -> tuple[Stage, ConnectionId]:
    """Somebody who waits for a dial that hangs from the beginning."""
    stage = one(**changes)
    (line,) = dials(stage.ask(wait=120.0)[1])
    stage.begun(line)
    return stage, line


def test_a_hanging_dial_is_given_up_for_another() -> None:
    stage, line = hanging()
    assert stage.after(2.99) == []  # three times the usual second
    effects = stage.after(0.01)
    assert closes(effects) == [Close(line, "hanging")]
    assert len(dials(effects)) == 1


def test_the_pool_wakes_to_give_up_a_hanging_dial() -> None:
    stage, line = hanging()
    assert closes(stage.until_due()) == [Close(line, "hanging")]


def test_a_hanging_dial_of_the_floor_is_given_up_too() -> None:
    stage = one(floor=1)
    (line,) = dials(stage.start())
    stage.begun(line)
    assert closes(stage.after(3.0)) == [Close(line, "hanging")]


def test_patience_with_hanging_dials_grows_up_to_ten_seconds_when_it_does_not_help() -> None:
    stage, line = hanging(ceiling=16)
    waits = []
    for _ in range(7):
        since = stage.now
        while not closes(effects := stage.until_due()):
            pass
        waits.append(stage.now - since)
        (line,) = dials(effects)
        stage.begun(line)
    assert waits == [3.0, 3.0, 3.0, 3.0, 6.0, 10.0, 10.0]


def test_patience_is_never_under_a_second() -> None:
    stage = one(ceiling=99)
    for _ in range(60):  # every dial took no time
        stage.settle_dials(stage.ask(wait=60.0)[1])
    (line,) = dials(stage.ask(wait=60.0)[1])
    stage.begun(line)
    assert closes(stage.after(0.99)) == []
    assert closes(stage.after(0.01)) == [Close(line, "hanging")]


def test_a_success_gives_patience_its_usual_length_again() -> None:
    stage, line = hanging(ceiling=16)
    for _ in range(5):
        while not (begun := dials(stage.until_due())):
            pass
        (line,) = begun
        stage.begun(line)
    stage.ready(line)
    (line,) = dials(stage.ask(wait=60.0)[1])
    stage.begun(line)
    assert closes(stage.after(8.0)) == [Close(line, "hanging")]


def test_a_dial_that_nobody_needs_any_more_may_hang() -> None:
    stage = one()
    waiter_id, effects = stage.ask(wait=60.0)
    stage.begun(dials(effects)[0])
    stage.cancel(waiter_id)
    assert stage.after(30.0) == []


def test_a_dial_that_waits_for_its_turn_does_not_hang() -> None:
    stage = one()
    stage.ask(wait=60.0)
    assert stage.after(30.0) == []


def test_a_line_that_comes_when_its_dial_was_given_up_is_nobodys() -> None:
    stage, line = hanging()
    stage.after(3.0)
    assert grants(stage.ready(line)) == []
    assert stage.fail(line) == []
    assert stage.stats().last_failure is None
    stage.closed(line)
    assert (stage.stats().total, stage.stats().dialling) == (1, 1)
