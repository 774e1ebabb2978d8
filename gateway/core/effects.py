"""What the pool wants done, as values. The order in a list is the order in which to do it."""

from dataclasses import dataclass
from enum import Enum, auto

from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId


class Urgency(Enum):
    """Whom a dial is for."""

    # A running session that has lost its line, or is to leave it.
    RECOVERY = auto()
    # A caller who waits.
    WAITER = auto()
    # The floor.
    REFILL = auto()


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a line, configured for the template `pool`, or bare."""

    connection_id: ConnectionId
    pool: str
    urgency: Urgency
    # The waiter that alone may have it: its line cannot be warm.
    dialled_for: WaiterId | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """Give this line to this waiter."""

    waiter_id: WaiterId
    connection_id: ConnectionId
    lease_id: LeaseId
    # In the same settle as the request, that is: a hit.
    at_once: bool
    # It carries the template's configuration already; else the holder sends it.
    configured: bool
    entry_age_seconds: float
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Reserve:
    """Tell this waiter that a unit is kept for it."""

    waiter_id: WaiterId
    lease_id: LeaseId
    at_once: bool
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Reject:
    """Send this waiter away."""

    waiter_id: WaiterId
    reason: Reason
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Prove:
    """Find out whether this ready line is alive, and say so."""

    connection_id: ConnectionId


@dataclass(frozen=True, slots=True)
class Revoke:
    """Tell the holder of this lease that it has ended: nobody seems to use it."""

    lease_id: LeaseId


@dataclass(frozen=True, slots=True)
class Close:
    """Close this line, or end its dial, and say when that has finished."""

    connection_id: ConnectionId
    reason: str


Effect = Dial | Grant | Reserve | Reject | Prove | Revoke | Close
