"""The promises of the pool, one by one. The machine in tests/property tries them all at once."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from random import Random

import pytest

from gateway.core.backoff import BackoffOptions
from gateway.core.effects import Close, Dial, Effect, Grant, Reject
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolLimits, PoolStats
from gateway.core.transitions import IllegalTransitionError

WAIT_SECONDS = 2.0


class Highest(Random):
    """Draws the end of every range: no jitter, the whole back-off."""

    def random(self) -> float:
        return 1.0

    def uniform(self, a: float, b: float) -> float:
        return b


def lease_ids() -> Iterator[LeaseId]:
    return (LeaseId(f"lease-{number}") for number in count(1))


class Shelf:
    """One pool and a clock; every input is told at `now`."""

    def __init__(self, **limits: object) -> None:
        plain = PoolLimits(floor=0, ceiling=4, reserve=0, age_jitter_ratio=0.0)
        self.core = PoolCore(replace(plain, **limits), Highest(), lease_ids())  # type: ignore[arg-type]
        self.now = 1000.0
        self._waiter_ids = count(1)

    @property
    def stats(self) -> PoolStats:
        return self.core.stats(self.now)

    @property
    def due(self) -> float | None:
        return self.core.next_deadline(self.now)

    def start(self) -> list[Effect]:
        return self.core.start(self.now)

    def ask(self, wait_seconds: float = WAIT_SECONDS) -> tuple[WaiterId, list[Effect]]:
        waiter_id = WaiterId(next(self._waiter_ids))
        return waiter_id, self.core.request(waiter_id, self.now + wait_seconds, self.now)

    def ready(self, connection_id: ConnectionId, life_seconds: float | None = None) -> list[Effect]:
        return self.core.dial_succeeded(connection_id, life_seconds, self.now)

    def fail(self, connection_id: ConnectionId, reason: Reason = Reason.UPSTREAM_UNREACHABLE) -> list[Effect]:
        return self.core.dial_failed(connection_id, reason, self.now)

    def tick_after(self, seconds: float) -> list[Effect]:
        self.now += seconds
        return self.core.tick(self.now)

    def warm(self, lines: int) -> list[ConnectionId]:
        """Start with so many lines READY (the floor must ask for them)."""
        dialled = dials(self.start())
        assert len(dialled) == lines
        for connection_id in dialled:
            self.ready(connection_id)
        return dialled


def dials(effects: list[Effect]) -> list[ConnectionId]:
    return [effect.connection_id for effect in effects if isinstance(effect, Dial)]


def grants(effects: list[Effect]) -> list[Grant]:
    return [effect for effect in effects if isinstance(effect, Grant)]


def rejects(effects: list[Effect]) -> list[Reject]:
    return [effect for effect in effects if isinstance(effect, Reject)]


def closes(effects: list[Effect]) -> list[Close]:
    return [effect for effect in effects if isinstance(effect, Close)]


# The floor.


def test_nothing_is_dialled_before_the_start() -> None:
    shelf = Shelf(floor=2)
    assert shelf.stats.total == 0
    assert dials(shelf.start()) == [1, 2]


def test_the_floor_is_filled_and_no_more() -> None:
    shelf = Shelf(floor=3)
    assert len(shelf.warm(3)) == 3
    assert shelf.tick_after(1.0) == []
    assert (shelf.stats.ready, shelf.stats.total) == (3, 3)


def test_only_so_many_lines_are_dialled_at_once() -> None:
    shelf = Shelf(floor=4, dials_max=2)
    first = dials(shelf.start())
    assert len(first) == 2
    assert len(dials(shelf.ready(first[0]))) == 1


def test_a_line_that_was_taken_is_replaced_at_once() -> None:
    shelf = Shelf(floor=1)
    shelf.warm(1)
    _, effects = shelf.ask()
    assert [type(effect) for effect in effects] == [Grant, Dial]


def test_without_a_floor_nothing_is_warm() -> None:
    assert Shelf(floor=0).start() == []


# Grants.


def test_a_ready_line_is_granted_at_once_and_counted_as_a_hit() -> None:
    shelf = Shelf(floor=1)
    (line,) = shelf.warm(1)
    shelf.now += 5.0
    waiter_id, effects = shelf.ask()
    assert grants(effects) == [Grant(waiter_id, line, LeaseId("lease-1"), True, 5.0, 0.0)]


def test_a_waiter_gets_the_line_that_becomes_ready_and_is_no_hit() -> None:
    shelf = Shelf()
    waiter_id, effects = shelf.ask()
    shelf.now += 0.5
    (grant,) = grants(shelf.ready(dials(effects)[0]))
    assert (grant.waiter_id, grant.at_once) == (waiter_id, False)
    assert (grant.entry_age_seconds, grant.waited_seconds) == (0.0, 0.5)


def test_nobody_waits_beside_a_ready_connection() -> None:
    shelf = Shelf()
    _, effects = shelf.ask()
    shelf.ask()
    shelf.ready(dials(effects)[0])
    assert (shelf.stats.waiting, shelf.stats.ready) == (1, 0)


def test_first_come_first_served() -> None:
    shelf = Shelf()
    asked = [shelf.ask() for _ in range(3)]
    lines = [line for _, effects in asked for line in dials(effects)]
    served = [grant.waiter_id for line in reversed(lines) for grant in grants(shelf.ready(line))]
    assert served == [waiter_id for waiter_id, _ in asked]


def test_the_freshest_line_is_granted_first() -> None:
    shelf = Shelf(floor=3)
    for line in (dialled := dials(shelf.start())):
        shelf.now += 1.0
        shelf.ready(line)
    _, effects = shelf.ask()
    assert grants(effects)[0].connection_id == dialled[-1]


def test_every_lease_has_its_own_id() -> None:
    shelf = Shelf(floor=3)
    shelf.warm(3)
    assert len({grants(shelf.ask()[1])[0].lease_id for _ in range(3)}) == 3


# Waiting.


def test_a_waiter_knows_its_place() -> None:
    shelf = Shelf()
    first, second, third = (shelf.ask()[0] for _ in range(3))
    assert [shelf.core.position(each) for each in (first, second, third)] == [1, 2, 3]
    shelf.core.cancel(first, shelf.now)
    assert [shelf.core.position(each) for each in (first, second, third)] == [0, 1, 2]


def test_a_waiter_is_sent_away_at_its_deadline() -> None:
    shelf = Shelf()
    waiter_id, _ = shelf.ask()
    assert rejects(shelf.tick_after(WAIT_SECONDS - 0.001)) == []
    (reject,) = rejects(shelf.tick_after(0.001))
    assert (reject.waiter_id, reject.reason) == (waiter_id, Reason.WAIT_TIMED_OUT)
    assert reject.waited_seconds == pytest.approx(WAIT_SECONDS)


def test_a_line_that_comes_at_the_deadline_is_too_late() -> None:
    shelf = Shelf()
    _, effects = shelf.ask()
    shelf.now += WAIT_SECONDS
    told = shelf.ready(dials(effects)[0])
    assert [type(effect) for effect in told] == [Reject]
    assert shelf.stats.ready == 1


def test_a_waiter_is_answered_once() -> None:
    shelf = Shelf()
    _, effects = shelf.ask()
    assert len(grants(shelf.ready(dials(effects)[0]))) == 1
    assert shelf.tick_after(WAIT_SECONDS) == []


def test_a_cancelled_waiter_is_not_answered_and_its_dial_goes_on() -> None:
    shelf = Shelf()
    waiter_id, effects = shelf.ask()
    assert shelf.core.cancel(waiter_id, shelf.now) == []
    assert shelf.ready(dials(effects)[0]) == []
    assert shelf.stats.ready == 1


def test_a_cancelled_waiter_does_not_dial_for_the_next() -> None:
    """The dial that it caused serves who comes then."""
    shelf = Shelf()
    waiter_id, effects = shelf.ask()
    shelf.core.cancel(waiter_id, shelf.now)
    second, more = shelf.ask()
    assert more == []
    assert [grant.waiter_id for grant in grants(shelf.ready(dials(effects)[0]))] == [second]


def test_to_cancel_who_does_not_wait_does_nothing() -> None:
    shelf = Shelf()
    assert shelf.core.cancel(WaiterId(99), shelf.now) == []


def test_a_full_queue_sends_away_at_once() -> None:
    shelf = Shelf(waiters_max=1)
    shelf.ask()
    waiter_id, effects = shelf.ask()
    assert effects == [Reject(waiter_id, Reason.QUEUE_FULL, 0.0)]
    assert shelf.stats.waiting == 1


def test_a_pool_without_a_queue_still_gives_what_is_ready() -> None:
    shelf = Shelf(floor=1, waiters_max=0)
    shelf.warm(1)
    assert len(grants(shelf.ask()[1])) == 1
    assert [reject.reason for reject in rejects(shelf.ask()[1])] == [Reason.QUEUE_FULL]


def test_a_queue_is_not_full_of_waiters_that_are_too_late() -> None:
    shelf = Shelf(waiters_max=1)
    late, effects = shelf.ask()
    shelf.now += WAIT_SECONDS
    second, told = shelf.ask()
    assert [(each.waiter_id, each.reason) for each in rejects(told)] == [(late, Reason.WAIT_TIMED_OUT)]
    assert [grant.waiter_id for grant in grants(shelf.ready(dials(effects)[0]))] == [second]


def test_the_age_of_the_oldest_waiter_is_known() -> None:
    shelf = Shelf()
    shelf.ask()
    shelf.now += 0.5
    shelf.ask()
    assert shelf.stats.oldest_wait_seconds == 0.5


# Ends of lines and leases.


def test_a_used_connection_is_never_granted_again() -> None:
    shelf = Shelf(floor=1, ceiling=1)
    (line,) = shelf.warm(1)
    (grant,) = grants(shelf.ask()[1])
    assert closes(shelf.core.release(grant.lease_id, "ended", shelf.now)) == [Close(line, "ended")]
    _, effects = shelf.ask()
    assert grants(effects) == []
    (replacement,) = dials(shelf.core.close_finished(line, shelf.now))
    assert replacement != line
    assert grants(shelf.ready(replacement))[0].connection_id == replacement


def test_a_lease_ends_once() -> None:
    shelf = Shelf(floor=1)
    shelf.warm(1)
    (grant,) = grants(shelf.ask()[1])
    assert closes(shelf.core.release(grant.lease_id, "ended", shelf.now))
    assert shelf.core.release(grant.lease_id, "ended", shelf.now) == []
    assert shelf.stats.draining == 1


def test_a_lease_that_nobody_gave_ends_nothing() -> None:
    shelf = Shelf(floor=1)
    shelf.warm(1)
    assert shelf.core.release(LeaseId("foreign"), "ended", shelf.now) == []


def test_a_lease_ends_with_its_line() -> None:
    shelf = Shelf(floor=1, ceiling=1)
    (line,) = shelf.warm(1)
    (grant,) = grants(shelf.ask()[1])
    assert len(dials(shelf.core.connection_lost(line, shelf.now))) == 1
    assert shelf.core.release(grant.lease_id, "ended", shelf.now) == []
    assert (shelf.stats.leased, shelf.stats.draining) == (0, 0)


def test_a_lost_line_is_replaced() -> None:
    shelf = Shelf(floor=1)
    (line,) = shelf.warm(1)
    assert len(dials(shelf.core.connection_lost(line, shelf.now))) == 1
    assert shelf.stats.ready == 0


def test_a_line_may_be_lost_while_it_closes() -> None:
    shelf = Shelf(floor=1, ceiling=1)
    (line,) = shelf.warm(1)
    (grant,) = grants(shelf.ask()[1])
    shelf.core.release(grant.lease_id, "ended", shelf.now)
    assert len(dials(shelf.core.connection_lost(line, shelf.now))) == 1
    assert shelf.core.close_finished(line, shelf.now) == []


def test_what_is_on_no_shelf_is_a_bug() -> None:
    shelf = Shelf()
    with pytest.raises(LookupError, match="on no shelf"):
        shelf.core.connection_lost(ConnectionId(7), shelf.now)


def test_a_line_cannot_become_ready_twice() -> None:
    shelf = Shelf(floor=1)
    (line,) = shelf.warm(1)
    with pytest.raises(IllegalTransitionError):
        shelf.ready(line)


# Bounds.


def test_the_ceiling_counts_lines_that_are_closing() -> None:
    shelf = Shelf(ceiling=1, floor=1)
    (line,) = shelf.warm(1)
    (grant,) = grants(shelf.ask()[1])
    shelf.core.release(grant.lease_id, "ended", shelf.now)
    assert dials(shelf.ask()[1]) == []
    assert shelf.stats.total == 1
    assert len(dials(shelf.core.close_finished(line, shelf.now))) == 1


def test_the_ceiling_is_never_passed() -> None:
    shelf = Shelf(ceiling=3, dials_max=9)
    for _ in range(6):
        shelf.ask()
    assert shelf.stats.total == 3


def test_the_reserve_is_kept_for_those_who_have_waited() -> None:
    shelf = Shelf(ceiling=3, reserve=2, reserve_after_ms=250)
    assert len(dials(shelf.ask()[1])) == 1
    assert dials(shelf.ask()[1]) == []
    assert dials(shelf.tick_after(0.249)) == []
    assert len(dials(shelf.tick_after(0.001))) == 1


def test_the_pool_wakes_when_the_reserve_opens() -> None:
    shelf = Shelf(ceiling=3, reserve=2, reserve_after_ms=250)
    shelf.ask()
    shelf.ask()
    assert shelf.due == shelf.now + 0.25


def test_the_floor_does_not_use_the_reserve() -> None:
    shelf = Shelf(floor=3, ceiling=3, reserve=2)
    assert len(dials(shelf.start())) == 1


def test_an_old_waiter_opens_the_reserve_for_those_who_wait_only() -> None:
    """The floor is not filled from it: the reserve would be gone when the next one has waited."""
    shelf = Shelf(floor=2, ceiling=4, reserve=2)
    shelf.warm(2)
    for _ in range(3):
        shelf.ask()
    assert (shelf.stats.leased, shelf.stats.waiting, shelf.stats.dialling) == (2, 1, 0)
    assert len(dials(shelf.tick_after(0.25))) == 1


# Age.


def test_an_idle_line_is_retired_by_age_and_replaced() -> None:
    shelf = Shelf(floor=1, age_max_seconds=300.0)
    (line,) = shelf.warm(1)
    assert shelf.due == shelf.now + 300.0
    assert shelf.tick_after(299.9) == []
    effects = shelf.tick_after(0.1)
    assert closes(effects) == [Close(line, "aged")]
    assert len(dials(effects)) == 1


def test_a_line_is_handed_out_only_while_most_of_its_life_is_left() -> None:
    shelf = Shelf(floor=1, age_max_seconds=300.0)
    (line,) = dials(shelf.start())
    shelf.ready(line, life_seconds=100.0)
    shelf.now += 20.0
    _, effects = shelf.ask()
    assert closes(effects) == [Close(line, "aged")]
    assert grants(effects) == []


def test_lines_do_not_all_go_at_once() -> None:
    core = PoolCore(
        PoolLimits(floor=8, ceiling=8, reserve=0, dials_max=8, age_jitter_ratio=0.2), Random(5), lease_ids()
    )
    for line in dials(core.start(0.0)):
        core.dial_succeeded(line, None, 0.0)
    ends = list[float]()
    while (due := core.next_deadline(ends[-1] if ends else 0.0)) is not None:
        ends += [due] * len(closes(core.tick(due)))
    assert len(set(ends)) == 8
    assert all(240.0 <= end <= 300.0 for end in ends)


def test_a_leased_line_does_not_age() -> None:
    shelf = Shelf(floor=1, ceiling=1)
    shelf.warm(1)
    shelf.ask()
    assert shelf.tick_after(10_000.0) == []


def test_a_line_that_comes_with_no_life_left_does_not_start_a_storm() -> None:
    """The clock of one side is wrong: dialling at once again would go on for ever."""
    shelf = Shelf(floor=1)
    (line,) = dials(shelf.start())
    effects = shelf.ready(line, life_seconds=0.0)
    assert len(closes(effects)) == 1
    assert dials(effects) == []
    assert shelf.due is not None
    assert len(dials(shelf.tick_after(shelf.due - shelf.now))) == 1


# Failure.


def test_after_a_failure_the_next_dial_waits() -> None:
    shelf = Shelf(floor=1, backoff=BackoffOptions(first_seconds=0.25))
    (line,) = dials(shelf.start())
    assert shelf.fail(line) == []
    assert shelf.due == shelf.now + 0.25
    assert dials(shelf.tick_after(0.249)) == []
    assert len(dials(shelf.tick_after(0.001))) == 1


def test_failures_in_a_row_widen_the_wait() -> None:
    shelf = Shelf(floor=1, backoff=BackoffOptions(first_seconds=0.25, max_seconds=1.0))
    (line,) = dials(shelf.start())
    waits = []
    for _ in range(5):
        shelf.fail(line)
        assert shelf.due is not None
        waits.append(shelf.due - shelf.now)
        (line,) = dials(shelf.tick_after(waits[-1]))
    assert waits == [0.25, 0.5, 1.0, 1.0, 1.0]


def test_after_a_failure_one_dial_at_a_time_tries_the_water() -> None:
    shelf = Shelf(floor=3)
    first, *others = dials(shelf.start())
    for line in others:
        shelf.core.dial_failed(line, Reason.UPSTREAM_UNREACHABLE, shelf.now)
    shelf.fail(first)
    assert len(dials(shelf.tick_after(60.0))) == 1


def test_a_success_ends_the_back_off() -> None:
    shelf = Shelf(floor=3)
    for line in dials(shelf.start()):
        shelf.fail(line)
    (probe,) = dials(shelf.tick_after(60.0))
    assert len(dials(shelf.ready(probe))) == 2


def test_a_refused_key_is_tried_rarely() -> None:
    shelf = Shelf(floor=1, backoff=BackoffOptions(refused_key_seconds=30.0))
    (line,) = dials(shelf.start())
    shelf.fail(line, Reason.UPSTREAM_REFUSED_KEY)
    assert shelf.due == shelf.now + 30.0


def test_a_refused_key_is_tried_rarely_whatever_else_fails() -> None:
    shelf = Shelf(floor=2, backoff=BackoffOptions(refused_key_seconds=30.0))
    first, second = dials(shelf.start())
    shelf.fail(first, Reason.UPSTREAM_REFUSED_KEY)
    shelf.fail(second, Reason.UPSTREAM_UNREACHABLE)
    assert dials(shelf.tick_after(29.0)) == []
    assert len(dials(shelf.tick_after(1.0))) == 1


def test_a_waiter_learns_what_really_stands_in_the_way() -> None:
    shelf = Shelf()
    _, effects = shelf.ask()
    shelf.fail(dials(effects)[0], Reason.UPSTREAM_RATE_LIMITED)
    assert shelf.stats.last_failure is Reason.UPSTREAM_RATE_LIMITED
    told = shelf.tick_after(WAIT_SECONDS)
    assert [reject.reason for reject in rejects(told)] == [Reason.UPSTREAM_RATE_LIMITED]


def test_a_failure_that_is_over_is_not_blamed() -> None:
    shelf = Shelf(ceiling=1)
    _, effects = shelf.ask()
    (line,) = dials(effects)
    shelf.fail(line)
    (line,) = dials(shelf.tick_after(1.0))
    shelf.ready(line)
    shelf.ask()
    told = shelf.tick_after(WAIT_SECONDS)
    assert [reject.reason for reject in rejects(told)] == [Reason.WAIT_TIMED_OUT]


# Drain.


def test_a_drained_pool_sends_waiters_away_and_closes_idle_lines() -> None:
    shelf = Shelf(floor=2, ceiling=3)
    idle, leased = shelf.warm(2)
    (grant,) = grants(shelf.ask()[1])
    effects = shelf.core.drain(shelf.now)
    assert grant.connection_id == leased
    assert closes(effects) == [Close(idle, "drained")]
    assert dials(effects) == []
    waiter_id, told = shelf.ask()
    assert told == [Reject(waiter_id, Reason.DRAINING, 0.0)]
    assert shelf.stats.draining_pool


def test_when_draining_nobody_waits() -> None:
    shelf = Shelf()
    waiter_id, _ = shelf.ask()
    assert [(e.waiter_id, e.reason) for e in rejects(shelf.core.drain(shelf.now))] == [(waiter_id, Reason.DRAINING)]
    assert shelf.stats.waiting == 0


def test_a_line_that_comes_after_the_drain_is_closed() -> None:
    shelf = Shelf(floor=1)
    (line,) = dials(shelf.start())
    shelf.core.drain(shelf.now)
    assert shelf.ready(line) == [Close(line, "drained")]


def test_after_the_drain_nothing_is_dialled() -> None:
    shelf = Shelf(floor=3)
    first, second, third = dials(shelf.start())
    shelf.ready(first)
    shelf.core.drain(shelf.now)
    told = [
        *shelf.fail(second),
        *shelf.ready(third),
        *shelf.core.close_finished(first, shelf.now),
        *shelf.core.close_finished(third, shelf.now),
        *shelf.tick_after(100.0),
    ]
    assert dials(told) == []


def test_after_drain_and_the_end_of_all_leases_nothing_is_left() -> None:
    shelf = Shelf(floor=2)
    shelf.warm(2)
    (grant,) = grants(shelf.ask()[1])
    lines = [effect.connection_id for effect in closes(shelf.core.drain(shelf.now))]
    lines += [e.connection_id for e in closes(shelf.core.release(grant.lease_id, "ended", shelf.now))]
    assert shelf.stats.dialling == 1
    shelf.fail(ConnectionId(3))
    for line in lines:
        shelf.core.close_finished(line, shelf.now)
    assert shelf.stats.total == 0
    assert shelf.due is None


# The one timer.


def test_an_idle_pool_needs_no_timer() -> None:
    assert Shelf().due is None


def test_the_next_deadline_is_the_first() -> None:
    shelf = Shelf(ceiling=1, reserve=0)
    shelf.ask(wait_seconds=0.2)
    shelf.ask(wait_seconds=0.1)
    assert shelf.due == shelf.now + 0.1


@pytest.mark.parametrize("late_seconds", [0.0, 1e-6, 0.5])
def test_a_waiters_deadline_that_passed_since_the_last_input_is_due_now(late_seconds: float) -> None:
    """The shell asks with a later clock than it settled with; what came due between is not forgotten."""
    shelf = Shelf(ceiling=1)
    shelf.ask(wait_seconds=0.001)
    shelf.now += 0.001 + late_seconds
    assert shelf.due == shelf.now


def test_a_back_off_that_passed_since_the_last_input_is_due_now() -> None:
    shelf = Shelf(floor=1, backoff=BackoffOptions(first_seconds=1e-6))
    (line,) = dials(shelf.start())
    shelf.fail(line)
    shelf.now += 0.001
    assert shelf.due == shelf.now


def test_a_pool_that_can_do_nothing_is_not_called_again_and_again() -> None:
    shelf = Shelf(floor=4, ceiling=4, reserve=2)
    for line in dials(shelf.start()):
        shelf.ready(line)
    assert shelf.tick_after(1.0) == []
    assert shelf.due is not None
    assert shelf.due > shelf.now + 100.0
