"""What a share looks like at one moment, for gauges, operators and refused callers."""

from typing import Final

from gateway.core.books import Books
from gateway.core.connection import ConnectionState
from gateway.core.dialling import floor, opens_at
from gateway.core.pool_limits import PoolStats
from gateway.core.share import NEVER, Share

# The least advice to a refused caller.
RETRY_AFTER_MIN_SECONDS: Final = 0.25


def snapshot(books: Books, share: Share, now: float) -> PoolStats:
    """Take an immutable snapshot."""
    oldest = min((waiter.asked_at for waiter in share.everybody()), default=now)
    soonest = opens_at(books, share, waited_for=True)
    # About what a dial takes, or when dialling begins again.
    delay = soonest - now if now < soonest < NEVER else share.demand.lead_seconds
    return PoolStats(
        dialling=len(share.connecting),
        ready=len(share.ready),
        leased=len(share.shelves[ConnectionState.LEASED]),
        draining=len(share.shelves[ConnectionState.DRAINING]),
        waiting=sum(map(len, share.queues)),
        oldest_wait_seconds=now - oldest,
        reserved=len(share.reservations),
        floor=floor(books, share, now),
        ceiling=share.limits.ceiling,
        paused=share.paused,
        blocked_by=share.blocked_by,
        draining_pool=share.draining,
        last_failure=share.backoff.last_failure,
        breaker_open=books.breaker.is_open,
        key_refused=books.breaker.key_refused,
        retry_after_seconds=max(delay, RETRY_AFTER_MIN_SECONDS),
    )
