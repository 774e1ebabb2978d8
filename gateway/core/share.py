"""One template's share of a pool: its lines by state, who waits, what is reserved, how its dials go.

Answers questions and keeps the books; what is to be done is decided in pool.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Final

from gateway.core.backoff import Backoff
from gateway.core.connection import Connection, ConnectionState
from gateway.core.demand import Demand
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId
from gateway.core.pool_limits import PoolLimits
from gateway.core.reservation import Reservation

# The share of lines that carry no template's configuration yet, so that any may have them.
BARE: Final = ""
NEVER: Final = float("inf")
# Before a hanging dial is given up for another try: never sooner, and never later than the dial's own deadline.
PATIENCE_MIN_SECONDS: Final = 1.0
PATIENCE_MAX_SECONDS: Final = 10.0
PATIENCE_LEADS: Final = 3.0
# So many fruitless rounds are bad luck; after them it is the provider that is slow.
PATIENCE_ROUNDS: Final = 3


@dataclass(slots=True)
class Waiter:
    """Somebody who asked for a line or for a unit. Times are of the monotonic clock, in seconds."""

    id: WaiterId
    pool: str
    asked_at: float
    deadline: float
    # Wants a unit to be reserved for so long, not a line; None = a line.
    reserves_seconds: float | None = None
    # Still inside its own request: what it gets now is a hit.
    asks: bool = True


class Share:
    """The books of one template."""

    def __init__(self, name: str, version: str, limits: PoolLimits, rng: Random) -> None:
        """Begin empty. `version` is the template's; empty for the bare share."""
        self.name = name
        self.version = version
        self.limits = limits
        self.shelves: dict[ConnectionState, dict[ConnectionId, Connection]] = {
            state: {} for state in ConnectionState if state is not ConnectionState.CLOSED
        }
        # First those whose unit is kept here, then running sessions that need another line, then those with a
        # reservation made elsewhere, then everybody else; each first come, first served.
        self.kept: dict[WaiterId, Waiter] = {}
        self.recovering: dict[WaiterId, Waiter] = {}
        self.first: dict[WaiterId, Waiter] = {}
        self.waiters: dict[WaiterId, Waiter] = {}
        # Those whose line is dialled for them alone.
        self.alone: dict[WaiterId, Waiter] = {}
        self.alone_lines: dict[WaiterId, ConnectionId] = {}
        self.reservations: dict[LeaseId, Reservation] = {}
        self.demand = Demand(limits.demand)
        self.backoff = Backoff(limits.backoff, rng)
        self.paused = False
        self.draining = False
        # No place or no turn at the account: not a failure, but what a late waiter should hear of.
        self.blocked_by: Reason | None = None
        # Rounds in which dials were given up since the last success, and when the last one was.
        self.given_up = 0
        self.gave_up_at = -NEVER
        # When the latest of the dials that succeeded had begun: whoever began before it and hangs was overtaken.
        self.overtakes = -NEVER
        # Ready lines of another version serve on until each has its successor, and not longer than until then.
        self.outdated_until = -NEVER
        # Not later than when the first ready line is to be retired or proven.
        self.lines_due_at = NEVER

    # How many.

    @property
    def ready(self) -> dict[ConnectionId, Connection]:
        """The lines that stand ready, oldest first."""
        return self.shelves[ConnectionState.READY]

    @property
    def connecting(self) -> dict[ConnectionId, Connection]:
        """The lines on their way."""
        return self.shelves[ConnectionState.CONNECTING]

    @property
    def lines(self) -> int:
        """Lines in any state."""
        return sum(map(len, self.shelves.values()))

    @property
    def waiting(self) -> int:
        """Callers who wait, in any of their queues. Running sessions are as many as they are."""
        return len(self.kept) + len(self.first) + len(self.waiters) + len(self.alone)

    def everybody(self) -> Iterator[Waiter]:
        """Everybody who waits: those to be served first come first."""
        return chain(*(queue.values() for queue in self.queues))

    @property
    def queues(self) -> tuple[dict[WaiterId, Waiter], ...]:
        """All of them, in the order in which they are served."""
        return (self.kept, self.recovering, self.first, self.waiters, self.alone)

    def turns_away(self, waiter: Waiter) -> bool:
        """Whether a waiter is sent away because the share is drained: a running session is not."""
        return self.draining and waiter.id not in self.recovering

    def head(self) -> Waiter | None:
        """Who is to be served next from the shelf."""
        return next(chain(*(queue.values() for queue in self.queues[:-1])), None)

    def asked_at(self) -> float:
        """Since when the next to be served has waited; +inf = nobody waits."""
        head = self.head()
        return NEVER if head is None else head.asked_at

    def floor(self, now: float) -> int:
        """How many lines should be ready or on their way beyond those that somebody waits for."""
        if self.draining:
            return 0
        wanted = max(self.limits.floor, self.demand.lines(now))
        return min(wanted, self.limits.ceiling)

    def due(self) -> int:
        """How many lines are owed: to those who wait, and to reservations."""
        return sum(map(len, self.queues[:-1])) + len(self.reservations)

    @property
    def ceiling(self) -> int:
        """How many lines there may be now, in any state."""
        return self.limits.ceiling + min(self.limits.rotations_max, len(self.recovering))

    def owed(self) -> int:
        """How many lines are owed and neither there nor on their way."""
        return self.due() - len(self.ready) - (len(self.connecting) - len(self.alone_lines))

    # Which.

    def freshest(self, now: float) -> Connection | None:
        """The youngest line whose proof of life still counts: the others age out in peace."""
        for line in reversed(self.ready.values()):
            if now - line.proven_at <= self.limits.proof_max_seconds:
                return line
        return None

    def idle(self) -> list[Connection]:
        """The ready lines that nobody is owed, oldest first."""
        return list(self.ready.values())[: max(0, len(self.ready) - self.due())]

    def outdated(self) -> list[Connection]:
        """The ready lines of another version than the share's, oldest first."""
        return [line for line in self.ready.values() if line.version != self.version]

    def has_unreserved(self) -> bool:
        """Whether a line is there beyond those that are reserved."""
        return len(self.ready) > len(self.reservations)

    # When.

    @property
    def proof_interval_seconds(self) -> float:
        """How old a proof may be before the next one is asked for: half the limit, so that it comes in time."""
        return self.limits.proof_max_seconds / 2

    @property
    def patience_seconds(self) -> float:
        """How long a dial may hang while others are needed. Grows while giving up has not helped."""
        usual = max(PATIENCE_MIN_SECONDS, PATIENCE_LEADS * self.demand.usual_seconds)
        rounds = min(max(0, self.given_up - PATIENCE_ROUNDS), 8)
        return min(usual * 2.0**rounds, PATIENCE_MAX_SECONDS)

    def reserve_opens_at(self) -> float | None:
        """When the lines in reserve may be dialled: for sessions at once, else when the oldest waiter has waited."""
        if self.recovering:
            return -NEVER
        heads = [next(iter(queue.values())) for queue in self.queues if queue]
        oldest = min((waiter.asked_at for waiter in heads), default=None)
        return None if oldest is None else oldest + self.limits.reserve_after_ms / 1000

    def expect(self, line: Connection) -> None:
        """Remember when a ready line is to be retired or proven."""
        self.lines_due_at = min(self.lines_due_at, self._due_at(line))

    def look_again(self) -> None:
        """Find out anew when the first of the ready lines is due."""
        self.lines_due_at = min(map(self._due_at, self.ready.values()), default=NEVER)

    def _due_at(self, line: Connection) -> float:
        if line.proving:
            return line.retire_at
        return min(line.retire_at, line.proven_at + self.proof_interval_seconds)
