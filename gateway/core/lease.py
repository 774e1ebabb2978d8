"""The exclusive right to use one line, and its machine: HELD, then one of four ends, all final."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.core.ids import ConnectionId, LeaseId
from gateway.core.transitions import Table


class LeaseState(Enum):
    """Whether it is held, and if not, how it ended."""

    HELD = auto()
    RELEASED = auto()
    EXPIRED = auto()
    REVOKED = auto()
    LOST = auto()


class LeaseEvent(Enum):
    """What happens to a lease."""

    RENEWED = auto()
    RELEASED = auto()
    EXPIRED = auto()
    REVOKED = auto()
    CONNECTION_LOST = auto()


_S, _E = LeaseState, LeaseEvent

TABLE: Final[Table[LeaseState, LeaseEvent]] = {
    (_S.HELD, _E.RENEWED): _S.HELD,
    (_S.HELD, _E.RELEASED): _S.RELEASED,
    (_S.HELD, _E.EXPIRED): _S.EXPIRED,
    (_S.HELD, _E.REVOKED): _S.REVOKED,
    (_S.HELD, _E.CONNECTION_LOST): _S.LOST,
}


@dataclass(slots=True)
class Lease:
    """One right to one line. Times are of the monotonic clock, in seconds."""

    id: LeaseId
    connection_id: ConnectionId
    granted_at: float
    renewed_at: float
    state: LeaseState = LeaseState.HELD
