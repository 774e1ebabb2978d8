"""Tells a caller what its line says: typed or raw, in its lane, without what it knows already."""

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from gateway.core import events as out
from gateway.core.continuity import Continuity
from gateway.core.conversation import Conversation
from gateway.core.intake import Intake
from gateway.core.owed import ASKED_AGAIN
from gateway.core.record import Note
from gateway.core.restoration import Restoration
from gateway.core.session import SessionState
from gateway.core.slowness import Slowness
from gateway.runtime.lanes import Lanes
from gateway.runtime.observers import SessionObserver
from gateway.runtime.outbox import Outbox

# A message stays below the 4 MiB that a gRPC client accepts unless told otherwise.
RAW_PART_BYTES: Final = 3 << 20


class Teller:
    """What one session's caller hears."""

    def __init__(  # noqa: PLR0913, PLR0917 what stands between line and caller, each once
        self,
        pool: str,
        conversation: Conversation,
        continuity: Continuity,
        lanes: Lanes,
        outbox: Outbox,
        observer: SessionObserver,
        intake: Intake | None,
    ) -> None:
        """Tell nothing yet. `intake` = what is taken of a resumable caller."""
        self._intake = intake
        self._pool = pool
        self._conversation = conversation
        self._continuity = continuity
        self._lanes = lanes
        self._outbox = outbox
        self._observer = observer
        # What a fresh line still answers to what it was told.
        self.restoration = Restoration()
        # Of the answers of the present line.
        self.slowness = Slowness()

    def raw(self, frame: bytes) -> None:
        """Pass an event on untouched."""
        if not self.restoration.is_over and self.restoration.takes_raw(frame):
            return
        if len(frame) <= RAW_PART_BYTES:
            self._lanes.live(out.Raw(frame))
            return
        pieces = range(0, len(frame), RAW_PART_BYTES)
        for part, start in enumerate(pieces):
            piece = frame[start : start + RAW_PART_BYTES]
            self._lanes.live(out.Raw(piece, part, len(pieces)))

    def tell(self, events: Sequence[out.SessionEvent]) -> None:
        """Tell what the line's event means."""
        dropped: dict[str, int] = {}
        for heard in events:
            event = self._continuity.heard(heard)
            if self.restoration.is_over or not self._is_known(event):
                self._pass_on(event, dropped)
        conversation = self._conversation
        for since, seconds in conversation.first_audios:
            self._observer.first_audio(self._pool, since, seconds)
            self.slowness.heard(since, seconds)
        for seconds in conversation.first_audibles:
            self._observer.first_audible(self._pool, seconds)
        conversation.first_audios.clear()
        conversation.first_audibles.clear()

    def line_lost(self, now: float, cause: out.InterruptionCause) -> None:
        """Tell what the end of the line has cut off, and let it be remembered."""
        ends = self._conversation.line_lost(now, self._continuity.rest_bytes, cause)
        dropped: dict[str, int] = {}
        for event in ends:
            if isinstance(event, out.ResponseDone) and self._continuity.is_asked_again(event.response_id):
                event = replace(event, status_reason=ASKED_AGAIN)  # noqa: PLW2901 the same event, told as what it is
            self._pass_on(event, dropped)
        self._continuity.line_lost()

    def _pass_on(self, event: out.SessionEvent, dropped: dict[str, int]) -> None:
        if isinstance(event, out.Interrupted):
            # The flush comes first: what it drops was never sent. One flush drops the audio of all items.
            dropped.update(self._outbox.flush_audio())
            fmt, received = self._conversation.turns.output_format, event.sent_samples
            event = self._cut(event, dropped)
            sent_ms, received_ms = (fmt.milliseconds(n * fmt.sample_bytes) for n in (event.sent_samples, received))
            self._continuity.interrupted(event, sent_ms, received_ms)
        if isinstance(event, out.ResponseDone):
            self._observer.answered(event)
        if isinstance(event, out.ControlEvent):
            self._lanes.control(event, self._note(event))
        else:
            self._lanes.live(event)

    def _note(self, event: out.ControlEvent) -> Note | None:
        """What another owner of the session would have to know of an event, beside what the caller is told."""
        match event:
            case out.InputCommitted() if self._intake is not None:
                return Note(input_samples=self._intake.behind(self._continuity.uncommitted_bytes))
            case out.ErrorEvent(event_id=event_id) | out.ConfigRejected(error=out.ErrorEvent(event_id=event_id)):
                return Note(event_id=event_id) if event_id else None
        return None

    def _is_known(self, event: out.SessionEvent) -> bool:
        """Whether an event is a fresh line's answer to what it was told; an item that it refuses is named."""
        if item_id := self.restoration.refused(event):
            state, durability = SessionState.ACTIVE, self._lanes.durability
            self._lanes.control(out.StateChanged(state, durability, "unrestored", unrestored_items=(item_id,)))
            self._continuity.restored((item_id,))  # no other line is told it
            return True
        return self.restoration.takes(event)

    def _cut(self, event: out.Interrupted, dropped: Mapping[str, int]) -> out.Interrupted:
        sample_bytes = self._conversation.turns.output_format.sample_bytes
        unsent = dropped.get(event.item_id, 0) // sample_bytes
        return replace(event, sent_samples=event.sent_samples - unsent)
