"""Writes into a session's log now and then what it comes to, so that a long conversation outlives its gateway.

A log keeps its newest entries. Whoever reads it goes on from the last snapshot, and needs nothing older.
"""

from collections.abc import Callable
from typing import Final

from gateway.core import events as out
from gateway.core.intake import Intake
from gateway.core.record import Note, Snapshot
from gateway.runtime.lanes import Lanes
from gateway.runtime.relay import Relay

# After so many entries, or bytes of them, in a moment in which nothing is under way: well before a log lets go of them.
ENTRIES: Final = 400
ENTRIES_BYTES: Final = 256 << 10
# What does not fit is named where the session is taken over.
SNAPSHOT_MAX_BYTES: Final = 256 << 10


class Snapshots:
    """Those of one session."""

    def __init__(self, relay: Relay, lanes: Lanes, intake: Intake, usage: Callable[[], out.Usage]) -> None:
        """Begin behind what the log has now; `usage` = what the session has used so far, at all gateways."""
        self._usage = usage
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
        samples = self._intake.behind(relay.continuity.uncommitted_bytes)
        lanes.control(out.ControlTaken(0), Note(snapshot=Snapshot(written, self._usage(), samples)))
        self._last = lanes.seq, lanes.written_bytes
