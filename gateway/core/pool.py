"""All lines of one class: the inputs that a pool takes and the questions that it answers.

Every input records one fact in the books and then settles; nothing else decides. Performs nothing: effects
come back as values, in order. Knows no clock (`now` comes in, monotonic seconds) and draws chance from `rng`.
"""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Final

from gateway.core.backoff import STUBBORN
from gateway.core.books import Books
from gateway.core.breaker import Breaker
from gateway.core.connection import ConnectionEvent, ConnectionState
from gateway.core.dialling import count_arrival
from gateway.core.effects import Effect, Reject, Revoke
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.lease import TABLE as LEASE_TABLE
from gateway.core.lease import LeaseEvent
from gateway.core.policy import STANDING_SECONDS, can_serve, next_deadline, settle
from gateway.core.pool_limits import PoolLimits, PoolStats
from gateway.core.reservation import TABLE as RESERVATION_TABLE
from gateway.core.reservation import Reservation, ReservationEvent
from gateway.core.share import BARE, Share, Waiter
from gateway.core.snapshot import snapshot
from gateway.core.transitions import step

# A refused dial is never tried again at once, whatever the account says.
REFUSED_PAUSE_SECONDS: Final = 0.05
# A line called back by another gateway is not replaced at once: somebody waits for its place.
RECALL_PAUSE_SECONDS: Final = 2.0
# How long a ready line of an old version or an old key may serve on while its successor is dialled.
OUTDATED_SECONDS: Final = 20.0


