"""What the pool wants done, as values. The order in a list is the order in which to do it."""

from dataclasses import dataclass

from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, LeaseId, WaiterId


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a line."""

    connection_id: ConnectionId


@dataclass(frozen=True, slots=True)
class Grant:
    """Give this line to this waiter."""

    waiter_id: WaiterId
    connection_id: ConnectionId
    lease_id: LeaseId
    # In the same settle as the request, that is: a hit.
    at_once: bool
    entry_age_seconds: float
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Reject:
    """Send this waiter away."""

    waiter_id: WaiterId
    reason: Reason
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close this line, and say when that has finished."""

    connection_id: ConnectionId
    reason: str


Effect = Dial | Grant | Reject | Close
