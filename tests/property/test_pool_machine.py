"""Every promise of the pool at once, under any order of events: several templates, one or two pools on one breaker.

HYPOTHESIS_PROFILE=ci or =deep tries more.
"""

import os
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.core.breaker import Breaker
from gateway.core.demand import DemandOptions
from gateway.core.effects import Effect, Grant, Revoke
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.pool import OUTDATED_SECONDS, PoolCore
from gateway.core.pool_limits import PoolLimits
from gateway.core.reservation import ReservationEvent
from tests.property.test_pool_machine_books import (
    ALONE,
    CLOSED,
    DRAINING,
    FIRST,
    LEASED,
    LIFE_LEFT_MIN,
    ORDINARY,
    READY,
    STANDING_SECONDS,
    TTL_SECONDS,
    Books,
    Wait,
)
from tests.property.test_pool_machine_dialling import (
    BACKOFF,
    BREAKER,
    CONNECTING,
    FOREVER,
    STUBBORN,
    BreakerBooks,
    RecordingRandom,
    lease_ids,
)
from tests.property.test_pool_machine_promises import each_request_is_answered_exactly_once, keep_every_promise

# How often a machine is run, and how many steps one run has at most.
RUNS: Final = {"ci": (600, 80), "deep": (4000, 120), "mutants": (200, 50)}
PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "")
EXAMPLES, STEPS = RUNS.get(PROFILE, (60, 50))
MORE_EXAMPLES: Final = 200
# A seeded fault is to be found and not explained.
PHASES: Final = (Phase.generate,) if PROFILE == "mutants" else tuple(Phase)
# Moments are multiples of this, so that "exactly at the deadline" is met often.
BEAT: Final = 0.125
FAILURES: Final = (
    Reason.UPSTREAM_UNREACHABLE,
    Reason.UPSTREAM_RATE_LIMITED,
    Reason.UPSTREAM_REFUSED_KEY,
    Reason.CONFIG_REJECTED,
    Reason.INTERNAL,
)
LIVES: Final = (None, None, None, None, 3600.0, 20.0, 0.0)
OPERATIONS: Final = ("pause", "unpause", "unpause", "unpause", "retire", "retire", "drain")
WHICH: Final = st.integers(0, 11)
POOLS: Final = st.sampled_from("abc")
BEATS: Final = st.sampled_from((1, 3, 4, 8, 16, 16, 40))


@st.composite
def pool_limits(draw: st.DrawFn) -> PoolLimits:
    floor, reserve = draw(st.sampled_from((0, 0, 1, 3))), draw(st.sampled_from((0, 0, 1)))
    return PoolLimits(
        floor=floor,
        ceiling=max(1, floor + reserve + draw(st.integers(0, 4))),
        reserve=reserve,
        reserve_after_ms=int(draw(st.integers(0, 4)) * BEAT * 1000),
        dials_max=draw(st.integers(1, 4)),
        age_max_seconds=12.0,
        age_jitter_ratio=0.25,
        waiters_max=draw(st.sampled_from((5, 2, 9, 0))),
        proof_max_seconds=4.0,
        leak_after_seconds=draw(st.sampled_from((3.0, 8.0))),
        demand=DemandOptions(enabled=draw(st.booleans())),
        backoff=BACKOFF,
    )


def some(at: int, items: list[tuple[Books, ConnectionId]]) -> tuple[Books, ConnectionId]:
    return items[at % len(items)]