class PoolCore:
    """One line class. The shell performs what the methods return and calls `tick` at `next_deadline`."""

    def __init__(
        self,
        shares: Mapping[str, tuple[str, PoolLimits]],
        breaker: Breaker,
        rng: Random,
        lease_ids: Iterator[LeaseId],
        bare_version: str = BARE,
    ) -> None:
        """Begin empty, with a share for each template: its version and limits. Nothing is dialled before `start`."""
        self._books = Books(shares, breaker, rng, lease_ids, bare_version)
        # Whether there is a bare share, with the name BARE.
        self.has_bare = self._books.bare is not None

    # Inputs: callers.

    def start(self, now: float) -> list[Effect]:
        """Open the first lines."""
        return settle(self._books, now)

    def request(self, pool: str, waiter_id: WaiterId, deadline: float, now: float) -> list[Effect]:
        """Ask for a line until `deadline`. Answered exactly once, by Grant or Reject, unless cancelled."""
        share = self._books.shares[pool]
        return self._ask(share, share.waiters, Waiter(waiter_id, pool, now, deadline), now)

    def recover(
        self, pool: str, waiter_id: WaiterId, deadline: float, now: float, *, alone: bool = False
    ) -> list[Effect]:
        """Ask for another line for a running session: before new callers, and however many of them wait.

        Also in a pool that is drained. `alone` = one that is dialled for it. Answered as a `request`.
        """
        share = self._books.shares[pool]
        if share.draining and alone:
            return [Reject(waiter_id, Reason.DRAINING, 0.0)]
        return self._enter(share.alone if alone else share.recovering, Waiter(waiter_id, pool, now, deadline), now)

    def request_alone(self, pool: str, waiter_id: WaiterId, deadline: float, now: float) -> list[Effect]:
        """Ask for a line that is dialled for this waiter alone. Answered as a `request`."""
        share = self._books.shares[pool]
        return self._ask(share, share.alone, Waiter(waiter_id, pool, now, deadline), now)

    def reserve(self, pool: str, waiter_id: WaiterId, ttl_seconds: float, deadline: float, now: float) -> list[Effect]:
        """Ask for a unit of supply until `deadline`. Answered exactly once, by Reserve or Reject, unless cancelled."""
        share = self._books.shares[pool]
        return self._ask(share, share.waiters, Waiter(waiter_id, pool, now, deadline, ttl_seconds), now)

    def redeem(
        self, pool: str, waiter_id: WaiterId, lease_id: LeaseId | None, deadline: float, now: float
    ) -> list[Effect]:
        """Ask for the line of a reservation, ahead of everybody without one; None = it was made elsewhere.

        Raises `KeyError` when there is no such reservation here. Otherwise answered as a `request`.
        """
        share, waiter = self._books.shares[pool], Waiter(waiter_id, pool, now, deadline)
        if lease_id is None:
            return self._ask(share, share.first, waiter, now)
        reservation = share.reservations[lease_id]
        if reservation.expires_at <= now:
            raise KeyError(lease_id)
        self._books.end_reservation(reservation, ReservationEvent.USED)
        return self._enter(share.kept, waiter, now)

    def renew(self, lease_id: LeaseId, now: float) -> bool:
        """Say that a lease is in use; False = it has ended."""
        lease = self._books.leases.get(lease_id)
        if lease is None:
            return False
        lease.state = step(LEASE_TABLE, lease.state, LeaseEvent.RENEWED)
        lease.renewed_at = now
        return True

    def renew_reservation(self, lease_id: LeaseId, ttl_seconds: float, now: float) -> bool:
        """Let a reservation live for so long from now; False = it has ended."""
        reservation = self._books.reservations.get(lease_id)
        if reservation is None or reservation.expires_at <= now:
            return False
        reservation.state = step(RESERVATION_TABLE, reservation.state, ReservationEvent.RENEWED)
        reservation.expires_at = now + ttl_seconds
        return True

    def end_reservation(self, lease_id: LeaseId, event: ReservationEvent, now: float) -> list[Effect]:
        """End a reservation: RELEASED, or USED at another gateway. Nothing happens where it has ended before."""
        reservation = self._books.reservations.get(lease_id)
        if reservation is not None:
            self._books.end_reservation(reservation, event)
        return settle(self._books, now)

    def cancel(self, waiter_id: WaiterId, now: float) -> list[Effect]:
        """Forget a waiter. The dial that it caused goes on: the next one will be glad of it."""
        self._books.forget(waiter_id)
        return settle(self._books, now)

    def release(self, lease_id: LeaseId, reason: str, now: float) -> list[Effect]:
        """End a lease; its line is used up and closed. Nothing happens where it has ended before."""
        lease = self._books.leases.get(lease_id)
        if lease is None:
            return []
        return [self._books.close_leased(lease, LeaseEvent.RELEASED, reason), *settle(self._books, now)]

    # Inputs: lines.

    def dial_begun(self, connection_id: ConnectionId, now: float) -> None:
        """Record that a dial has its place and its turn, and begins."""
        line = self._books.connections[connection_id]
        line.dialled_at, self._books.share_of(line).blocked_by = now, None

    def dial_succeeded(self, connection_id: ConnectionId, life_seconds: float | None, now: float) -> list[Effect]:
        """Record that a line is ready, with `life_seconds` to live (None = no limit known)."""
        books, line = self._books, self._books.connections[connection_id]
        if line.state is not ConnectionState.CONNECTING:  # it was given up in this very moment
            return settle(books, now)
        share = books.share_of(line)
        for each in books.all:
            each.demand.dialled(now - line.decided_at)
        share.given_up, share.overtakes = 0, max(share.overtakes, line.dialled_at or line.decided_at)
        waiter = share.alone.get(line.dialled_for) if line.dialled_for is not None else None
        if books.stand_ready(line, life_seconds, now) > 0:
            share.backoff.succeeded()
            books.breaker.succeeded(now)
            books.young.append(line)
        else:  # used up at birth: the next one would be too
            share.backoff.died_young(now)
            books.breaker.failed(Reason.UPSTREAM_CLOSED, now, line.probe)
        if line.dialled_for is None:
            return settle(books, now)
        if waiter is None or waiter.deadline <= now:
            return [books.retire(line, "unwanted"), *settle(books, now)]
        books.forget(waiter.id)
        return [books.grant(waiter, line, now), *settle(books, now)]

    def dial_failed(
        self, connection_id: ConnectionId, reason: Reason, now: float, retry_after_seconds: float | None = None
    ) -> list[Effect]:
        """Record that a line could not be opened; further dials are spaced out."""
        books, line = self._books, self._books.connections[connection_id]
        if line.state is ConnectionState.CONNECTING:
            share = books.share_of(line)
            books.move(line, ConnectionEvent.DIAL_FAILED)
            if line.version != share.version:  # an old key or template: it says nothing about what is in force
                books.breaker.abandoned(line.probe)
                return settle(books, now)
            books.breaker.failed(reason, now, line.probe)
            alone = share.alone.get(line.dialled_for) if line.dialled_for is not None else None
            if alone is not None and reason in STUBBORN:  # what he alone asked for is no use: nobody else is to suffer
                books.forget(alone.id)
                return [Reject(alone.id, reason, now - alone.asked_at), *settle(books, now)]
            share.backoff.failed(reason, retry_after_seconds, now, line.dialled_at or line.decided_at)
        return settle(books, now)

    def dial_refused(
        self, connection_id: ConnectionId, reason: Reason, retry_after_seconds: float, now: float
    ) -> list[Effect]:
        """Record that the account has no place or no turn for a dial: it is tried again, and nothing has failed."""
        books, line = self._books, self._books.connections[connection_id]
        if line.state is ConnectionState.CONNECTING:
            share = books.share_of(line)
            books.move(line, ConnectionEvent.DIAL_FAILED)
            books.breaker.abandoned(line.probe)
            share.blocked_by = reason
            retry_after_seconds = max(retry_after_seconds, REFUSED_PAUSE_SECONDS)
            share.backoff.postpone_refill(retry_after_seconds, now)
            if line.waited_for:
                share.backoff.postpone(retry_after_seconds, now)
        return settle(books, now)

    def connection_lost(self, connection_id: ConnectionId, now: float) -> list[Effect]:
        """Record that a line ended by itself; a lease on it ends with it."""
        books, line = self._books, self._books.connections[connection_id]
        share, before = books.share_of(line), line.state
        books.move(line, ConnectionEvent.LOST)
        for lease in [each for each in books.leases.values() if each.connection_id == connection_id]:
            books.end(lease, LeaseEvent.CONNECTION_LOST)
        if now - line.ready_at < STANDING_SECONDS and line.version == share.version:
            if before is ConnectionState.READY:
                share.backoff.died_young(now, line.ready_at)
                books.breaker.died(now, line.ready_at)
            elif before is ConnectionState.LEASED and share.backoff.failures:
                # By itself it is perhaps its caller's doing, and nobody else is to suffer from that.
                share.backoff.died_young(now, line.ready_at)
        return settle(books, now)

    def proven(self, connection_id: ConnectionId, now: float) -> list[Effect]:
        """Record that a line has shown that it is alive."""
        line = self._books.connections.get(connection_id)
        if line is not None:
            line.proven_at, line.proving = now, False
            if line.state is ConnectionState.READY:
                self._books.share_of(line).expect(line)
        return settle(self._books, now)

    def close_finished(self, connection_id: ConnectionId, now: float) -> list[Effect]:
        """Record that a line which was to be closed is closed."""
        line = self._books.connections.get(connection_id)
        if line is not None and line.state is ConnectionState.DRAINING:  # else it was lost while it closed
            self._books.move(line, ConnectionEvent.CLOSE_FINISHED)
        return settle(self._books, now)

    # Inputs: operators, other gateways, time.
    def drain(self, now: float, pool: str | None = None) -> list[Effect]:
        """Take nothing new: waiters are sent away, idle lines closed, leases left to finish. None = all templates."""
        for share in self._books.all if pool is None else [self._books.shares[pool]]:
            share.draining = True
        return settle(self._books, now)

    def pause(self, pool: str) -> None:
        """Refuse new callers of one template; who waits already is served."""
        self._books.shares[pool].paused = True

    def unpause(self, pool: str, now: float) -> list[Effect]:
        """End a pause or a drain of one template."""
        share = self._books.shares[pool]
        share.paused = share.draining = False
        return settle(self._books, now)

    def add(self, pool: str, version: str, limits: PoolLimits, now: float) -> list[Effect]:
        """Serve one more template, or one again that was drained."""
        self._books.add(pool, version, limits)
        return settle(self._books, now)

    def retire(self, pool: str, version: str, now: float, *, at_once: bool = False) -> list[Effect]:
        """Make `version` the template's own. Ready lines of any other are replaced one by one, leased ones live on.

        Until its successor is there a line serves on, for `OUTDATED_SECONDS` at most; with `at_once` not at all.
        """
        share = self._books.share(pool)
        if share.version != version:
            share.version, share.outdated_until = version, now + OUTDATED_SECONDS
        if at_once:
            share.outdated_until = now
        return settle(self._books, now)

    def forgive(self, now: float) -> list[Effect]:
        """Forget what failed: the account has a new key."""
        self._books.breaker.forgive(now)
        for share in self._books.all:
            share.backoff.forgive(now)
        return settle(self._books, now)

    def set_limits(self, pool: str, limits: PoolLimits, now: float) -> list[Effect]:
        """Let a template have other bounds from now on; idle lines above a lower ceiling are closed."""
        self._books.set_limits(pool, limits)
        return settle(self._books, now)

    def give_back(self, lines: int, now: float) -> list[Effect]:
        """Close up to so many ready lines that nobody waits for, oldest first: their places are needed elsewhere."""
        books = self._books
        idle, effects = [line for share in books.all for line in share.idle()], list[Effect]()
        for line in sorted(idle, key=lambda line: line.ready_at)[:lines]:
            books.share_of(line).backoff.postpone_refill(RECALL_PAUSE_SECONDS, now)
            effects.append(books.retire(line, "recalled"))
        return [*effects, *settle(books, now)]

    def fence(self, now: float) -> list[Effect]:
        """Close everything: this process has stood still for so long that its places are no longer its own."""
        books, effects = self._books, list[Effect]()
        for lease in list(books.leases.values()):
            effects += [Revoke(lease.id), books.close_leased(lease, LeaseEvent.REVOKED, "fenced")]
        for line in [
            line for share in books.all for shelf in (share.ready, share.connecting) for line in shelf.values()
        ]:
            effects.append(books.retire(line, "fenced"))
        return [*effects, *settle(books, now)]

    def tick(self, now: float) -> list[Effect]:
        """Settle because time has passed."""
        return settle(self._books, now)

    # Questions.

    def limits(self, pool: str) -> PoolLimits:
        """The bounds of one template."""
        return self._books.shares[pool].limits

    def version(self, pool: str) -> str:
        """What a template's ready lines are made with now."""
        return self._books.shares[pool].version

    def next_deadline(self, now: float) -> float | None:
        """When `tick` is due next, never before `now`; None = not before the next input."""
        return next_deadline(self._books, now)

    def reservations(self, pool: str) -> Mapping[LeaseId, Reservation]:
        """The living reservations of one template, oldest first."""
        return self._books.shares[pool].reservations

    def positions(self, pool: str) -> dict[WaiterId, int]:
        """Tell everybody who waits for a template its place, 1 = next."""
        return {waiter.id: place for place, waiter in enumerate(self._books.shares[pool].everybody(), start=1)}

    def stats(self, pool: str, now: float) -> PoolStats:
        """Take an immutable snapshot of one share."""
        return snapshot(self._books, self._books.share(pool), now)

    # Inside.

    def _ask(self, share: Share, queue: dict[WaiterId, Waiter], waiter: Waiter, now: float) -> list[Effect]:
        if share.draining:
            return [Reject(waiter.id, Reason.DRAINING, 0.0)]
        if share.paused:
            return [Reject(waiter.id, Reason.POOL_PAUSED, 0.0)]
        # A full queue is full only for those who would have to stand in it, and late ones leave it first.
        effects = settle(self._books, now) if share.waiting >= share.limits.waiters_max else []
        is_full = share.waiting >= share.limits.waiters_max
        if is_full and not can_serve(self._books, share, waiter, queue, now):
            return [*effects, Reject(waiter.id, Reason.QUEUE_FULL, 0.0)]
        if queue is not share.alone:  # a ready line would not have served him
            count_arrival(self._books, share, now)
        return [*effects, *self._enter(queue, waiter, now)]

    def _enter(self, queue: dict[WaiterId, Waiter], waiter: Waiter, now: float) -> list[Effect]:
        share = self._books.shares[waiter.pool]
        if share.owed() <= 0:  # what once was in the way is not any more, or will show itself anew
            share.blocked_by = None
        queue[waiter.id] = waiter
        effects = settle(self._books, now)
        waiter.asks = False
        return effects
