"""One line to the Realtime API and its machine. There is no way from LEASED back to READY.

              DIAL_SUCCEEDED          GRANTED
 CONNECTING ────────────────▶ READY ──────────▶ LEASED
     │ DIAL_FAILED              │ RETIRED          │ LEASE_ENDED
     ▼                          ▼                  │
   CLOSED ◀── CLOSE_FINISHED ── DRAINING ◀─────────┘

LOST leads from READY, LEASED and DRAINING to CLOSED.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.core.ids import ConnectionId
from gateway.core.transitions import Table


class ConnectionState(Enum):
    """A state is a shelf: the pool keeps one collection per state."""

    CONNECTING = auto()
    READY = auto()
    LEASED = auto()
    DRAINING = auto()
    CLOSED = auto()


class ConnectionEvent(Enum):
    """What happens to a connection."""

    DIAL_SUCCEEDED = auto()
    DIAL_FAILED = auto()
    GRANTED = auto()
    RETIRED = auto()
    LEASE_ENDED = auto()
    LOST = auto()
    CLOSE_FINISHED = auto()


_S, _E = ConnectionState, ConnectionEvent

TABLE: Final[Table[ConnectionState, ConnectionEvent]] = {
    (_S.CONNECTING, _E.DIAL_SUCCEEDED): _S.READY,
    (_S.CONNECTING, _E.DIAL_FAILED): _S.CLOSED,
    (_S.READY, _E.GRANTED): _S.LEASED,
    (_S.READY, _E.RETIRED): _S.DRAINING,
    (_S.READY, _E.LOST): _S.CLOSED,
    (_S.LEASED, _E.LEASE_ENDED): _S.DRAINING,
    (_S.LEASED, _E.LOST): _S.CLOSED,
    (_S.DRAINING, _E.LOST): _S.CLOSED,
    (_S.DRAINING, _E.CLOSE_FINISHED): _S.CLOSED,
}


@dataclass(slots=True)
class Connection:
    """One line as the pool sees it. Times are of the monotonic clock, in seconds."""

    id: ConnectionId
    dialled_at: float
    state: ConnectionState = ConnectionState.CONNECTING
    ready_at: float = 0.0
    retire_at: float = 0.0
