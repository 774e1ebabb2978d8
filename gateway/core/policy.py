"""The one decision of a pool: what is to be done now. The order of the steps is the policy.

What is dialled stands in dialling.py; everything else here.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.core.backoff import STUBBORN
from gateway.core.books import Books
from gateway.core.connection import Connection, ConnectionState
from gateway.core.dialling import dial_times, dial_what_is_owed, floor, opens_at
from gateway.core.effects import Effect, Prove, Reject, Revoke
from gateway.core.errors import Reason
from gateway.core.ids import WaiterId
from gateway.core.lease import LeaseEvent
from gateway.core.reservation import ReservationEvent
from gateway.core.share import NEVER, Share, Waiter

# A line that has stood for so long proves that the provider is well; one that died sooner, that it is not.
STANDING_SECONDS: Final = 5.0
# How often leases are looked at: in this part of the time after which one is taken for leaked.
LEAK_CHECKS: Final = 4


def settle(books: Books, now: float) -> list[Effect]:
    """Bring the books to rest after an input; return what is to be done, in order."""
    books.settled_at = now
    _see_who_stands(books, now)
    return [
        *_reject_late_waiters(books, now),
        *_end_reservations(books, now),
        *_revoke_leaked(books, now),
        *_retire_idle(books, now),
        *_grant_ready(books, now),
        *_make_room_for_the_alone(books, now),
        *dial_what_is_owed(books, now),
        *_reject_the_hopeless(books, now),
        *_prove_ready(books, now),
    ]


def can_serve(books: Books, share: Share, waiter: Waiter, queue: Mapping[WaiterId, Waiter], now: float) -> bool:
    """Whether somebody who asks now, in one of the share's queues, need not wait."""
    if queue is share.first:
        before = share.kept or share.recovering or queue
        return not before and share.has_unreserved() and share.freshest(now) is not None
    return queue is share.waiters and share.head() is None and _line_for(books, share, waiter, now) is not None


def next_deadline(books: Books, now: float) -> float | None:
    """When `settle` is due next, never before `now`; None = not before the next input."""
    stands_at = books.young[0].ready_at + STANDING_SECONDS if books.young else NEVER
    times = [books.leaks_at, stands_at, *(each.expires_at for each in books.reservations.values())]
    for share in books.all:
        times += [waiter.deadline for waiter in share.everybody()]
        times.append(share.lines_due_at)
        if share.outdated():
            times.append(share.outdated_until)
        times += dial_times(books, share, now)
    # What was due at the last settling has been dealt with; what came due since is due now.
    due = min((time for time in times if time > books.settled_at), default=NEVER)
    return None if due == NEVER else max(due, now)


def why_not(books: Books, share: Share) -> Reason:
    """What stands between a share and its next line."""
    if share.draining:
        return Reason.DRAINING
    if share.backoff.last_failure is not None:
        return share.backoff.last_failure
    if books.breaker.is_open and books.breaker.last_failure is not None:
        return books.breaker.last_failure
    if share.lines - len(share.connecting) >= share.ceiling:
        return Reason.POOL_EXHAUSTED
    return share.blocked_by or Reason.WAIT_TIMED_OUT


# Those who leave.


def _see_who_stands(books: Books, now: float) -> None:
    while books.young and books.young[0].ready_at + STANDING_SECONDS <= now:
        line = books.young.popleft()
        if line.state in (ConnectionState.READY, ConnectionState.LEASED):
            books.breaker.proved()
            for share in books.all:
                # Another template's line says nothing about what this one alone is refused for.
                if share is books.share_of(line) or share.backoff.last_failure not in STUBBORN:
                    share.backoff.proved(line.ready_at, now)


def _reject_late_waiters(books: Books, now: float) -> list[Effect]:
    effects: list[Effect] = []
    for share in books.all:
        late = [w for w in share.everybody() if share.turns_away(w) or w.deadline <= now]
        reason = why_not(books, share) if late else Reason.WAIT_TIMED_OUT
        effects += [_rejected(books, waiter, reason, now) for waiter in late]
    return effects


def _reject_the_hopeless(books: Books, now: float) -> list[Effect]:
    """Send away at once whom no dial can reach in time: he may try elsewhere."""
    effects: list[Effect] = []
    for share in books.shares.values():
        if share.connecting or (share.owed() <= 0 and not share.alone):
            continue
        if books.bare is not None and books.bare.connecting and share.demand.options.enabled:
            continue
        failing = share.backoff.last_failure is not None or books.breaker.is_open
        soonest = opens_at(books, share, waited_for=True)
        if failing and soonest != NEVER:
            hopeless = [waiter for waiter in share.everybody() if soonest >= waiter.deadline]
            effects += [_rejected(books, waiter, why_not(books, share), now) for waiter in hopeless]
    return effects


def _rejected(books: Books, waiter: Waiter, reason: Reason, now: float) -> Effect:
    books.forget(waiter.id)
    return Reject(waiter.id, reason, now - waiter.asked_at)


