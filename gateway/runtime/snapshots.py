"""Writes into a session's log now and then what it comes to, so that a long conversation outlives its gateway.

A log keeps its newest entries. Whoever reads it goes on from the last snapshot, and needs nothing older.
"""

import time
from typing import TYPE_CHECKING, Final

from msgspec import structs

from gateway.core import events as out
from gateway.core.intake import Intake
from gateway.core.record import Note, Opening, Snapshot
from gateway.runtime.lanes import Lanes
from gateway.runtime.relay import Relay
from gateway.runtime.session_words import total_usage

if TYPE_CHECKING:
    from gateway.runtime.session import LiveSession

# After so many entries, or bytes of them, in a moment in which nothing is under way: well before a log lets go of them,
# and before they and the last one are more than an owner keeps for a server that loses everything.
ENTRIES: Final = 400
ENTRIES_BYTES: Final = 64 << 10
# What does not fit is named where the session is taken over.
SNAPSHOT_MAX_BYTES: Final = 128 << 10


class Snapshots:
    """Those of one session."""

    def __init__(self, session: "LiveSession", opening: Opening, relay: Relay, lanes: Lanes, intake: Intake) -> None:
        """Begin behind what the log has now."""
        self._session = session
        self._opening = structs.replace(opening, first=())
        self._relay = relay
        self._lanes = lanes
        self._intake = intake
        self._last = lanes.seq, lanes.written_bytes

    def look(self, now: float) -> None:
        """Write one if it is time and the moment is quiet; `now` = loop time, in seconds."""
        lanes, relay = self._lanes, self._relay
        seq, written_bytes = self._last
        is_time = lanes.seq - seq >= ENTRIES or lanes.written_bytes - written_bytes >= ENTRIES_BYTES
        if not is_time or not relay.has_line or relay.conversation.is_due(now):
            return
        if (written := relay.continuity.written(SNAPSHOT_MAX_BYTES)) is None:
            return
        session = self._session
        snapshot = Snapshot(
            opening=self._opening,
            opened_at_unix_ms=round((time.time() - (now - session.started_at)) * 1000),
            caller=session.principal.caller,
            conversation=written,
            usage=total_usage(session),
            input_samples=self._intake.behind(relay.continuity.uncommitted_bytes),
        )
        lanes.control(out.ControlTaken(0), Note(snapshot=snapshot))
        self._last = lanes.seq, lanes.written_bytes
