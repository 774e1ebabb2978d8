"""The shelf of fresh lines: decides who gets one, which are opened and which are closed.

Every input records one fact and then settles; nothing else decides. Performs nothing: effects come
back as values, in order. Knows no clock (`now` comes in, monotonic seconds) and draws chance from `rng`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from random import Random

from gateway.core.backoff import full_jitter_seconds
from gateway.core.connection import TABLE, Connection, ConnectionEvent, ConnectionState
from gateway.core.effects import Close, Dial, Effect, Grant, Reject
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.lease import TABLE as LEASE_TABLE
from gateway.core.lease import Lease, LeaseEvent
from gateway.core.pool_limits import PoolLimits, PoolStats
from gateway.core.transitions import step

# A line is handed out only while this part of its life is left.
LIFE_LEFT_MIN_RATIO = 0.8


@dataclass(slots=True)
class _Waiter:
    id: WaiterId
    asked_at: float
    deadline: float
    # Still inside its own `request`: a grant now is a hit.
    asks: bool = True


class PoolCore:
    """One pool. The shell performs what the methods return and calls `tick` at `next_deadline`."""

    def __init__(self, limits: PoolLimits, rng: Random, lease_ids: Iterator[LeaseId]) -> None:
        """Begin empty; nothing is dialled before `start`."""
        self.limits = limits
        self._rng = rng
        self._lease_ids = lease_ids
        self._connection_ids = count(1)
        self._shelves: dict[ConnectionState, dict[ConnectionId, Connection]] = {
            state: {} for state in ConnectionState if state is not ConnectionState.CLOSED
        }
        self._leases: dict[LeaseId, Lease] = {}
        self._waiters: dict[WaiterId, _Waiter] = {}
        self._draining = False
        self._failures = 0
        self._last_failure: Reason | None = None
        self._dial_not_before = 0.0
        self._settled_at = 0.0

    # Inputs.

    def start(self, now: float) -> list[Effect]:
        """Open the first lines."""
        return self._settle(now)

    def request(self, waiter_id: WaiterId, deadline: float, now: float) -> list[Effect]:
        """Ask for a line until `deadline`. Answered exactly once, by Grant or Reject, unless cancelled."""
        if self._draining:
            return [Reject(waiter_id, Reason.DRAINING, 0.0)]
        late = self._reject_late_waiters(now)
        # A full queue is full only for those who would have to stand in it.
        served_at_once = not self._waiters and self._shelves[ConnectionState.READY]
        if not served_at_once and len(self._waiters) >= self.limits.waiters_max:
            return [*late, Reject(waiter_id, Reason.QUEUE_FULL, 0.0)]
        waiter = self._waiters[waiter_id] = _Waiter(waiter_id, now, deadline)
        effects = self._settle(now)
        waiter.asks = False
        return [*late, *effects]

    def cancel(self, waiter_id: WaiterId, now: float) -> list[Effect]:
        """Forget a waiter. The dial that it caused goes on: the next one will be glad of it."""
        self._waiters.pop(waiter_id, None)
        return self._settle(now)

    def dial_succeeded(self, connection_id: ConnectionId, life_seconds: float | None, now: float) -> list[Effect]:
        """Record that a line is ready, with `life_seconds` to live (None = no limit known)."""
        connection = self._find(connection_id)
        self._move(connection, ConnectionEvent.DIAL_SUCCEEDED)
        limits = self.limits
        age = limits.age_max_seconds * (1 - limits.age_jitter_ratio * self._rng.random())
        if life_seconds is not None:
            age = min(age, life_seconds * (1 - LIFE_LEFT_MIN_RATIO))
        connection.ready_at = now
        connection.retire_at = now + age
        if age > 0:
            self._failures, self._last_failure, self._dial_not_before = 0, None, now
        else:  # used up at birth: the next one would be too
            self._back_off(Reason.UPSTREAM_CLOSED, now)
        return self._settle(now)

    def dial_failed(self, connection_id: ConnectionId, reason: Reason, now: float) -> list[Effect]:
        """Record that a line could not be opened; further dials are spaced out."""
        self._move(self._find(connection_id), ConnectionEvent.DIAL_FAILED)
        self._back_off(reason, now)
        return self._settle(now)

    def _back_off(self, reason: Reason, now: float) -> None:
        self._failures += 1
        self._last_failure = reason
        backoff = self.limits.backoff
        if reason is Reason.UPSTREAM_REFUSED_KEY:
            delay = backoff.refused_key_seconds
        else:
            delay = full_jitter_seconds(self._failures, backoff, self._rng)
        self._dial_not_before = max(self._dial_not_before, now + delay)

    def connection_lost(self, connection_id: ConnectionId, now: float) -> list[Effect]:
        """Record that a line ended by itself; a lease on it ends with it."""
        connection = self._find(connection_id)
        self._move(connection, ConnectionEvent.LOST)
        for lease in [x for x in self._leases.values() if x.connection_id == connection_id]:
            self._end(lease, LeaseEvent.CONNECTION_LOST)
        return self._settle(now)

    def close_finished(self, connection_id: ConnectionId, now: float) -> list[Effect]:
        """Record that a line which was to be closed is closed."""
        connection = self._shelves[ConnectionState.DRAINING].get(connection_id)
        if connection is not None:  # else it was lost while it closed
            self._move(connection, ConnectionEvent.CLOSE_FINISHED)
        return self._settle(now)

    def release(self, lease_id: LeaseId, reason: str, now: float) -> list[Effect]:
        """End a lease; its line is used up and closed. Nothing happens where it has ended before."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return []
        self._end(lease, LeaseEvent.RELEASED)
        self._move(self._find(lease.connection_id), ConnectionEvent.LEASE_ENDED)
        return [Close(lease.connection_id, reason), *self._settle(now)]

    def drain(self, now: float) -> list[Effect]:
        """Take nothing new: waiters are sent away, idle lines closed, leases left to finish."""
        self._draining = True
        return self._settle(now)

    def tick(self, now: float) -> list[Effect]:
        """Settle because time has passed."""
        return self._settle(now)

    # Questions.

    def next_deadline(self, now: float) -> float | None:
        """When `tick` is due next, never before `now`; None = not before the next input."""
        times = [waiter.deadline for waiter in self._waiters.values()]
        times += [line.retire_at for line in self._shelves[ConnectionState.READY].values()]
        if self._shortfall() > 0:
            times.append(self._dial_not_before)
            times += [self._reserve_opens_at(w) for w in islice(self._waiters.values(), 1)]
        # What was due at the last settling has been dealt with; what came due since is due now.
        due = min((time for time in times if time > self._settled_at), default=None)
        return None if due is None else max(due, now)

    def position(self, waiter_id: WaiterId) -> int:
        """Tell a waiter its place, 1 = next; 0 = it does not wait."""
        for place, each in enumerate(self._waiters, start=1):
            if each == waiter_id:
                return place
        return 0

    def stats(self, now: float) -> PoolStats:
        """Take an immutable snapshot."""
        oldest = next(iter(self._waiters.values()), None)
        return PoolStats(
            dialling=len(self._shelves[ConnectionState.CONNECTING]),
            ready=len(self._shelves[ConnectionState.READY]),
            leased=len(self._shelves[ConnectionState.LEASED]),
            draining=len(self._shelves[ConnectionState.DRAINING]),
            waiting=len(self._waiters),
            oldest_wait_seconds=0.0 if oldest is None else now - oldest.asked_at,
            floor=self.limits.floor,
            ceiling=self.limits.ceiling,
            draining_pool=self._draining,
            last_failure=self._last_failure,
        )

    # The one decision. The order is the policy.

    def _settle(self, now: float) -> list[Effect]:
        self._settled_at = now
        return [
            *self._reject_late_waiters(now),
            *self._retire_idle(now),
            *self._grant_ready(now),
            *self._dial_shortfall(now),
        ]

    def _reject_late_waiters(self, now: float) -> list[Effect]:
        late = [w for w in self._waiters.values() if self._draining or w.deadline <= now]
        for waiter in late:
            del self._waiters[waiter.id]
        # The caller learns what really stands in the way, where that is known.
        reason = Reason.DRAINING if self._draining else self._last_failure or Reason.WAIT_TIMED_OUT
        return [Reject(waiter.id, reason, now - waiter.asked_at) for waiter in late]

    def _retire_idle(self, now: float) -> list[Effect]:
        ready = self._shelves[ConnectionState.READY]
        old = [line for line in ready.values() if self._draining or line.retire_at <= now]
        for line in old:
            self._move(line, ConnectionEvent.RETIRED)
        return [Close(line.id, "drained" if self._draining else "aged") for line in old]

    def _grant_ready(self, now: float) -> list[Effect]:
        grants: list[Effect] = []
        ready = self._shelves[ConnectionState.READY]
        while self._waiters and ready:
            waiter = self._waiters.pop(next(iter(self._waiters)))
            line = ready[next(reversed(ready))]  # freshest first: the others age out in peace
            self._move(line, ConnectionEvent.GRANTED)
            lease = Lease(next(self._lease_ids), line.id, now)
            self._leases[lease.id] = lease
            waited = now - waiter.asked_at
            grants.append(Grant(waiter.id, line.id, lease.id, waiter.asks, now - line.ready_at, waited))
        return grants

    def _dial_shortfall(self, now: float) -> list[Effect]:
        if self._draining or now < self._dial_not_before:
            return []
        room = self.limits.ceiling - sum(map(len, self._shelves.values()))
        wanted = min(self._shortfall(), room - self.limits.reserve)
        if self._reserve_is_open(now):  # for those who wait; the floor is not filled from it
            wanted = max(wanted, min(self._shortfall() - self.limits.floor, room))
        # After a failure one dial at a time tries the water.
        dials_max = 1 if self._failures else self.limits.dials_max
        places = dials_max - len(self._shelves[ConnectionState.CONNECTING])
        return [self._dial(now) for _ in range(min(wanted, places))]

    def _dial(self, now: float) -> Effect:
        connection = Connection(ConnectionId(next(self._connection_ids)), now)
        self._shelves[ConnectionState.CONNECTING][connection.id] = connection
        return Dial(connection.id)

    def _shortfall(self) -> int:
        if self._draining:
            return 0
        on_the_way = len(self._shelves[ConnectionState.CONNECTING])
        there = len(self._shelves[ConnectionState.READY])
        return self.limits.floor + len(self._waiters) - on_the_way - there

    def _reserve_is_open(self, now: float) -> bool:
        oldest = next(iter(self._waiters.values()), None)
        return oldest is not None and self._reserve_opens_at(oldest) <= now

    def _reserve_opens_at(self, oldest: _Waiter) -> float:
        return oldest.asked_at + self.limits.reserve_after_ms / 1000

    # Shelves. Only these two change a state and the collection that it lives in.

    def _move(self, connection: Connection, event: ConnectionEvent) -> None:
        after = step(TABLE, connection.state, event)
        del self._shelves[connection.state][connection.id]
        connection.state = after
        if after is not ConnectionState.CLOSED:
            self._shelves[after][connection.id] = connection

    def _end(self, lease: Lease, event: LeaseEvent) -> None:
        lease.state = step(LEASE_TABLE, lease.state, event)
        del self._leases[lease.id]

    def _find(self, connection_id: ConnectionId) -> Connection:
        for shelf in self._shelves.values():
            if connection_id in shelf:
                return shelf[connection_id]
        message = f"connection {connection_id} is on no shelf"
        raise LookupError(message)
