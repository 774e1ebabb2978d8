"""The bounds of a pool, and what it looks like at one moment: values only."""

from dataclasses import dataclass, field

from gateway.core.backoff import BackoffOptions
from gateway.core.errors import Reason


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The bounds of one pool. `ceiling` counts connecting, ready, leased and draining lines."""

    floor: int = 2
    ceiling: int = 16
    # Of the ceiling, lines that only a caller who has waited `reserve_after_ms` may cause.
    reserve: int = 2
    reserve_after_ms: int = 250
    dials_max: int = 4
    age_max_seconds: float = 300.0
    age_jitter_ratio: float = 0.2
    waiters_max: int = 50
    wait_max_ms: int = 2000
    backoff: BackoffOptions = field(default_factory=BackoffOptions)


@dataclass(frozen=True, slots=True)
class PoolStats:
    """One moment of a pool. Times in seconds."""

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

    @property
    def total(self) -> int:
        """All lines, in any state."""
        return self.dialling + self.ready + self.leased + self.draining
