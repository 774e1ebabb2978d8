"""The stage for the tests of the pool: one core, a clock, and short ways to tell it what happens."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from random import Random
from typing import Final, TypeVar

from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.demand import DemandOptions
from gateway.core.effects import Close, Dial, Effect, Grant, Prove, Reject, Reserve, Revoke
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.policy import STANDING_SECONDS
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolLimits, PoolStats
from gateway.core.reservation import ReservationEvent

WAIT_SECONDS: Final = 2.0
TTL_SECONDS: Final = 30.0
# Longer than any story here.
NEVER_SECONDS: Final = 1e6
OFF: Final = DemandOptions(enabled=False)
ON: Final = DemandOptions(enabled=True)
# Nothing happens by itself but what a test asks for.
PLAIN: Final = PoolLimits(
    floor=0,
    ceiling=4,
    reserve=0,
    age_max_seconds=NEVER_SECONDS,
    age_jitter_ratio=0.0,
    proof_max_seconds=NEVER_SECONDS,
    leak_after_seconds=NEVER_SECONDS,
    demand=OFF,
)
E = TypeVar("E")


class Highest(Random):
    """Draws the end of every range: the whole jitter, the whole back-off."""

    def random(self) -> float:
        return 1.0

    def uniform(self, a: float, b: float) -> float:
        return b


def lease_ids() -> Iterator[LeaseId]:
    return (LeaseId(f"lease-{number}") for number in count(1))


def limits(**changes: object) -> PoolLimits:
    return replace(PLAIN, **changes)  # type: ignore[arg-type]


class Stage:
    """One core and a clock; every input is told at `now`, for template "a" unless another is named."""

    def __init__(self, breaker: Breaker | None = None, **shares: PoolLimits) -> None:
        self.breaker = breaker or Breaker(BreakerOptions())
        versioned = {name: ("v1", each) for name, each in (shares or {"a": PLAIN}).items()}
        self.core = PoolCore(versioned, self.breaker, Highest(), lease_ids())
        self.now = 1000.0
        self._waiter_ids = count(1)

    # Questions.

    def stats(self, pool: str = "a") -> PoolStats:
        return self.core.stats(pool, self.now)

    @property
    def due(self) -> float | None:
        return self.core.next_deadline(self.now)

    def holds(self, lease_id: LeaseId, pool: str = "a") -> bool:
        """Whether a reservation lives."""
        return lease_id in self.core.reservations(pool)

    def due_in(self) -> float:
        due = self.due
        assert due is not None
        return due - self.now

    # Callers.

    def ask(self, pool: str = "a", wait: float = WAIT_SECONDS) -> tuple[WaiterId, list[Effect]]:
        waiter_id = self._waiter()
        return waiter_id, self.core.request(pool, waiter_id, self.now + wait, self.now)

    def recover(self, pool: str = "a", wait: float = WAIT_SECONDS) -> tuple[WaiterId, list[Effect]]:
        waiter_id = self._waiter()
        return waiter_id, self.core.recover(pool, waiter_id, self.now + wait, self.now)

    def ask_alone(self, pool: str = "a", wait: float = WAIT_SECONDS) -> tuple[WaiterId, list[Effect]]:
        waiter_id = self._waiter()
        return waiter_id, self.core.request_alone(pool, waiter_id, self.now + wait, self.now)

    def reserve(
        self, pool: str = "a", ttl: float = TTL_SECONDS, wait: float = WAIT_SECONDS
    ) -> tuple[WaiterId, list[Effect]]:
        waiter_id = self._waiter()
        return waiter_id, self.core.reserve(pool, waiter_id, ttl, self.now + wait, self.now)

    def reserved(self, pool: str = "a", ttl: float = TTL_SECONDS) -> LeaseId:
        """Reserve a unit that is there."""
        (made,) = reserves(self.reserve(pool, ttl)[1])
        return made.lease_id

    def redeem(
        self, lease_id: LeaseId | None, pool: str = "a", wait: float = WAIT_SECONDS
    ) -> tuple[WaiterId, list[Effect]]:
        waiter_id = self._waiter()
        return waiter_id, self.core.redeem(pool, waiter_id, lease_id, self.now + wait, self.now)

    def end(self, lease_id: LeaseId, event: ReservationEvent = ReservationEvent.RELEASED) -> list[Effect]:
        return self.core.end_reservation(lease_id, event, self.now)

    def cancel(self, waiter_id: WaiterId) -> list[Effect]:
        return self.core.cancel(waiter_id, self.now)

    def granted(self, pool: str = "a") -> Grant:
        """Take a line that is there."""
        (grant,) = grants(self.ask(pool)[1])
        return grant

    def release(self, grant: Grant) -> list[Effect]:
        return self.core.release(grant.lease_id, "ended", self.now)

    # Lines.

    def start(self) -> list[Effect]:
        return self.core.start(self.now)

    def begun(self, line: ConnectionId) -> None:
        self.core.dial_begun(line, self.now)

    def ready(self, line: ConnectionId, life_seconds: float | None = None) -> list[Effect]:
        return self.core.dial_succeeded(line, life_seconds, self.now)

    def fail(
        self, line: ConnectionId, reason: Reason = Reason.UPSTREAM_UNREACHABLE, retry_after: float | None = None
    ) -> list[Effect]:
        return self.core.dial_failed(line, reason, self.now, retry_after)

    def refuse(
        self, line: ConnectionId, retry_after: float = 1.0, reason: Reason = Reason.POOL_EXHAUSTED
    ) -> list[Effect]:
        return self.core.dial_refused(line, reason, retry_after, self.now)

    def lose(self, line: ConnectionId) -> list[Effect]:
        return self.core.connection_lost(line, self.now)

    def lose_standing(self, line: ConnectionId) -> list[Effect]:
        """Lose a line that has stood for long enough to be no failure."""
        self.now += STANDING_SECONDS
        return self.lose(line)

    def prove(self, line: ConnectionId) -> list[Effect]:
        return self.core.proven(line, self.now)

    def closed(self, line: ConnectionId) -> list[Effect]:
        return self.core.close_finished(line, self.now)

    # Time.

    def after(self, seconds: float) -> list[Effect]:
        self.now += seconds
        return self.core.tick(self.now)

    def until_due(self) -> list[Effect]:
        """Let the timer ring."""
        return self.after(self.due_in())

    def until_dial(self) -> tuple[float, list[ConnectionId]]:
        """Let the timer ring until something is dialled; return after how long, and what."""
        since = self.now
        for _ in range(100):
            if lines := dials(self.until_due()):
                return self.now - since, lines
        raise AssertionError("nothing is dialled")

    # Whole stories.

    def settle_dials(self, effects: list[Effect]) -> list[ConnectionId]:
        """Let every dial succeed, and those that follow from it; return the lines in order."""
        lines, begun = list[ConnectionId](), dials(effects)
        while begun:
            lines.append(begun.pop(0))
            begun += dials(self.ready(lines[-1]))
        return lines

    def warm(self) -> list[ConnectionId]:
        """Start, and let the floors be filled."""
        return self.settle_dials(self.start())

    def opened_breaker(self) -> None:
        """Let the breaker open, by failures elsewhere."""
        for _ in range(5):
            self.breaker.failed(Reason.UPSTREAM_UNREACHABLE, self.now)
        assert self.breaker.is_open

    def _waiter(self) -> WaiterId:
        return WaiterId(next(self._waiter_ids))


def one(**changes: object) -> Stage:
    """A stage with one template."""
    return Stage(a=limits(**changes))


def all_of(kind: type[E], effects: list[Effect]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def dials(effects: list[Effect]) -> list[ConnectionId]:
    return [dial.connection_id for dial in all_of(Dial, effects)]


def dialled_pools(effects: list[Effect]) -> list[str]:
    return [dial.pool for dial in all_of(Dial, effects)]


def grants(effects: list[Effect]) -> list[Grant]:
    return all_of(Grant, effects)


def reserves(effects: list[Effect]) -> list[Reserve]:
    return all_of(Reserve, effects)


def rejects(effects: list[Effect]) -> list[tuple[WaiterId, Reason]]:
    return [(reject.waiter_id, reject.reason) for reject in all_of(Reject, effects)]


def closes(effects: list[Effect]) -> list[Close]:
    return all_of(Close, effects)


def proves(effects: list[Effect]) -> list[ConnectionId]:
    return [prove.connection_id for prove in all_of(Prove, effects)]


def revokes(effects: list[Effect]) -> list[LeaseId]:
    return [revoke.lease_id for revoke in all_of(Revoke, effects)]


def test_a_plain_stage_does_nothing_by_itself() -> None:
    stage = Stage()
    assert stage.start() == []
    assert stage.due is None