def _end_reservations(books: Books, now: float) -> Iterable[Effect]:
    for each in [each for each in books.reservations.values() if each.expires_at <= now]:
        books.end_reservation(each, ReservationEvent.EXPIRED)
    for share in books.all:
        if share.draining:
            for each in list(share.reservations.values()):
                books.end_reservation(each, ReservationEvent.RELEASED)
    return ()


def _revoke_leaked(books: Books, now: float) -> list[Effect]:
    if now < books.leaks_at:
        return []
    effects: list[Effect] = []
    next_check = NEVER
    for lease in list(books.leases.values()):
        seconds = books.share_of(books.connections[lease.connection_id]).limits.leak_after_seconds
        if lease.renewed_at + seconds <= now:
            effects += [Revoke(lease.id), books.close_leased(lease, LeaseEvent.REVOKED, "leaked")]
        else:
            next_check = min(next_check, now + seconds / LEAK_CHECKS)
    books.leaks_at = next_check
    return effects


def _retire_idle(books: Books, now: float) -> list[Effect]:
    effects: list[Effect] = []
    for share in books.all:
        effects += [books.retire(line, "unwanted") for line in _unwanted(share)]
        if share.draining:
            unneeded = len(share.ready) - len(share.recovering)
            effects += [books.retire(line, "drained") for line in list(share.ready.values())[: max(0, unneeded)]]
            continue
        excess = share.lines - len(share.shelves[ConnectionState.DRAINING]) - share.limits.ceiling
        if excess > 0:  # the ceiling was lowered
            effects += [books.retire(line, "unwanted") for line in share.idle()[:excess]]
        if share.lines_due_at <= now:
            old = [line for line in share.ready.values() if line.retire_at <= now]
            effects += [books.retire(line, "aged") for line in old]
        if outdated := share.outdated():
            effects += [books.retire(line, "version") for line in outdated[: _replaced(books, share, now)]]
    return effects


def _replaced(books: Books, share: Share, now: float) -> int:
    """How many lines of another version are to go now, the oldest first: as soon as there are enough without them."""
    stays = share.due() + floor(books, share, now)
    if now >= share.outdated_until or not stays:
        return len(share.ready)
    surplus = max(0, len(share.ready) - stays)
    # Where a successor would find no place, one goes before it.
    is_full = share.lines >= share.limits.ceiling - share.limits.reserve
    under_way = share.connecting or share.shelves[ConnectionState.DRAINING]
    return surplus or int(is_full and not under_way)


def _make_room_for_the_alone(books: Books, now: float) -> list[Effect]:
    """Close idle lines that stand in the way of a dial for one waiter alone: he can have none of them."""
    effects: list[Effect] = []
    for share in books.shares.values():
        if not share.alone or now < opens_at(books, share, waited_for=True):
            continue
        closing = len(share.shelves[ConnectionState.DRAINING])
        lacking = len(share.alone) - len(share.alone_lines) - (share.limits.ceiling - share.lines) - closing
        effects += [books.retire(line, "unwanted") for line in share.idle()[: max(0, lacking)]]
    return effects


def _unwanted(share: Share) -> list[Connection]:
    """Dials for one waiter alone who is gone."""
    gone = [line_id for waiter_id, line_id in share.alone_lines.items() if waiter_id not in share.alone]
    return [share.connecting[line_id] for line_id in gone]


# Those who are served.


def _grant_ready(books: Books, now: float) -> list[Effect]:
    effects: list[Effect] = []
    waiting = [share for share in books.shares.values() if share.head() is not None]
    # The bare lines are for all of them: whoever has waited longest comes first.
    waiting.sort(key=lambda share: share.asked_at())
    for share in waiting:
        while (waiter := share.head()) is not None:
            line = _line_for(books, share, waiter, now)
            if line is None:
                break
            books.forget(waiter.id)
            if waiter.reserves_seconds is not None:
                effects.append(books.keep(waiter, waiter.reserves_seconds, now))
            else:
                if line.pool != share.name:
                    books.rebook(line, share)
                effects.append(books.grant(waiter, line, now))
    return effects


def _line_for(books: Books, share: Share, waiter: Waiter, now: float) -> Connection | None:
    """Return the line that a waiter may have now, or that shows that a unit may be reserved for it."""
    if waiter.id in share.kept or share.has_unreserved():
        line = share.freshest(now)
        if line is not None:
            return line
    bare = books.bare
    if bare is None or not share.demand.options.enabled or share.lines >= share.ceiling:
        return None
    return bare.freshest(now) if waiter.reserves_seconds is None else None


# Lines that stand.


def _prove_ready(books: Books, now: float) -> list[Effect]:
    effects: list[Effect] = []
    for share in books.all:
        if share.lines_due_at > now:
            continue
        for line in share.ready.values():
            if not line.proving and line.proven_at + share.proof_interval_seconds <= now:
                line.proving = True
                effects.append(Prove(line.id))
        share.look_again()
    return effects
