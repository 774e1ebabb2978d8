"""One line to the Realtime API and its machine. There is no way from LEASED back to READY.

              DIAL_SUCCEEDED          GRANTED
 CONNECTING ────────────────▶ READY ──────────▶ LEASED
  │    │ RETIRED                │ RETIRED          │ LEASE_ENDED
  │    └────────────────────┐   ▼                  │
  │ DIAL_FAILED             └▶ DRAINING ◀──────────┘
  └─────────▶ CLOSED ◀──────────┘ CLOSE_FINISHED

LOST leads from READY, LEASED and DRAINING to CLOSED.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.core.ids import ConnectionId, WaiterId
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
    (_S.CONNECTING, _E.RETIRED): _S.DRAINING,
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
    # The template that it counts for; BARE = none yet.
    pool: str
    # The template's version that it is configured with; empty = bare.
    version: str
    decided_at: float
    # A caller waited for it when it was decided; else it fills the floor.
    waited_for: bool = False
    # It was a running session that did.
    recovers: bool = False
    # The breaker's number for it, if it is the breaker's probe; else 0.
    probe: int = 0
    # The waiter that alone may have it; None = any.
    dialled_for: WaiterId | None = None
    state: ConnectionState = ConnectionState.CONNECTING
    # When the dial itself began: a turn may have to be waited for.
    dialled_at: float | None = None
    ready_at: float = 0.0
    retire_at: float = 0.0
    proven_at: float = 0.0
    # A proof of life is under way.
    proving: bool = False
