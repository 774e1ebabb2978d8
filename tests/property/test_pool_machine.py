"""Every promise of the pool at once, under any order of events.

HYPOTHESIS_PROFILE=ci or =deep tries more.
"""

import os
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core.backoff import BackoffOptions
from gateway.core.effects import Close, Dial, Effect, Grant, Reject
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.pool import LIFE_LEFT_MIN_RATIO, PoolCore
from gateway.core.pool_limits import PoolLimits

# How often a machine is run, and how many steps one run has at most.
RUNS: Final = {"ci": (1000, 60), "deep": (5000, 100)}
EXAMPLES, STEPS = RUNS.get(os.environ.get("HYPOTHESIS_PROFILE", ""), (300, 50))
# Moments are multiples of this, so that "exactly at the deadline" is met often.
BEAT: Final = 0.125
ROUNDING: Final = 1e-6
FAILURES: Final = (Reason.UPSTREAM_UNREACHABLE, Reason.UPSTREAM_RATE_LIMITED, Reason.UPSTREAM_REFUSED_KEY)

CONNECTING, READY, LEASED, DRAINING, CLOSED = "connecting", "ready", "leased", "draining", "closed"


class RecordingRandom(Random):
    """Remembers what it drew last."""

    last = 0.0

    def uniform(self, a: float, b: float) -> float:
        self.last = super().uniform(a, b)
        return self.last


def lease_ids() -> Iterator[LeaseId]:
    return (LeaseId(f"lease-{number}") for number in count(1))


