"""The bounds of a pool, and what it looks like at one moment: values only."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.core.backoff import BackoffOptions
from gateway.core.demand import DemandOptions
from gateway.core.errors import Reason


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The bounds of one template's share. `ceiling` counts connecting, ready, leased and draining lines."""

    floor: int = 2
    ceiling: int = 16
    # Above the ceiling, lines for running sessions that need another one.
    rotations_max: int = 4
    # Of the ceiling, lines that only a caller who has waited `reserve_after_ms` may cause.
    reserve: int = 2
    reserve_after_ms: int = 250
    dials_max: int = 4
    age_max_seconds: float = 300.0
    age_jitter_ratio: float = 0.2
    waiters_max: int = 50
    wait_max_ms: int = 2000
    # A line is handed out only while its last proof of life is so young.
    proof_max_seconds: float = 10.0
    # A lease that nobody has renewed for so long is taken back.
    leak_after_seconds: float = 10.0
    demand: DemandOptions = field(default_factory=DemandOptions)
    backoff: BackoffOptions = field(default_factory=BackoffOptions)


@dataclass(frozen=True, slots=True)
class PoolStats:
    """One moment of one template's share. Times in seconds."""

    dialling: int
    ready: int
    leased: int
    draining: int
    waiting: int
    oldest_wait_seconds: float
    floor: int
    ceiling: int
    draining_pool: bool
    last_failure: Reason | None
    reserved: int = 0
    paused: bool = False
    # Why the account lets nothing be dialled: no place, or no turn.
    blocked_by: Reason | None = None
    breaker_open: bool = False
    key_refused: bool = False
    # When a refused caller may come back with some hope.
    retry_after_seconds: float = 0.25

    @property
    def total(self) -> int:
        """All lines, in any state."""
        return self.dialling + self.ready + self.leased + self.draining


def together(each: Sequence[PoolStats]) -> PoolStats:
    """Add up the shares that one template has in several line classes; there must be one at least."""
    failures = [stats.last_failure for stats in each if stats.last_failure is not None]
    blocks = [stats.blocked_by for stats in each if stats.blocked_by is not None]
    return PoolStats(
        dialling=sum(stats.dialling for stats in each),
        ready=sum(stats.ready for stats in each),
        leased=sum(stats.leased for stats in each),
        draining=sum(stats.draining for stats in each),
        waiting=sum(stats.waiting for stats in each),
        oldest_wait_seconds=max(stats.oldest_wait_seconds for stats in each),
        floor=sum(stats.floor for stats in each),
        ceiling=sum(stats.ceiling for stats in each),
        draining_pool=all(stats.draining_pool for stats in each),
        last_failure=next(iter(failures), None),
        reserved=sum(stats.reserved for stats in each),
        paused=all(stats.paused for stats in each),
        blocked_by=next(iter(blocks), None),
        breaker_open=any(stats.breaker_open for stats in each),
        key_refused=any(stats.key_refused for stats in each),
        retry_after_seconds=max(stats.retry_after_seconds for stats in each),
    )
