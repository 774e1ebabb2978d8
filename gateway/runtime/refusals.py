"""Why a pool gives no line, in the caller's words."""

from typing import Final

from gateway.core.effects import Reject
from gateway.core.errors import RETRYABLE, CapacityError, DialError, GatewayError, PoolNumbers, Reason, UpstreamError
from gateway.core.pool_limits import PoolStats

# What stood in the way, for the sentence; anything else is what dialling fails with.
_REFUSALS: Final = {
    Reason.QUEUE_FULL: "{waiting} callers wait already",
    Reason.WAIT_TIMED_OUT: "none was ready in time",
    Reason.POOL_EXHAUSTED: "every line is in use",
    Reason.RATE_LIMITED: "the account has no turn to dial yet",
    Reason.POOL_PAUSED: "an operator has paused it",
    Reason.DRAINING: "it is going away",
}
_BLOCKED: Final = {
    Reason.POOL_EXHAUSTED: "the account has no place for another line",
    Reason.RATE_LIMITED: "the account has no turn to dial yet",
}


def going_away() -> CapacityError:
    """Return what whoever is sent away is told, by a gateway that ends; without numbers, for another one has others."""
    return CapacityError(Reason.DRAINING, "this gateway is going away")


def refusal(pool: str, reject: Reject, stats: PoolStats, last: DialError | None) -> GatewayError:
    """Return what a waiter is told who is sent away. `last` is what dialling last failed with."""
    reason = reject.reason
    state = f"{stats.leased} leased, {stats.ready} ready, {stats.dialling} dialling of {stats.ceiling}"
    gave = f"pool {pool} gave no line within {reject.waited_seconds:.2f} s"
    retry_after = stats.retry_after_seconds if reason in RETRYABLE else None
    if reason not in _REFUSALS:
        known = last is not None and last.reason is reason
        why, code = (last.message, last.upstream_code) if last is not None and known else ("dialling fails", "")
        message = f"{gave}: {why} ({state})"
        return UpstreamError(reason, message, upstream_code=code, retry_after_seconds=retry_after)
    scope = "account" if reason is stats.blocked_by else "pool"
    why = _BLOCKED[reason] if scope == "account" else _REFUSALS[reason].format(waiting=stats.waiting)
    numbers = PoolNumbers(scope, pool, stats.total, stats.leased, stats.ready, stats.dialling, stats.waiting)
    return CapacityError(reason, f"{gave}: {why} ({state})", numbers=numbers, retry_after_seconds=retry_after)
