"""A caller's conversation and its machine. It outlives streams and lines.

ARCHITECTURE.md draws the table. UPSTREAM_READY = leased, configured and replayed. A resumed session
always goes through RECOVERING: if its line still lives, UPSTREAM_READY follows at once.
"""

from enum import Enum, auto
from typing import Final

from gateway.core.transitions import Table


class SessionState(Enum):
    """Where a session stands."""

    OPENING = auto()
    ACTIVE = auto()
    RECOVERING = auto()
    DETACHED = auto()
    CLOSING = auto()
    CLOSED = auto()


class SessionEvent(Enum):
    """What happens to a session."""

    UPSTREAM_READY = auto()
    UPSTREAM_LOST = auto()
    CALLER_LOST = auto()
    CALLER_RESUMED = auto()
    CLOSE_REQUESTED = auto()
    CLAIM_LOST = auto()
    WINDOW_ELAPSED = auto()
    GAVE_UP = auto()
    UPSTREAM_CLOSED = auto()


_S, _E = SessionState, SessionEvent

TABLE: Final[Table[SessionState, SessionEvent]] = {
    (_S.OPENING, _E.UPSTREAM_READY): _S.ACTIVE,
    (_S.OPENING, _E.UPSTREAM_LOST): _S.OPENING,
    (_S.OPENING, _E.CALLER_LOST): _S.CLOSING,
    (_S.OPENING, _E.CLOSE_REQUESTED): _S.CLOSING,
    (_S.OPENING, _E.CLAIM_LOST): _S.CLOSING,
    (_S.OPENING, _E.GAVE_UP): _S.CLOSED,
    (_S.ACTIVE, _E.UPSTREAM_LOST): _S.RECOVERING,
    (_S.ACTIVE, _E.CALLER_LOST): _S.DETACHED,
    (_S.ACTIVE, _E.CALLER_RESUMED): _S.RECOVERING,
    (_S.ACTIVE, _E.CLOSE_REQUESTED): _S.CLOSING,
    (_S.ACTIVE, _E.CLAIM_LOST): _S.CLOSING,
    (_S.RECOVERING, _E.UPSTREAM_READY): _S.ACTIVE,
    (_S.RECOVERING, _E.UPSTREAM_LOST): _S.RECOVERING,
    (_S.RECOVERING, _E.CALLER_LOST): _S.DETACHED,
    (_S.RECOVERING, _E.CALLER_RESUMED): _S.RECOVERING,
    (_S.RECOVERING, _E.CLOSE_REQUESTED): _S.CLOSING,
    (_S.RECOVERING, _E.CLAIM_LOST): _S.CLOSING,
    (_S.RECOVERING, _E.GAVE_UP): _S.CLOSED,
    (_S.DETACHED, _E.UPSTREAM_READY): _S.DETACHED,
    (_S.DETACHED, _E.UPSTREAM_LOST): _S.DETACHED,
    (_S.DETACHED, _E.CALLER_RESUMED): _S.RECOVERING,
    (_S.DETACHED, _E.CLOSE_REQUESTED): _S.CLOSING,
    (_S.DETACHED, _E.CLAIM_LOST): _S.CLOSING,
    (_S.DETACHED, _E.WINDOW_ELAPSED): _S.CLOSING,
    (_S.CLOSING, _E.UPSTREAM_READY): _S.CLOSING,
    (_S.CLOSING, _E.UPSTREAM_LOST): _S.CLOSED,
    (_S.CLOSING, _E.CALLER_LOST): _S.CLOSING,
    (_S.CLOSING, _E.CLOSE_REQUESTED): _S.CLOSING,
    (_S.CLOSING, _E.CLAIM_LOST): _S.CLOSING,
    (_S.CLOSING, _E.GAVE_UP): _S.CLOSED,
    (_S.CLOSING, _E.UPSTREAM_CLOSED): _S.CLOSED,
}
