"""What a pool knows: its shares, lines, leases and reservations, and the only ways in which they change.

Decides nothing: policy.py does, after each input that pool.py takes.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from random import Random
from typing import Final

from gateway.core.breaker import Breaker
from gateway.core.connection import TABLE, Connection, ConnectionEvent, ConnectionState
from gateway.core.demand import DemandOptions
from gateway.core.effects import Close, Dial, Effect, Grant, Reserve, Urgency
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.lease import TABLE as LEASE_TABLE
from gateway.core.lease import Lease, LeaseEvent
from gateway.core.pool_limits import PoolLimits
from gateway.core.reservation import TABLE as RESERVATION_TABLE
from gateway.core.reservation import Reservation, ReservationEvent
from gateway.core.share import BARE, NEVER, Share, Waiter
from gateway.core.transitions import step

# A line is handed out only while this part of its life is left.
LIFE_LEFT_MIN_RATIO: Final = 0.8


class Books:
    """The state of one pool. Every method keeps it whole; none looks at what else might be due."""

    def __init__(
        self,
        shares: Mapping[str, tuple[str, PoolLimits]],
        breaker: Breaker,
        rng: Random,
        lease_ids: Iterator[LeaseId],
        bare_version: str,
    ) -> None:
        """Begin empty, with a share for each template: its version and limits."""
        self.breaker = breaker
        self.rng = rng
        self.shares = {name: Share(name, version, limits, rng) for name, (version, limits) in shares.items()}
        self.bare = _bare_share([limits for _, limits in shares.values()], bare_version, rng)
        self.all = [*self.shares.values(), *([self.bare] if self.bare else [])]
        self.connections: dict[ConnectionId, Connection] = {}
        self.leases: dict[LeaseId, Lease] = {}
        self.reservations: dict[LeaseId, Reservation] = {}
        # Lines that have not stood long enough yet, in the order in which they became ready.
        self.young: deque[Connection] = deque()
        self.leaks_at = NEVER
        self.settled_at = 0.0
        self._lease_ids = lease_ids
        self._connection_ids = count(1)

    def add(self, pool: str, version: str, limits: PoolLimits) -> None:
        """Enter a template, or let one that was drained serve again."""
        share = self.shares.get(pool)
        if share is None:
            share = self.shares[pool] = Share(pool, version, limits, self.rng)
            self.all.insert(len(self.shares) - 1, share)
        share.draining = share.paused = False
        share.version = version
        self.set_limits(pool, limits)

    def set_limits(self, pool: str, limits: PoolLimits) -> None:
        """Give a template other bounds, and with it the bare lines that it may use."""
        share = self.shares[pool]
        share.limits, share.demand.options = limits, limits.demand
        together = _bare_limits([share.limits for share in self.shares.values()])
        if self.bare is not None and together is not None:
            self.bare.limits = together

    # Questions.

    def share(self, pool: str) -> Share:
        """The share of a template, or the bare one. Raises `KeyError`."""
        return self.bare if pool == BARE and self.bare is not None else self.shares[pool]

    def share_of(self, line: Connection) -> Share:
        """The share that a line counts for."""
        return self.share(line.pool)

    # Lines. Only `move` changes a state and the collection that it lives in.

    def dial(self, share: Share, now: float, *, waited_for: bool, alone: Waiter | None = None) -> Effect:
        """Enter a line that is to be opened."""
        waiter_id = alone.id if alone else None
        line_id = ConnectionId(next(self._connection_ids))
        probe = self.breaker.dialled()
        recovers = waited_for and len(share.recovering) > sum(each.recovers for each in share.connecting.values())
        line = Connection(line_id, share.name, share.version, now, waited_for, recovers, probe, waiter_id)
        self.connections[line.id] = share.connecting[line.id] = line
        if waiter_id is not None:
            share.alone_lines[waiter_id] = line.id
        urgency = Urgency.RECOVERY if recovers else Urgency.WAITER if waited_for else Urgency.REFILL
        return Dial(line.id, share.name, urgency, waiter_id)

    def stand_ready(self, line: Connection, life_seconds: float | None, now: float) -> float:
        """Put a line on the shelf; return for how long it may stand there, in seconds."""
        share = self.share_of(line)
        limits = share.limits
        age = limits.age_max_seconds * (1 - limits.age_jitter_ratio * self.rng.random())
        if life_seconds is not None:
            age = min(age, life_seconds * (1 - LIFE_LEFT_MIN_RATIO))
        line.ready_at = line.proven_at = now
        line.retire_at = now + age
        self.move(line, ConnectionEvent.DIAL_SUCCEEDED)
        share.expect(line)
        return age

    def move(self, line: Connection, event: ConnectionEvent) -> None:
        """Let something happen to a line."""
        after = step(TABLE, line.state, event)
        share = self.share_of(line)
        shelves = share.shelves
        del shelves[line.state][line.id]
        if line.state is ConnectionState.CONNECTING and line.dialled_for is not None:
            del share.alone_lines[line.dialled_for]
        line.state = after
        if after is ConnectionState.CLOSED:
            del self.connections[line.id]
        else:
            shelves[after][line.id] = line

    def rebook(self, line: Connection, share: Share) -> None:
        """Let a bare line count for the template that takes it."""
        del self.share_of(line).ready[line.id]
        line.pool = share.name
        share.ready[line.id] = line

    def retire(self, line: Connection, reason: str) -> Effect:
        """Take a line that nobody holds away, or give up its dial, which then says nothing about the provider."""
        if line.state is ConnectionState.CONNECTING:
            self.breaker.abandoned(line.probe)
        self.move(line, ConnectionEvent.RETIRED)
        return Close(line.id, reason)

    # Leases and reservations.

    def grant(self, waiter: Waiter, line: Connection, now: float) -> Effect:
        """Give a line to a waiter."""
        self.move(line, ConnectionEvent.GRANTED)
        lease = Lease(next(self._lease_ids), line.id, now, now)
        self.leases[lease.id] = lease
        share = self.share_of(line)
        self.leaks_at = min(self.leaks_at, now + share.limits.leak_after_seconds)
        return Grant(
            waiter.id,
            line.id,
            lease.id,
            at_once=waiter.asks,
            configured=line.version == share.version,
            entry_age_seconds=now - line.ready_at,
            waited_seconds=now - waiter.asked_at,
        )

    def keep(self, waiter: Waiter, seconds: float, now: float) -> Effect:
        """Reserve a unit for a waiter."""
        made = Reservation(next(self._lease_ids), waiter.pool, now, now + seconds)
        self.reservations[made.id] = self.shares[waiter.pool].reservations[made.id] = made
        return Reserve(waiter.id, made.id, waiter.asks, now - waiter.asked_at)

    def end_reservation(self, reservation: Reservation, event: ReservationEvent) -> None:
        """Let a reservation end."""
        reservation.state = step(RESERVATION_TABLE, reservation.state, event)
        del self.reservations[reservation.id]
        del self.shares[reservation.pool].reservations[reservation.id]

    def end(self, lease: Lease, event: LeaseEvent) -> None:
        """Let a lease end; what becomes of its line is another matter."""
        lease.state = step(LEASE_TABLE, lease.state, event)
        del self.leases[lease.id]

    def close_leased(self, lease: Lease, event: LeaseEvent, reason: str) -> Effect:
        """End a lease and take its line away: it is used up."""
        self.end(lease, event)
        self.move(self.connections[lease.connection_id], ConnectionEvent.LEASE_ENDED)
        return Close(lease.connection_id, reason)

    def forget(self, waiter_id: WaiterId) -> None:
        """Strike a waiter off every queue."""
        for share in self.shares.values():
            for queue in share.queues:
                queue.pop(waiter_id, None)


def _bare_share(limits: list[PoolLimits], version: str, rng: Random) -> Share | None:
    """Return the share of lines for templates that are rarely asked for; None where it would help nobody."""
    together = _bare_limits(limits)
    return None if together is None else Share(BARE, version, together, rng)


def _bare_limits(limits: list[PoolLimits]) -> PoolLimits | None:
    sharing = [each for each in limits if each.demand.enabled and not each.floor]
    if len(limits) <= 1 or not sharing:
        return None
    return replace(
        max(sharing, key=lambda each: each.ceiling),
        ceiling=sum(each.ceiling for each in limits),
        reserve=sum(each.reserve for each in limits),
        demand=DemandOptions(enabled=True, k=max(each.demand.k for each in sharing)),
    )
