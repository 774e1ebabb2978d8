"""The caller's side of a conversation: audio in, turns out, by voice detection or push-to-talk."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from gateway.simulator import hearing
from gateway.simulator.conversation import Conversation
from gateway.simulator.events import Beat, Code, Event, Refusal, event, new_id
from gateway.simulator.idle import IdleTimeout
from gateway.simulator.intake import Intake, Turn
from gateway.simulator.items import decode_audio, spoken_by_user
from gateway.simulator.responses import Perform, Responses, Send
from gateway.simulator.session import REALTIME, Session
from gateway.simulator.vad import Edge, EdgeKind

Committed = Callable[[str, str, Turn], None]
"""Is told of each turn that has become an item: the session, the item, and what it holds."""

_APPEND_MAX_BYTES: Final = 15 * 1024 * 1024


class Turns:
    """Answers the `input_audio_buffer` events and starts what a finished turn sets off."""

    def __init__(
        self,
        session: Session,
        conversation: Conversation,
        responses: Responses,
        send: Send,
        perform: Perform,
        committed: Committed,
    ) -> None:
        """Start with the session's settings; `configure` reads them again."""
        self._session = session
        self._conversation = conversation
        self._responses = responses
        self._send = send
        self._perform = perform
        self._committed = committed
        self._intake = Intake(session.input_format, session.turn_detection, _is_whole)
        self._idle = IdleTimeout(perform, lambda: self._intake.clock_ms, self._timed_out)
        responses.when_done = self._answered
        responses.when_created = self._idle.stop
        self._item_id = new_id("item")
        self._start_ms = 0.0

    @property
    def speaking(self) -> bool:
        """Whether the caller is heard speaking."""
        return self._intake.speaking

    @property
    def written_bytes(self) -> int:
        """All audio the caller ever sent."""
        return self._intake.written_bytes

    def configure(self) -> None:
        """Take over what an update of the session changed."""
        if not self._idle_timeout_ms:
            self._idle.stop()
        self._intake.configure(self._session.input_format, self._session.turn_detection)

    def append(self, sent: Mapping[str, Any]) -> None:
        """Answer `input_audio_buffer.append`: nothing, unless speech starts or stops. Raises Refusal."""
        wire = decode_audio(sent.get("audio"), "audio")
        if len(wire) > _APPEND_MAX_BYTES:
            message = f"Invalid 'audio': at most {_APPEND_MAX_BYTES} bytes."
            raise Refusal(Code.STRING_ABOVE_MAX_LENGTH, message, "audio")
        for edge in self._intake.append(wire):
            (self._started if edge.kind is EdgeKind.STARTED else self._stopped)(edge)

    def commit(self) -> None:
        """Answer `input_audio_buffer.commit`. Never starts a response. Raises Refusal."""
        turn = self._intake.commit()
        self._idle.stop()
        self._take(turn)

    def clear(self) -> None:
        """Answer `input_audio_buffer.clear`."""
        self._intake.clear()
        self._send(event("input_audio_buffer.cleared"))

    def _started(self, edge: Edge) -> None:
        self._idle.stop()
        self._start_ms = max(self._intake.held_from_ms, edge.at_ms - self._intake.prefix_padding_ms)
        start_ms = math.floor(self._start_ms)
        self._send(event("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=self._item_id))
        if self._setting("interrupt_response"):
            self._responses.interrupt()

    def _stopped(self, edge: Edge) -> None:
        self._send(event("input_audio_buffer.speech_stopped", audio_end_ms=edge.at_ms, item_id=self._item_id))
        self._take(self._intake.cut(self._start_ms, edge.at_ms))
        if self._setting("create_response"):
            self._respond()

    def _respond(self) -> None:
        try:
            self._responses.create(None)
        except Refusal as refusal:  # an uninterrupted answer may still be running
            self._send(refusal.event(None))

    @property
    def _idle_timeout_ms(self) -> int:
        """Zero where nobody is waited for."""
        return int((self._session.turn_detection or {}).get("idle_timeout_ms") or 0)

    def _answered(self, unheard_ms: float) -> None:
        if self._idle_timeout_ms and not self._intake.speaking:
            self._idle.start(unheard_ms, self._idle_timeout_ms)

    def _timed_out(self, start_ms: float, end_ms: float) -> None:
        """Commit the silence and answer it."""
        ends = {"audio_start_ms": math.floor(start_ms), "audio_end_ms": math.floor(end_ms)}
        self._send(event("input_audio_buffer.timeout_triggered", **ends, item_id=self._item_id))
        turn = self._intake.cut(start_ms, end_ms)
        self._add("", round(end_ms - start_ms), turn)
        self._respond()

    def _setting(self, name: str) -> bool:
        """Tell whether voice detection has this right; in a transcription session it has none."""
        detection = self._session.turn_detection or {}
        return self._session.kind == REALTIME and bool(detection.get(name))

    def _take(self, turn: Turn) -> None:
        """Make an item of the turn and write it down if asked."""
        text = hearing.recognise(turn)
        item_id = self._add(text or "", turn.duration_ms, turn)
        if not self._session.transcribes:
            return
        if hearing.is_silent(turn):
            self._perform(iter([Beat(0, lambda: [hearing.failure(item_id)])]))
        else:
            self._write_down(item_id, text or hearing.describe(turn), turn.duration_ms)

    def _add(self, heard: str, audio_ms: int, turn: Turn) -> str:
        """Commit what was heard as an item; its id."""
        item = spoken_by_user(self._item_id, transcript=None, heard=heard, audio_ms=audio_ms)
        previous = self._conversation.last_id
        self._send(event("input_audio_buffer.committed", previous_item_id=previous, item_id=item.id))
        self._send(self._conversation.add(item))
        self._send(event("conversation.item.done", previous_item_id=previous, item=item.wire))
        self._item_id = new_id("item")
        self._committed(self._session.id, item.id, turn)
        return item.id

    def _write_down(self, item_id: str, text: str, duration_ms: int) -> None:
        beats = list(hearing.transcription(item_id, text, duration_ms))
        last = beats[-1]
        beats[-1] = Beat(last.after_ms, partial(self._written, item_id, text, last.events))
        self._perform(iter(beats))

    def _written(self, item_id: str, text: str, events: Callable[[], list[Event]]) -> list[Event]:
        item = self._conversation.find(item_id)
        if item is not None:
            content = [{"type": "input_audio", "transcript": text}]
            self._conversation.change(replace(item, wire={**item.wire, "content": content}))
        return events()


def _is_whole(turn: Turn) -> bool:
    """A sentence is whole if it is one that is known."""
    return hearing.recognise(turn) is not None
