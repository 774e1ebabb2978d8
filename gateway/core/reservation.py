"""Capacity kept for a caller who is about to open a session: a unit of supply, not a line.

HELD, then one of three ends, all final. What was reserved and not used stands ready as before.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.core.ids import LeaseId
from gateway.core.transitions import Table

TTL_SECONDS: Final = 30
TTL_MAX_SECONDS: Final = 300


class ReservationState(Enum):
    """Whether it is held, and if not, how it ended."""

    HELD = auto()
    RELEASED = auto()
    EXPIRED = auto()
    # A session has it now, here or at another gateway.
    USED = auto()


class ReservationEvent(Enum):
    """What happens to a reservation."""

    RENEWED = auto()
    RELEASED = auto()
    EXPIRED = auto()
    USED = auto()


_S, _E = ReservationState, ReservationEvent

TABLE: Final[Table[ReservationState, ReservationEvent]] = {
    (_S.HELD, _E.RENEWED): _S.HELD,
    (_S.HELD, _E.RELEASED): _S.RELEASED,
    (_S.HELD, _E.EXPIRED): _S.EXPIRED,
    (_S.HELD, _E.USED): _S.USED,
}


@dataclass(slots=True)
class Reservation:
    """One unit of one template's supply. Times are of the monotonic clock, in seconds."""

    id: LeaseId
    pool: str
    granted_at: float
    expires_at: float
    state: ReservationState = ReservationState.HELD
