"""The machine's own books: what a pool was told and what it answered, and each promise about a single effect.

Written from the promises, without a look at the pool's own: `test_pool_machine.py` tries them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.effects import Close, Dial, Effect, Grant, Prove, Reject, Reserve, Revoke, Urgency
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolLimits
from gateway.core.share import BARE
from tests.property.test_pool_machine_dialling import (
    BACKOFF,
    CONNECTING,
    FOREVER,
    STUBBORN,
    BreakerBooks,
    Line,
    Pool,
    RecordingRandom,
)

ROUNDING: Final = 1e-6
TTL_SECONDS: Final = 2.0
STANDING_SECONDS: Final = 5.0
RECALL_PAUSE_SECONDS: Final = 2.0
LIFE_LEFT_MIN: Final = 0.8
READY, LEASED, DRAINING, CLOSED = "ready", "leased", "draining", "closed"
FIRST, ORDINARY, ALONE = "first", "ordinary", "alone"


@dataclass
class Wait:
    pool: str
    queue: str
    asked_at: float
    deadline: float
    # Wants a unit, not a line.
    reserves: bool = False
    # His reservation was made here.
    holds_unit: bool = False


class Books:
    """One core and what is known of it."""

    def __init__(
        self, limits: dict[str, PoolLimits], breaker: BreakerBooks, core: PoolCore, rng: RecordingRandom
    ) -> None:
        self.core = core
        self.rng = rng
        self.breaker = breaker
        self.pools = {name: Pool(each, "v1") for name, each in limits.items()}
        self.has_bare = core.has_bare
        if self.has_bare:
            self.pools[BARE] = Pool(_bare_limits(list(limits.values())), "")
        self.class_ceiling = sum(each.ceiling for each in limits.values())
        self.sharing_ceiling = sum(each.ceiling for each in limits.values() if each.demand.enabled)
        self.usual = 1.0
        self.now = 0.0
        self.asking: WaiterId | None = None
        self.refused_alone: WaiterId | None = None
        self.waits: dict[WaiterId, Wait] = {}
        self.answers: dict[WaiterId, int] = {}
        self.cancelled: set[WaiterId] = set()
        self.lines: dict[ConnectionId, Line] = {}
        self.young: list[Line] = []
        self.leases: dict[LeaseId, tuple[ConnectionId, float]] = {}  # renewed at
        self.reservations: dict[LeaseId, tuple[str, float]] = {}  # expires at
        self.ids_seen: set[LeaseId] = set()
        self.used: set[ConnectionId] = set()
        self.closed_by_us: set[ConnectionId] = set()
        self.fencing = False
        self.recalling = 0

    # Questions.

    @property
    def follows_demand(self) -> bool:
        return any(known.limits.demand.enabled for known in self.pools.values())

    def of(self, *states: str, pool: str | None = None) -> list[ConnectionId]:
        return [
            line_id
            for line_id, line in self.lines.items()
            if line.state in states and (pool is None or line.pool == pool)
        ]

    def open_in(self, pool: str) -> int:
        return len(self.of(CONNECTING, READY, LEASED, DRAINING, pool=pool))

    def waiting(self, pool: str) -> list[WaiterId]:
        """Everybody in the order in which they are to be served, alone last."""
        order = {FIRST: 1, ORDINARY: 2, ALONE: 3}
        mine = [each for each, wait in self.waits.items() if wait.pool == pool]
        # Whose unit is kept here comes before those who reserved elsewhere.
        return sorted(mine, key=lambda each: 0 if self.waits[each].holds_unit else order[self.waits[each].queue])

    def head(self, pool: str) -> WaiterId | None:
        return next((each for each in self.waiting(pool) if self.waits[each].queue != ALONE), None)

    def reserved(self, pool: str) -> int:
        return sum(of == pool for of, _ in self.reservations.values())

    def due(self, pool: str) -> int:
        """How many lines are owed for: those who wait on the shelf, and reservations."""
        waiting = sum(wait.pool == pool and wait.queue != ALONE for wait in self.waits.values())
        return waiting + self.reserved(pool)

    def supply(self, pool: str) -> int:
        """Lines that are there or on their way, but for those of one waiter alone."""
        coming = [each for each in self.of(CONNECTING, pool=pool) if self.lines[each].alone_for is None]
        return len(coming) + len(self.of(READY, pool=pool))

    def owed_alone(self, pool: str) -> int:
        dialled = {self.lines[each].alone_for for each in self.of(CONNECTING, pool=pool)}
        return sum(w.pool == pool and w.queue == ALONE and each not in dialled for each, w in self.waits.items())

    def stock(self, pool: str) -> int:
        """The floor, and a successor for each ready line of another version."""
        version = self.pools[pool].version
        return self.floor(pool) + sum(self.lines[each].version != version for each in self.of(READY, pool=pool))

    def floor(self, pool: str) -> int:
        return self.core.stats(pool, self.now).floor

    def is_proven(self, line: Line, pool: str) -> bool:
        return line.state == READY and self.now - line.proven_at <= self.pools[pool].limits.proof_max_seconds

    def freshest(self, pool: str) -> ConnectionId | None:
        proven = [each for each, line in self.lines.items() if line.pool == pool and self.is_proven(line, pool)]
        # Of those that came in the same moment, the last.
        return max(reversed(proven), key=lambda each: self.lines[each].ready_at, default=None)

    def may_have(self, waiter_id: WaiterId) -> ConnectionId | None:
        """The line that somebody at the head of his queue may have now."""
        wait = self.waits[waiter_id]
        limits = self.pools[wait.pool].limits
        own = self.freshest(wait.pool)
        unreserved = len(self.of(READY, pool=wait.pool)) > self.reserved(wait.pool)
        if own is not None and (wait.holds_unit or unreserved):
            return own
        if not self.has_bare or wait.reserves or not limits.demand.enabled:
            return None
        return self.freshest(BARE) if self.open_in(wait.pool) < limits.ceiling else None

    def width(self, pool: str) -> int:
        return min(self.pools[pool].limits.dials_max, self.pools[pool].width)

    def opens_at(self, pool: str, *, waited_for: bool) -> float:
        known = self.pools[pool]
        soonest = max(known.not_before, self.breaker.allows_at(waited_for=waited_for))
        return soonest if waited_for else max(soonest, known.refill_not_before)

    def reserve_opens_at(self, pool: str) -> float:
        oldest = min((wait.asked_at for wait in self.waits.values() if wait.pool == pool), default=FOREVER)
        return oldest + self.pools[pool].limits.reserve_after_ms / 1000

    def places(self, pool: str, *, waited_for: bool) -> int:
        limits = self.pools[pool].limits
        places = limits.ceiling - self.open_in(pool)
        if limits.demand.enabled:
            sharing = [name for name, known in self.pools.items() if known.limits.demand.enabled]
            places = min(places, self.sharing_ceiling - sum(map(self.open_in, sharing)))
        opened = waited_for and self.reserve_opens_at(pool) <= self.now
        return places - (0 if opened else limits.reserve)

    def patience(self, pool: str) -> float:
        fruitless = max(0, self.pools[pool].given_up - 3)
        return float(min(10.0, max(1.0, 3.0 * self.usual) * 2.0**fruitless))

    def room_for_the_alone(self, pool: str) -> int:
        """Places under the ceiling that are free, or will be soon."""
        return self.pools[pool].limits.ceiling - self.open_in(pool) + len(self.of(DRAINING, pool=pool))

    def hanging(self, pool: str) -> list[ConnectionId]:
        """Dials that are no supply any more."""
        return [each for each in self.of(CONNECTING, pool=pool) if self.hangs_at(self.lines[each]) <= self.now]

    def hangs_at(self, line: Line) -> float:
        known, patience = self.pools[line.pool], self.patience(line.pool)
        if line.begun_at is None:
            return FOREVER
        hangs_at = line.begun_at + patience
        return hangs_at if line.begun_at < known.overtakes else max(hangs_at, known.gave_up_at + patience)

    def needs_what_hangs(self, pool: str, dials: int) -> bool:
        alone = any(wait.pool == pool and wait.queue == ALONE for wait in self.waits.values())
        return alone or self.due(pool) + self.stock(pool) > self.supply(pool) - dials

    def given_up(self) -> list[ConnectionId]:
        """Dials that were ended from here and are not closed yet."""
        return [each for each in self.of(DRAINING) if not self.lines[each].ready_at]

    def asked_for_proof(self) -> list[ConnectionId]:
        return [each for each, line in self.lines.items() if line.proving and line.state != CLOSED]

    def expected(self) -> list[float]:
        """The moments at which something must happen by itself."""
        times = [wait.deadline for wait in self.waits.values()]
        times += [expires_at for _, expires_at in self.reservations.values()]
        for line in (self.lines[each] for each in self.of(READY)):
            times.append(line.ready_at + line.age_max)
            if not line.proving:
                times.append(line.proven_at + self.pools[line.pool].limits.proof_max_seconds / 2)
        longest = max(known.limits.leak_after_seconds for known in self.pools.values())
        times += [renewed_at + 1.25 * longest for _, renewed_at in self.leases.values()]
        for pool, known in self.pools.items():
            if not known.draining:
                times += self._expected_dials(pool)
            if known.failures:  # a line that stands ends them
                standing = [line for line in self.young if line.state in (READY, LEASED)]
                times += [line.ready_at + STANDING_SECONDS for line in standing]
        return [at for at in times if at > self.now]

    def _expected_dials(self, pool: str) -> list[float]:
        times, dialling = list[float](), self.of(CONNECTING, pool=pool)
        owed = self.due(pool) > self.supply(pool) or self.owed_alone(pool) > 0
        if self.needs_what_hangs(pool, 1):
            times += [at for each in dialling if (at := self.hangs_at(self.lines[each])) < FOREVER]
        if len(dialling) >= self.width(pool):
            return times
        if owed and self.places(pool, waited_for=True) > 0:
            times.append(self.opens_at(pool, waited_for=True))
        if owed and self.places(pool, waited_for=True) + self.pools[pool].limits.reserve > 0:
            times.append(max(self.reserve_opens_at(pool), self.opens_at(pool, waited_for=True)))
        lacking = self.due(pool) + self.stock(pool) > self.supply(pool)
        if lacking and self.places(pool, waited_for=False) > 0:
            times.append(self.opens_at(pool, waited_for=False))
        return [at for at in times if at < FOREVER]

    # Facts.

    def stand(self) -> None:
        """See which lines have stood long enough, as every settling does first."""
        while self.young and self.young[0].ready_at + STANDING_SECONDS <= self.now:
            line = self.young.pop(0)
            if line.state in (READY, LEASED):
                self.breaker.stood()
                for name, known in self.pools.items():
                    if name == line.pool or known.last_failure not in STUBBORN:
                        known.stood(line.ready_at, self.now)

    def answer(self, waiter_id: WaiterId) -> Wait:
        self.answers[waiter_id] += 1
        return self.waits.pop(waiter_id)

    def expire_reservations(self) -> None:
        for lease_id, (pool, expires_at) in list(self.reservations.items()):
            if expires_at <= self.now or self.pools[pool].draining:
                del self.reservations[lease_id]

    def take(self, effects: list[Effect]) -> None:
        """Enter what one settling wants done, in order."""
        self.stand()
        self.expire_reservations()
        takes: dict[type, Callable[[Any], None]] = {
            Dial: self._take_dial,
            Grant: self._take_grant,
            Reserve: self._take_reserve,
            Reject: self._take_reject,
            Prove: self._take_prove,
            Revoke: self._take_revoke,
            Close: self._take_close,
        }
        closes = [effect for effect in effects if isinstance(effect, Close)]
        hung = {self.lines[close.connection_id].pool for close in closes if close.reason == "hanging"}
        for effect in effects:
            takes[type(effect)](effect)
        for pool in hung:
            self.pools[pool].given_up += 1
            self.pools[pool].gave_up_at = self.now

    def _leak_after(self, lease_id: LeaseId) -> float:
        line_id, _ = self.leases[lease_id]
        return self.pools[self.lines[line_id].pool].limits.leak_after_seconds

    # Effects.

    def _take_revoke(self, revoke: Revoke) -> None:
        _, renewed_at = self.leases[revoke.lease_id]
        assert self.fencing or renewed_at + self._leak_after(revoke.lease_id) <= self.now, (
            "a lease in use is taken back"
        )

    def _take_dial(self, dial: Dial) -> None:
        pool, known, waited_for = dial.pool, self.pools[dial.pool], dial.urgency is Urgency.WAITER
        assert not known.draining, "a dial after the drain"
        assert dial.connection_id not in self.lines, "a name is used twice"
        assert self.now >= known.not_before, "a dial before the back-off is over"
        assert waited_for or self.now >= known.refill_not_before, "the floor is refilled too early"
        assert self.now >= self.breaker.allows_at(waited_for=waited_for), "a dial through an open breaker"
        assert self.places(pool, waited_for=waited_for) > 0, "a dial above what may be used"
        line = Line(pool, known.version, waited_for, dial.dialled_for, decided_at=self.now)
        if self.breaker.is_open:
            self.breaker.probe = line
        if dial.dialled_for is not None:
            wait = self.waits[dial.dialled_for]
            assert (wait.queue, wait.pool, waited_for) == (ALONE, pool, True)
            assert dial.dialled_for not in {each.alone_for for each in self.lines.values() if each.state == CONNECTING}
        self.lines[dial.connection_id] = line
        assert len(self.of(CONNECTING, pool=pool)) <= self.width(pool), "too many dials at once"
        if dial.dialled_for is None:
            wanted = self.due(pool) + (0 if waited_for else self.stock(pool))
            assert self.supply(pool) <= wanted, "a needless dial"

    def _take_grant(self, grant: Grant) -> None:
        wait, line = self.waits[grant.waiter_id], self.lines[grant.connection_id]
        assert self.now < wait.deadline, "a grant after the deadline"
        assert not wait.reserves
        assert grant.waited_seconds == self.now - wait.asked_at
        assert grant.at_once is (grant.waiter_id == self.asking), "a hit that is none"
        assert grant.connection_id not in self.used, "a used line is granted again"
        assert line.state == READY
        assert grant.entry_age_seconds == self.now - line.ready_at
        assert grant.entry_age_seconds < max(line.age_max, ROUNDING), "a line past its age"
        if line.alone_for is not None:
            assert line.alone_for == grant.waiter_id, "a line for somebody else alone"
        else:
            assert wait.queue != ALONE, "a line that was not dialled for one waiter alone"
            assert self.head(wait.pool) == grant.waiter_id, "not first come, first served"
            assert grant.connection_id == self.may_have(grant.waiter_id), "not the line that he may have"
            if line.pool == BARE:
                self._longest_waiting_takes_a_bare_line(wait)
        configured = line.pool == wait.pool and line.version == self.pools[wait.pool].version
        assert grant.configured is configured
        self._new_id(grant.lease_id)
        self.used.add(grant.connection_id)
        self.leases[grant.lease_id] = (grant.connection_id, self.now)
        line.state, line.pool = LEASED, wait.pool
        self.answer(grant.waiter_id)

    def _longest_waiting_takes_a_bare_line(self, wait: Wait) -> None:
        for pool in self.pools:
            head = self.head(pool)
            line_id = self.may_have(head) if head is not None else None
            if head is not None and line_id is not None and self.lines[line_id].pool == BARE:
                assert self.waits[head].asked_at >= self._asks_since(wait.pool), "a bare line for who has waited less"

    def _asks_since(self, pool: str) -> float:
        return min((wait.asked_at for wait in self.waits.values() if wait.pool == pool), default=FOREVER)

    def _take_reserve(self, made: Reserve) -> None:
        wait = self.waits[made.waiter_id]
        assert wait.reserves
        assert self.now < wait.deadline, "a unit after the deadline"
        assert self.head(wait.pool) == made.waiter_id, "not first come, first served"
        assert len(self.of(READY, pool=wait.pool)) > self.reserved(wait.pool), "a unit that is not there"
        assert self.freshest(wait.pool) is not None, "a unit that nothing proves"
        assert made.at_once is (made.waiter_id == self.asking), "a hit that is none"
        assert made.waited_seconds == self.now - wait.asked_at
        self._new_id(made.lease_id)
        self.reservations[made.lease_id] = (wait.pool, self.now + TTL_SECONDS)
        self.answer(made.waiter_id)

    def _new_id(self, lease_id: LeaseId) -> None:
        assert lease_id not in self.ids_seen, "an id is used twice"
        self.ids_seen.add(lease_id)

    def _take_reject(self, reject: Reject) -> None:
        wait = self.answer(reject.waiter_id)
        known = self.pools[wait.pool]
        assert reject.waited_seconds == self.now - wait.asked_at
        match reject.reason:
            case Reason.QUEUE_FULL:
                assert reject.waiter_id == self.asking
                assert len(self.waiting(wait.pool)) >= known.limits.waiters_max, "the queue was not full"
            case Reason.POOL_PAUSED:
                assert reject.waiter_id == self.asking
                assert known.paused
            case _ if reject.waiter_id == self.refused_alone:
                assert wait.queue == ALONE
            case Reason.DRAINING:
                assert known.draining
            case _:
                assert not known.draining
                assert wait.deadline <= self.now or self.is_hopeless(wait), "sent away too early"
                why_not = self._why_not(wait.pool)
                blocked = why_not is Reason.WAIT_TIMED_OUT and reject.reason is known.blocked_by
                assert blocked or reject.reason is why_not, "the wrong reason"

    def is_hopeless(self, wait: Wait) -> bool:
        known = self.pools[wait.pool]
        failing = known.last_failure is not None or self.breaker.is_open
        bare_comes = self.has_bare and known.limits.demand.enabled and self.of(CONNECTING, pool=BARE)
        on_its_way = self.of(CONNECTING, pool=wait.pool) or bare_comes
        soonest = self.opens_at(wait.pool, waited_for=True)
        return failing and not on_its_way and wait.deadline <= soonest < FOREVER

    def _why_not(self, pool: str) -> Reason:
        known = self.pools[pool]
        if known.last_failure is not None:
            return known.last_failure
        if self.breaker.is_open and self.breaker.last_failure is not None:
            return self.breaker.last_failure
        if len(self.of(READY, LEASED, DRAINING, pool=pool)) >= known.limits.ceiling:
            return Reason.POOL_EXHAUSTED
        return Reason.WAIT_TIMED_OUT

    def _take_prove(self, prove: Prove) -> None:
        line = self.lines[prove.connection_id]
        half = self.pools[line.pool].limits.proof_max_seconds / 2
        assert line.state == READY
        assert not line.proving, "asked twice at a time"
        assert self.now - line.proven_at >= half - ROUNDING, "asked too early"
        line.proving = True

    def _take_close(self, close: Close) -> None:
        line_id, line = close.connection_id, self.lines[close.connection_id]
        assert line_id not in self.closed_by_us, "closed twice"
        self.closed_by_us.add(line_id)
        match close.reason:
            case "ended" | "leaked":
                assert line.state == LEASED
            case "fenced":
                assert self.fencing
                assert line.state in (CONNECTING, READY, LEASED)
            case "hanging":
                assert line.state == CONNECTING
                self._is_one_to_give_up(line_id, line)
                assert self.needs_what_hangs(line.pool, len(self.hanging(line.pool))), "nobody needs it"
            case "unwanted" if line.alone_for is None:
                assert line.state == READY
                assert self.owed_alone(line.pool) > self.room_for_the_alone(line.pool), "there is room"
                self._is_the_oldest_that_nobody_is_owed(line)
            case "unwanted":
                assert line.alone_for not in self.waits or self.waits[line.alone_for].deadline <= self.now
            case _:
                assert line.state == READY
                self._take_close_of_ready(close.reason, line)
        if line.state == LEASED:
            for lease_id in [each for each, (held, _) in self.leases.items() if held == line_id]:
                del self.leases[lease_id]
        self.breaker.ends(line)
        line.state = DRAINING

    def _is_one_to_give_up(self, line_id: ConnectionId, line: Line) -> None:
        """All that later dials have overtaken, else the oldest alone."""
        hanging, since = self.hanging(line.pool), self.pools[line.pool].overtakes
        assert line_id in hanging, "given up too early"
        overtaken = [each for each in hanging if (self.lines[each].begun_at or FOREVER) < since]
        assert line_id in (overtaken or hanging[:1]), "more are given up than need be"

    def _is_the_oldest_that_nobody_is_owed(self, line: Line) -> None:
        ready = self.of(READY, pool=line.pool)
        assert len(ready) > self.due(line.pool), "somebody is owed this line"
        assert not [each for each in ready if self.lines[each].ready_at < line.ready_at], "not the oldest"

    def _take_close_of_ready(self, reason: str, line: Line) -> None:
        known = self.pools[line.pool]
        match reason:
            case "aged":
                age_min = min(line.age_max, known.limits.age_max_seconds * (1 - known.limits.age_jitter_ratio))
                assert self.now - line.ready_at > age_min - ROUNDING, "retired too early"
            case "version":
                assert line.version != known.version
                is_over = self.now >= known.outdated_until
                is_enough = len(self.of(READY, pool=line.pool)) > self.due(line.pool) + self.floor(line.pool)
                is_full = self.open_in(line.pool) >= known.limits.ceiling - known.limits.reserve
                assert is_over or is_enough or is_full
            case "drained":
                assert known.draining
            case "recalled":
                assert self.recalling > 0
                self.recalling -= 1
                known.refill_not_before = max(known.refill_not_before, self.now + RECALL_PAUSE_SECONDS)
                self._is_the_oldest_that_nobody_is_owed(line)
            case _:
                raise AssertionError(reason)


def _bare_limits(limits: list[PoolLimits]) -> PoolLimits:
    """The bounds of the lines that nobody has for himself."""
    sharing = [each for each in limits if each.demand.enabled and not each.floor]
    widest = max(sharing, key=lambda each: each.ceiling)
    return PoolLimits(
        floor=0,
        ceiling=sum(each.ceiling for each in limits),
        reserve=sum(each.reserve for each in limits),
        reserve_after_ms=widest.reserve_after_ms,
        dials_max=widest.dials_max,
        age_max_seconds=widest.age_max_seconds,
        age_jitter_ratio=widest.age_jitter_ratio,
        proof_max_seconds=widest.proof_max_seconds,
        leak_after_seconds=widest.leak_after_seconds,
        backoff=BACKOFF,
    )