class PoolMachine(RuleBasedStateMachine):
    """Tells pools what happens, and enters in its own books what they want done."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.all: list[Books] = []
        self.waiter_ids = count(1)
        self.inputs = 0
        self.broken = True

    @initialize(
        first=st.lists(pool_limits(), min_size=1, max_size=3),
        second=st.lists(pool_limits(), max_size=1),
        seed=st.integers(0, 2**16),
        warm=st.booleans(),
    )
    def build(self, first: list[PoolLimits], second: list[PoolLimits], seed: int, warm: bool) -> None:  # noqa: FBT001
        self.breaker, known = Breaker(BREAKER), BreakerBooks()
        for several in (first, second) if second else (first,):
            limits = dict(zip("abc", several, strict=False))
            rng = RecordingRandom(seed)
            core = PoolCore({name: ("v1", each) for name, each in limits.items()}, self.breaker, rng, lease_ids())
            self.all.append(Books(limits, known, core, rng))
        self.broken = False
        for books in self.all:
            assert core.next_deadline(self.now) is None
            self.tell(books, lambda books=books: books.core.start(self.now))  # type: ignore[misc]
        if warm:
            self.dials_succeed(12)

    def tell(self, books: Books, happens: Callable[[], list[Effect]]) -> list[Effect]:
        """Let something happen, and let the others look again: it may have changed the breaker."""
        self.broken, self.inputs = True, self.inputs + 1
        books.now = self.now
        effects = happens()
        self.take(books, effects)
        self.broken = False
        return effects

    def take(self, books: Books, effects: list[Effect]) -> None:
        books.take(effects)
        books.asking = books.refused_alone = None
        rounds = 0
        while rounds < 10 and self.look_again(books if not rounds else None):
            rounds += 1
        assert rounds < 10, "the pools never come to rest"

    def look_again(self, all_but: Books | None) -> bool:
        told = 0
        for books in self.all:
            if books is not all_but:
                books.now = self.now
                effects = books.core.tick(self.now)
                books.take(effects)
                told += len(effects)
        return told > 0

    def lines(self, *states: str) -> list[tuple[Books, ConnectionId]]:
        return [(books, line) for books in self.all for line in books.of(*states)]

    # Callers.

    @rule(at=WHICH, pool=POOLS, beats=BEATS, queue=st.sampled_from((ORDINARY, ORDINARY, ORDINARY, FIRST, ALONE)))
    def ask(self, at: int, pool: str, beats: int, queue: str) -> None:
        books, pool, waiter_id, deadline = self.comes(at, pool, beats, queue)
        core = books.core
        if queue == FIRST:  # reserved at another gateway
            self.tell(books, lambda: core.redeem(pool, waiter_id, None, deadline, self.now))
        elif queue == ALONE:
            self.tell(books, lambda: core.request_alone(pool, waiter_id, deadline, self.now))
        else:
            self.tell(books, lambda: core.request(pool, waiter_id, deadline, self.now))

    @rule(at=WHICH, pool=POOLS, most=st.integers(2, 5))
    def callers_come(self, at: int, pool: str, most: int) -> None:
        for _ in range(most):
            self.ask(at, pool, 12, ORDINARY)

    @rule(at=WHICH, pool=POOLS, most=st.integers(1, 3))
    def callers_are_served(self, at: int, pool: str, most: int) -> None:
        self.callers_come(at, pool, most)
        self.dials_succeed(most)

    @rule(at=WHICH, pool=POOLS, beats=BEATS)
    def reserve(self, at: int, pool: str, beats: int) -> None:
        books, pool, waiter_id, deadline = self.comes(at, pool, beats, ORDINARY, reserves=True)
        self.tell(books, lambda: books.core.reserve(pool, waiter_id, TTL_SECONDS, deadline, self.now))

    def comes(
        self, at: int, pool: str, beats: int, queue: str, *, reserves: bool = False
    ) -> tuple[Books, str, WaiterId, float]:
        books = self.all[at % len(self.all)]
        pool = pool if pool in books.pools else "a"
        books.asking = waiter_id = WaiterId(next(self.waiter_ids))
        deadline = self.now + beats * BEAT
        books.waits[waiter_id] = Wait(pool, queue, self.now, deadline, reserves)
        books.answers[waiter_id] = 0
        return books, pool, waiter_id, deadline

    @precondition(lambda self: any(books.reservations for books in self.all))
    @rule(at=WHICH, beats=BEATS)
    def redeem(self, at: int, beats: int) -> None:
        there = [(books, each) for books in self.all for each in books.reservations]
        books, lease_id = there[at % len(there)]
        pool, _ = books.reservations.pop(lease_id)
        self.all.sort(key=lambda each: each is not books)  # so that he comes to this one
        books, pool, waiter_id, deadline = self.comes(0, pool, beats, FIRST)
        books.waits[waiter_id].holds_unit = True
        self.tell(books, lambda: books.core.redeem(pool, waiter_id, lease_id, deadline, self.now))

    @precondition(lambda self: any(books.ids_seen for books in self.all))
    @rule(at=WHICH)
    def what_has_ended_does_nothing(self, at: int) -> None:
        books = self.all[at % len(self.all)]
        ended = sorted(books.ids_seen - set(books.leases) - set(books.reservations))
        if not ended:
            return
        lease_id = ended[at % len(ended)]
        before = [books.core.stats(pool, self.now) for pool in books.pools]
        assert books.core.release(lease_id, "again", self.now) == []
        assert not books.core.renew(lease_id, self.now)
        assert not books.core.renew_reservation(lease_id, 9.0, self.now)
        assert books.core.end_reservation(lease_id, ReservationEvent.RELEASED, self.now) == []
        with pytest.raises(KeyError):
            books.core.redeem("a", WaiterId(0), lease_id, self.now + 9.0, self.now)
        assert [books.core.stats(pool, self.now) for pool in books.pools] == before

    @precondition(lambda self: any(books.reservations for books in self.all))
    @rule(at=WHICH, event=st.sampled_from((ReservationEvent.RELEASED, ReservationEvent.USED, ReservationEvent.RENEWED)))
    def end_or_renew_a_reservation(self, at: int, event: ReservationEvent) -> None:
        there = [(books, each) for books in self.all for each in books.reservations]
        books, lease_id = there[at % len(there)]
        if event is ReservationEvent.RENEWED:
            pool, _ = books.reservations[lease_id]
            books.reservations[lease_id] = (pool, self.now + TTL_SECONDS)
            assert books.core.renew_reservation(lease_id, TTL_SECONDS, self.now)
            return
        del books.reservations[lease_id]
        before = books.of(READY)
        self.tell(books, lambda: books.core.end_reservation(lease_id, event, self.now))
        current = {each for each in before if books.lines[each].version == books.pools[books.lines[each].pool].version}
        assert current <= set(books.of(READY, LEASED)), "a reservation that ended has burnt a line"

    @precondition(lambda self: any(books.waits for books in self.all))
    @rule(at=WHICH)
    def cancel(self, at: int) -> None:
        there = [(books, each) for books in self.all for each in books.waits]
        books, waiter_id = there[at % len(there)]
        del books.waits[waiter_id]
        books.cancelled.add(waiter_id)
        self.tell(books, lambda: books.core.cancel(waiter_id, self.now))

    @precondition(lambda self: any(books.leases for books in self.all))
    @rule(at=WHICH, renews=st.booleans())
    def renew_or_release(self, at: int, renews: bool) -> None:  # noqa: FBT001 drawn
        there = [(books, each) for books in self.all for each in books.leases]
        books, lease_id = there[at % len(there)]
        if renews:
            line, _ = books.leases[lease_id]
            books.leases[lease_id] = (line, self.now)
            assert books.core.renew(lease_id, self.now)
        else:
            self.release(books, lease_id)

    def release(self, books: Books, lease_id: LeaseId) -> None:
        self.tell(books, lambda: books.core.release(lease_id, "ended", self.now))
        assert lease_id not in books.leases

    # Lines.

    @precondition(lambda self: self.lines(CONNECTING))
    @rule(at=WHICH)
    def dial_begins(self, at: int) -> None:
        books, line_id = some(at, self.lines(CONNECTING))
        line = books.lines[line_id]
        if line.begun_at is None:
            line.begun_at = self.now
            books.pools[line.pool].blocked_by = None
            books.core.dial_begun(line_id, self.now)

    @precondition(lambda self: self.lines(CONNECTING))
    @rule(at=WHICH, life_seconds=st.sampled_from(LIVES))
    def dial_succeeds(self, at: int, life_seconds: float | None) -> None:
        books, line_id = some(at, self.lines(CONNECTING))
        line, known = books.lines[line_id], books.pools[books.lines[line_id].pool]
        line.state = READY
        books.lines[line_id] = books.lines.pop(line_id)  # in the order in which they became ready
        line.ready_at = line.proven_at = self.now
        life = 3600.0 if life_seconds is None else life_seconds
        line.age_max = min(known.limits.age_max_seconds, life * (1 - LIFE_LEFT_MIN))
        books.usual += 0.2 * (min(self.now - line.decided_at, 1.5 * max(books.usual, 0.1)) - books.usual)

        def happens() -> list[Effect]:
            effects = books.core.dial_succeeded(line_id, life_seconds, self.now)
            known.given_up = 0
            known.overtakes = max(known.overtakes, line.begun_at or line.decided_at)
            if life_seconds == 0.0:  # used up at birth
                known.dies(FOREVER, books.rng.last, self.now)
                books.breaker.fails(line, Reason.UPSTREAM_CLOSED, self.now)
            else:
                known.width *= 2
                known.last_failure = None
                books.breaker.succeeds(self.now)
                books.young.append(line)
            return effects

        self.tell(books, happens)

    @precondition(lambda self: self.lines(CONNECTING))
    @rule(most=st.integers(1, 8))
    def dials_succeed(self, most: int) -> None:
        for _ in range(most):
            if self.lines(CONNECTING):
                self.dial_succeeds(0, None)

    @rule(times=st.integers(2, 6), reason=st.sampled_from(FAILURES))
    def provider_is_down(self, times: int, reason: Reason) -> None:
        for _ in range(times):
            if self.lines(CONNECTING):
                self.dial_fails(0, reason, None)
            else:
                self.the_timer_rings(1)

    @precondition(lambda self: self.lines(READY))
    @rule(at=WHICH, most=st.integers(1, 4))
    def provider_drops_what_is_ready(self, at: int, most: int) -> None:
        for books, line_id in self.lines(READY)[:most]:
            self.lose(books, line_id)

    @precondition(lambda self: self.lines(CONNECTING))
    @rule(at=WHICH, reason=st.sampled_from(FAILURES), retry_after=st.sampled_from((None, None, 1.0, 30.0)))
    def dial_fails(self, at: int, reason: Reason, retry_after: float | None) -> None:
        books, line_id = some(at, self.lines(CONNECTING))
        line = books.lines[line_id]
        line.state = CLOSED

        def happens() -> list[Effect]:
            effects = books.core.dial_failed(line_id, reason, self.now, retry_after)
            if line.version != books.pools[line.pool].version:  # it says nothing about what is in force
                books.breaker.ends(line)
                return effects
            books.breaker.fails(line, reason, self.now)
            if line.alone_for is not None and reason in STUBBORN:  # it is he alone who is refused
                books.refused_alone = line.alone_for
            else:
                began_at = line.begun_at or line.decided_at
                books.pools[line.pool].fails(reason, retry_after, began_at, books.rng.last, self.now)
            return effects

        self.tell(books, happens)

    @precondition(lambda self: self.lines(CONNECTING))
    @rule(at=WHICH, beats=BEATS, reason=st.sampled_from((Reason.POOL_EXHAUSTED, Reason.RATE_LIMITED)))
    def dial_is_refused(self, at: int, beats: int, reason: Reason) -> None:
        books, line_id = some(at, self.lines(CONNECTING))
        line, known, later = books.lines[line_id], books.pools[books.lines[line_id].pool], self.now + beats * BEAT
        line.state = CLOSED
        known.blocked_by = reason
        known.refill_not_before = max(known.refill_not_before, later)
        if line.waited_for:
            known.not_before = max(known.not_before, later)
        books.breaker.ends(line)
        self.tell(books, lambda: books.core.dial_refused(line_id, reason, beats * BEAT, self.now))

    @precondition(lambda self: any(books.given_up() for books in self.all))
    @rule(at=WHICH, how=st.integers(0, 2))
    def a_dial_that_was_given_up_ends_anyhow(self, at: int, how: int) -> None:
        books, line_id = some(at, [(books, line) for books in self.all for line in books.given_up()])
        core = books.core
        ends = (
            lambda: core.dial_succeeded(line_id, None, self.now),
            lambda: core.dial_failed(line_id, Reason.UPSTREAM_UNREACHABLE, self.now),
            lambda: core.dial_refused(line_id, Reason.RATE_LIMITED, 1.0, self.now),
        )
        self.tell(books, ends[how])

    @precondition(lambda self: self.lines(READY, LEASED, DRAINING))
    @rule(at=WHICH)
    def line_is_lost(self, at: int) -> None:
        self.lose(*some(at, self.lines(READY, LEASED, DRAINING)))

    def lose(self, books: Books, line_id: ConnectionId) -> None:
        line, known = books.lines[line_id], books.pools[books.lines[line_id].pool]
        before, line.state = line.state, CLOSED
        books.leases = {each: lease for each, lease in books.leases.items() if lease[0] != line_id}

        def happens() -> list[Effect]:
            effects = books.core.connection_lost(line_id, self.now)
            counts = line.version == known.version and (before == READY or (before == LEASED and known.failures))
            if self.now - line.ready_at < STANDING_SECONDS and counts:
                known.dies(line.ready_at, books.rng.last, self.now)
                if before == READY:
                    books.breaker.sees_death(line, self.now)
            return effects

        self.tell(books, happens)

    @precondition(lambda self: any(books.asked_for_proof() for books in self.all))
    @rule(at=WHICH)
    def proof_comes(self, at: int) -> None:
        books, line_id = some(at, [(books, line) for books in self.all for line in books.asked_for_proof()])
        line = books.lines[line_id]
        line.proven_at, line.proving = self.now, False
        self.tell(books, lambda: books.core.proven(line_id, self.now))

    @precondition(lambda self: self.lines(DRAINING))
    @rule(most=st.integers(1, 6))
    def closes_finish(self, most: int) -> None:
        for books, line_id in self.lines(DRAINING)[:most]:
            self.close_finishes(books, line_id)

    def close_finishes(self, books: Books, line_id: ConnectionId) -> None:
        books.lines[line_id].state = CLOSED
        self.tell(books, lambda: books.core.close_finished(line_id, self.now))

    # Operators and other gateways: rarely, or most runs would be over before they begin.

    @precondition(lambda self: self.inputs >= 20)
    @rule(
        at=WHICH,
        pool=POOLS,
        what=st.sampled_from(("pause", "unpause", "unpause", "unpause", "retire", "retire", "drain")),
    )
    def operate(self, at: int, pool: str, what: str) -> None:
        books = self.all[at % len(self.all)]
        pool = pool if pool in books.pools else "a"
        known, core = books.pools[pool], books.core
        match what:
            case "pause":
                known.paused = True
                core.pause(pool)
            case "unpause":
                known.paused = known.draining = False
                self.tell(books, lambda: core.unpause(pool, self.now))
            case "retire":
                known.version, known.outdated_until = f"v{at}", self.now + OUTDATED_SECONDS
                self.tell(books, lambda: core.retire(pool, f"v{at}", self.now))
            case "drain":
                known.draining = True
                self.tell(books, lambda: core.drain(self.now, pool))

    @precondition(lambda self: self.inputs >= 10)
    @rule(at=WHICH, lines=st.integers(1, 3))
    def give_back(self, at: int, lines: int) -> None:
        books = self.all[at % len(self.all)]
        idle = sum(max(0, len(books.of(READY, pool=pool)) - books.due(pool)) for pool in books.pools)
        books.recalling = min(lines, idle)
        self.tell(books, lambda: books.core.give_back(lines, self.now))
        assert books.recalling == 0, "lines that nobody is owed are kept"

    @precondition(lambda self: self.inputs >= 40)
    @rule(at=WHICH)
    def fence(self, at: int) -> None:
        books = self.all[at % len(self.all)]
        leases, lines, books.fencing = set(books.leases), books.of(CONNECTING, READY, LEASED), True
        told = self.tell(books, lambda: books.core.fence(self.now))
        books.fencing = False
        assert {each.lease_id for each in told if isinstance(each, Revoke)} == leases
        assert not set(lines) & set(books.of(CONNECTING, READY, LEASED)), "a line outlives the fence"
        assert not [each for each in told if isinstance(each, Grant)]

    # Time.

    @rule(beats=st.sampled_from((0, 1, 2, 4, 8, 8, 40)))
    def time_passes(self, beats: int) -> None:
        """Late or early: a busy loop does not keep to deadlines."""
        self.now += beats * BEAT
        for books in self.all:
            self.tell(books, lambda books=books: books.core.tick(self.now))  # type: ignore[misc]

    @rule(times=st.integers(1, 4))
    def the_timer_rings(self, times: int) -> None:
        for _ in range(times):
            dues = [due for books in self.all if (due := books.core.next_deadline(self.now)) is not None]
            if dues:
                self.now = min(dues)
                for books in self.all:
                    self.tell(books, lambda books=books: books.core.tick(self.now))  # type: ignore[misc]

    @rule(part=st.sampled_from((0.0, 0.5, 0.99)))
    def before_the_timer_rings_nothing_happens(self, part: float) -> None:
        """Nothing that happens by time is missed by `next_deadline`."""
        due = self.next_due()
        moment = self.now + (due - self.now) * part
        if moment >= due:  # by rounding
            return
        self.now, self.broken = moment, True
        for books in self.all:
            assert books.core.tick(moment) == [], "a deadline was missed"
        self.broken = False

    @precondition(lambda self: any(books.reservations for books in self.all))
    @rule()
    def a_reservation_has_ended_at_its_expiry_whether_or_not_the_timer_has_rung(self) -> None:
        books, lease_id = min(
            ((books, each) for books in self.all for each in books.reservations),
            key=lambda of: of[0].reservations[of[1]][1],
        )
        pool, expires_at = books.reservations[lease_id]
        if self.next_due() < expires_at:
            return
        self.now = expires_at
        assert not books.core.renew_reservation(lease_id, TTL_SECONDS, self.now)
        with pytest.raises(KeyError):
            books.core.redeem(pool, WaiterId(0), lease_id, self.now + 9.0, self.now)
        self.time_passes(0)

    def next_due(self) -> float:
        dues = [due for books in self.all if (due := books.core.next_deadline(self.now)) is not None]
        return min([*dues, self.now + 60.0])

    # Promises.

    @invariant()
    def every_promise_is_kept(self) -> None:
        self.broken = True  # until the end
        for books in self.all:
            books.now = self.now
        keep_every_promise(self.all, self.breaker)
        self.broken = not self.all

    def teardown(self) -> None:
        """After drain and all leases ended, nothing is left."""
        if self.broken:
            return  # it has failed already, or never begun
        for books in self.all:
            for known in books.pools.values():
                known.draining = True
            self.tell(books, lambda books=books: books.core.drain(self.now))  # type: ignore[misc]
        while self.lines(CONNECTING):
            self.dial_succeeds(0, None) if len(self.lines(CONNECTING)) % 2 else self.dial_fails(0, FAILURES[0], None)
        for books in self.all:
            for lease_id in list(books.leases):
                self.release(books, lease_id)
        self.closes_finish(len(self.lines(DRAINING)))
        for books in self.all:
            each_request_is_answered_exactly_once(books)
            assert (books.waits, books.reservations, books.leases) == ({}, {}, {})
            assert [books.core.stats(pool, self.now).total for pool in books.pools] == [0] * len(books.pools)
            rings = 0
            while (due := books.core.next_deadline(self.now)) is not None:
                self.now, rings = due, rings + 1
                assert books.core.tick(due) == []
                assert rings < 20, "it never rests"


TestPoolMachine = pytest.mark.timeout(3600)(PoolMachine.TestCase)
TestPoolMachine.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, phases=PHASES)

# The same promises, on more ways.
TestMorePoolMachines: Any = pytest.mark.heavy(type("TestMorePoolMachines", (PoolMachine.TestCase,), {}))
TestMorePoolMachines.settings = settings(max_examples=MORE_EXAMPLES, stateful_step_count=STEPS, deadline=None)