class PoolMachine(RuleBasedStateMachine):
    """Tells one pool what happens, and keeps its own books of what it was told to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.waiters: dict[WaiterId, tuple[float, float]] = {}  # asked at, deadline; in order
        self.answers: dict[WaiterId, int] = {}
        self.cancelled: set[WaiterId] = set()
        self.lines: dict[ConnectionId, str] = {}
        self.ready_at: dict[ConnectionId, float] = {}  # in the order in which they became ready
        self.age_max: dict[ConnectionId, float] = {}
        self.lease_of: dict[ConnectionId, LeaseId] = {}
        self.lease_seen: set[LeaseId] = set()
        self.broken = False
        self.used: set[ConnectionId] = set()
        self.closed_by_us: set[ConnectionId] = set()
        self.drained = False
        self.failures = 0
        self.not_before = 0.0
        self.asking: WaiterId | None = None
        self.waiter_ids = count(1)

    @initialize(
        floor=st.integers(0, 3),
        reserve=st.integers(0, 2),
        spare=st.integers(0, 3),
        dials_max=st.integers(1, 4),
        waiters_max=st.integers(0, 5),
        reserve_after_beats=st.integers(0, 4),
        seed=st.integers(0, 2**16),
    )
    def build(  # noqa: PLR0913, PLR0917 one limit each
        self,
        floor: int,
        reserve: int,
        spare: int,
        dials_max: int,
        waiters_max: int,
        reserve_after_beats: int,
        seed: int,
    ) -> None:
        self.limits = PoolLimits(
            floor=floor,
            ceiling=max(1, floor + reserve + spare),
            reserve=reserve,
            reserve_after_ms=int(reserve_after_beats * BEAT * 1000),
            dials_max=dials_max,
            age_max_seconds=3.0,
            age_jitter_ratio=0.25,
            waiters_max=waiters_max,
            backoff=BackoffOptions(0.25, 2.0, refused_key_seconds=4.0),
        )
        self.rng = RecordingRandom(seed)
        self.core = PoolCore(self.limits, self.rng, lease_ids())
        assert self.core.stats(self.now).total == 0
        self.take(self.core.start(self.now))

    # What happens.

    @rule(beats=st.integers(1, 6))
    def ask(self, beats: int) -> None:
        self.asking = waiter_id = WaiterId(next(self.waiter_ids))
        self.answers[waiter_id] = 0
        queue_was_full = len(self.waiters) >= self.limits.waiters_max
        deadline = self.now + beats * BEAT
        self.waiters[waiter_id] = (self.now, deadline)
        effects = self.core.request(waiter_id, deadline, self.now)
        if Reject(waiter_id, Reason.QUEUE_FULL, 0.0) in effects:
            assert queue_was_full
            del self.waiters[waiter_id]
            self.answers[waiter_id] += 1
            effects = [effect for effect in effects if getattr(effect, "waiter_id", None) != waiter_id]
        self.take(effects)
        self.asking = None

    @precondition(lambda self: self.waiters)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        waiter_id = data.draw(st.sampled_from(list(self.waiters)))
        del self.waiters[waiter_id]
        self.cancelled.add(waiter_id)
        self.take(self.core.cancel(waiter_id, self.now))

    @precondition(lambda self: self.of(CONNECTING))
    @rule(data=st.data(), life_seconds=st.sampled_from((None, None, None, 3600.0, 5.0, 0.0)))
    def dial_succeeds(self, data: st.DataObject, life_seconds: float | None) -> None:
        line = data.draw(st.sampled_from(self.of(CONNECTING)))
        self.lines[line] = READY
        self.ready_at[line] = self.now
        self.age_max[line] = min(3.0, (3600.0 if life_seconds is None else life_seconds) * (1 - LIFE_LEFT_MIN_RATIO))
        effects = self.core.dial_succeeded(line, life_seconds, self.now)
        if life_seconds == 0.0:  # used up at birth
            self.backs_off(self.rng.last)
        else:
            self.failures, self.not_before = 0, self.now
        self.take(effects)

    @precondition(lambda self: self.of(CONNECTING))
    @rule(data=st.data(), reason=st.sampled_from(FAILURES))
    def dial_fails(self, data: st.DataObject, reason: Reason) -> None:
        line = data.draw(st.sampled_from(self.of(CONNECTING)))
        self.lines[line] = CLOSED
        effects = self.core.dial_failed(line, reason, self.now)
        self.backs_off(4.0 if reason is Reason.UPSTREAM_REFUSED_KEY else self.rng.last)
        self.take(effects)

    def backs_off(self, seconds: float) -> None:
        self.failures += 1
        self.not_before = max(self.not_before, self.now + seconds)

    @precondition(lambda self: self.of(READY, LEASED, DRAINING))
    @rule(data=st.data())
    def line_is_lost(self, data: st.DataObject) -> None:
        line = data.draw(st.sampled_from(self.of(READY, LEASED, DRAINING)))
        self.lines[line] = CLOSED
        self.lease_of.pop(line, None)
        self.take(self.core.connection_lost(line, self.now))

    @precondition(lambda self: self.of(DRAINING))
    @rule(data=st.data())
    def close_finishes(self, data: st.DataObject) -> None:
        line = data.draw(st.sampled_from(self.of(DRAINING)))
        self.lines[line] = CLOSED
        self.take(self.core.close_finished(line, self.now))

    @precondition(lambda self: self.lease_of)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        line, lease_id = data.draw(st.sampled_from(list(self.lease_of.items())))
        del self.lease_of[line]
        effects = self.core.release(lease_id, "ended", self.now)
        assert effects[0] == Close(line, "ended")
        self.take(effects)

    @precondition(lambda self: len(self.lease_seen) > len(self.lease_of))
    @rule(data=st.data())
    def an_ended_lease_never_does_anything(self, data: st.DataObject) -> None:
        ended = sorted(self.lease_seen - set(self.lease_of.values()))
        before = self.core.stats(self.now)
        assert self.core.release(data.draw(st.sampled_from(ended)), "again", self.now) == []
        assert self.core.stats(self.now) == before

    @rule(beats=st.integers(0, 8))
    def time_passes(self, beats: int) -> None:
        """Late or early: a busy loop does not keep to deadlines."""
        self.now += beats * BEAT
        self.take(self.core.tick(self.now))

    @rule()
    def the_timer_rings(self) -> None:
        due = self.core.next_deadline(self.now)
        if due is not None:
            self.now = due
            self.take(self.core.tick(self.now))

    # Rarely, or most runs would be over before they begin.
    @precondition(lambda self: len(self.answers) >= 8)
    @rule()
    def drain(self) -> None:
        self.drained = True
        self.take(self.core.drain(self.now))

    # What the pool wants done.

    def take(self, effects: list[Effect]) -> None:
        """Enter effects in the books, in order; each promise about a single effect is kept here."""
        self.broken = True
        for effect in effects:
            match effect:
                case Dial():
                    self.take_dial(effect)
                case Grant():
                    self.take_grant(effect)
                case Reject():
                    self.take_reject(effect)
                case Close():
                    self.take_close(effect)
        self.broken = False

    def take_dial(self, dial: Dial) -> None:
        assert not self.drained, "a dial after the drain"
        assert self.now >= self.not_before, "a dial before the back-off is over"
        assert dial.connection_id not in self.lines, "a name is used twice"
        self.lines[dial.connection_id] = CONNECTING
        dialling = len(self.of(CONNECTING))
        assert dialling <= (1 if self.failures else self.limits.dials_max), "too many dials"
        assert dialling + len(self.of(READY)) <= len(self.waiters) + self.limits.floor, "a needless dial"
        assert self.open_lines <= self.usable_ceiling, "a dial above what may be used"
        if self.open_lines > self.limits.ceiling - self.limits.reserve:
            assert dialling <= len(self.waiters), "the floor is filled from the reserve"

    def take_grant(self, grant: Grant) -> None:
        first, (asked_at, deadline) = next(iter(self.waiters.items()))
        assert grant.waiter_id == first, "not first come, first served"
        assert self.now < deadline, "a grant after the deadline"
        assert grant.waited_seconds == self.now - asked_at
        assert grant.at_once is (grant.waiter_id == self.asking), "a hit that is none"
        line = grant.connection_id
        assert line not in self.used, "a used line is granted again"
        assert self.lines[line] == READY
        freshest = [each for each in self.ready_at if self.lines[each] == READY][-1]
        assert line == freshest, "not the freshest line"
        assert grant.entry_age_seconds == self.now - self.ready_at[line]
        assert grant.entry_age_seconds < self.age_max[line] + ROUNDING, "a line past its age"
        assert grant.lease_id not in self.lease_seen, "a lease id is used twice"
        self.lease_seen.add(grant.lease_id)
        self.used.add(line)
        self.lease_of[line] = grant.lease_id
        self.lines[line] = LEASED
        self.answer(grant.waiter_id)

    def take_reject(self, reject: Reject) -> None:
        asked_at, deadline = self.waiters[reject.waiter_id]
        assert self.drained or deadline <= self.now, "sent away too early"
        assert (reject.reason is Reason.DRAINING) is self.drained
        assert reject.waited_seconds == self.now - asked_at
        self.answer(reject.waiter_id)

    def take_close(self, close: Close) -> None:
        line = close.connection_id
        assert line not in self.closed_by_us, "closed twice"
        self.closed_by_us.add(line)
        expected = LEASED if close.reason == "ended" else READY
        assert self.lines[line] == expected, "the wrong line is closed"
        if close.reason == "aged":
            age = self.now - self.ready_at[line]
            assert age > min(self.age_max[line], 3.0 * 0.75) - ROUNDING, "retired too early"
        self.lines[line] = DRAINING

    def answer(self, waiter_id: WaiterId) -> None:
        self.answers[waiter_id] += 1
        del self.waiters[waiter_id]

    # Questions.

    def of(self, *states: str) -> list[ConnectionId]:
        return [line for line, state in self.lines.items() if state in states]

    @property
    def open_lines(self) -> int:
        return len(self.of(CONNECTING, READY, LEASED, DRAINING))

    @property
    def usable_ceiling(self) -> int:
        oldest = next(iter(self.waiters.values()), None)
        waits_long = oldest is not None and oldest[0] + self.limits.reserve_after_ms / 1000 <= self.now
        return self.limits.ceiling - (0 if waits_long else self.limits.reserve)

    # Promises.

    @invariant()
    def its_books_are_ours(self) -> None:
        stats = self.core.stats(self.now)
        assert stats.dialling == len(self.of(CONNECTING))
        assert stats.ready == len(self.of(READY))
        assert stats.leased == len(self.of(LEASED)) == len(self.lease_of)
        assert stats.draining == len(self.of(DRAINING))
        assert stats.waiting == len(self.waiters) <= self.limits.waiters_max
        assert [self.core.position(each) for each in self.waiters] == list(range(1, len(self.waiters) + 1))

    @invariant()
    def each_request_is_answered_exactly_once(self) -> None:
        for waiter_id, answers in self.answers.items():
            open_still = waiter_id in self.waiters or waiter_id in self.cancelled
            assert answers == (0 if open_still else 1)

    @invariant()
    def nobody_waits_beside_a_ready_connection(self) -> None:
        assert not (self.waiters and self.of(READY))

    @invariant()
    def nobody_waits_past_the_deadline(self) -> None:
        assert all(deadline > self.now for _, deadline in self.waiters.values())

    @invariant()
    def no_line_stands_ready_past_its_age(self) -> None:
        ages = {line: self.now - self.ready_at[line] for line in self.of(READY)}
        assert all(age < self.age_max[line] + ROUNDING for line, age in ages.items())

    @invariant()
    def lines_stay_below_the_ceiling(self) -> None:
        assert self.open_lines <= self.limits.ceiling

    @invariant()
    def nobody_waits_while_a_line_could_be_dialled_for_him(self) -> None:
        dialling, ready = len(self.of(CONNECTING)), len(self.of(READY))
        if self.drained or self.failures or self.now < self.not_before:
            return
        if dialling >= self.limits.dials_max:
            return
        missing = len(self.waiters) + self.limits.floor - dialling - ready
        assert missing <= 0 or self.open_lines >= self.limits.ceiling - self.limits.reserve
        unserved = len(self.waiters) - dialling
        assert unserved <= 0 or self.open_lines >= self.usable_ceiling

    @invariant()
    def the_next_deadline_is_never_in_the_past_and_misses_nothing(self) -> None:
        due = self.core.next_deadline(self.now)
        assert due is None or due > self.now
        if due is not None:  # who asks later is told that it is due now
            late = due + BEAT / 2
            assert self.core.next_deadline(late) == late
        ends = [deadline for _, deadline in self.waiters.values()]
        ends += [self.ready_at[line] + self.age_max[line] for line in self.of(READY)]
        if ends:
            assert due is not None
            assert due <= min(ends) + ROUNDING

    @invariant()
    def a_pool_that_lacks_lines_wakes_up_again(self) -> None:
        if self.drained or len(self.of(CONNECTING)):
            return
        missing = len(self.waiters) + self.limits.floor - len(self.of(READY))
        if missing > 0 and self.open_lines < self.limits.ceiling - self.limits.reserve:
            due = self.core.next_deadline(self.now)
            assert due is not None
            assert due <= max(self.not_before, self.now) + ROUNDING

    @invariant()
    def when_draining_nobody_waits_and_nothing_stands_ready(self) -> None:
        assert not self.drained or not (self.waiters or self.of(READY))

    def teardown(self) -> None:
        """After drain and all leases ended, nothing is left."""
        if self.broken or not hasattr(self, "core"):
            return  # it has failed already, or never begun
        self.drained = True
        self.take(self.core.drain(self.now))
        for at, line in enumerate(self.of(CONNECTING)):
            if at % 2:
                self.lines[line] = READY
                self.ready_at[line], self.age_max[line] = self.now, 3.0
                self.take(self.core.dial_succeeded(line, None, self.now))
            else:
                self.lines[line] = CLOSED
                self.take(self.core.dial_failed(line, Reason.UPSTREAM_UNREACHABLE, self.now))
        for line, lease_id in list(self.lease_of.items()):
            del self.lease_of[line]
            self.take(self.core.release(lease_id, "ended", self.now))
        for line in self.of(DRAINING):
            self.lines[line] = CLOSED
            self.take(self.core.close_finished(line, self.now))
        stats = self.core.stats(self.now)
        assert (stats.total, stats.waiting) == (0, 0)
        assert self.core.next_deadline(self.now) is None
        self.each_request_is_answered_exactly_once()


TestPoolMachine = pytest.mark.timeout(3600)(PoolMachine.TestCase)
TestPoolMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)
