"""Reads one session's server events: what they mean to the caller, and what is still due.

Pure: `now` is monotonic seconds. Keeps no text and no audio, only ids, counts and times.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.core import event_ids
from gateway.core import events as out
from gateway.core import realtime as wire
from gateway.core.answer import Answer
from gateway.core.redaction import redact, shown_code
from gateway.core.tally import Tally, limit_of, usage_of
from gateway.core.turns import TurnTaking, detection_of, names_interruption
from gateway.core.watchdog import Debt

HEARING_SECONDS: Final = 2.0  # that the server may take to hear that the last audio was speech
# Silence sent after the caller's last sample, beyond what the server needs to end a turn.
SILENCE_MARGIN_MS: Final = 300
# Why an answer ended whose line was lost, where the provider would say `turn_detected`.
LINE_LOST: Final = "line_lost"


class Conversation:
    """One session's understanding of its server events, in the order in which they come."""

    def __init__(self, turn_taking: TurnTaking, detection: Mapping[str, Any] | None = None) -> None:
        """Begin with no answer under way. `detection` is the session object's own, until the provider confirms it."""
        self.turns = turn_taking
        self.input_bytes_per_second = turn_taking.input_format.size_bytes(1000)
        self.tally = Tally()
        self.first_heard_at: float | None = None
        # How turns end, as the provider last confirmed it; None = not by the server.
        self.detection = detection
        self.config_rejected = False
        # The event of the caller's own last word on whether speech interrupts, unless it was refused.
        self.interruption_set_by = ""
        # Of what nobody has collected yet: (what it is counted from, seconds) of first audio, and of audible audio.
        self.first_audios: list[tuple[str, float]] = []
        self.first_audibles: list[float] = []
        self._answers: dict[str, Answer] = {}
        # By event id, in order: what was asked for and has not been answered.
        self._requested: dict[str, None] = {}
        self._commits: dict[str, None] = {}
        self._answer_expected = False
        self._last_done: Answer | None = None
        self._turn_open = False
        self._speech_stopped_at: float | None = None
        self._unheard_bytes = 0
        self._hear_until = 0.0
        self._input_has_ended = False
        self._transcripts_due: set[str] = set()
        self._numbered = 0

    # From the caller.

    def audio_sent(self, size_bytes: int) -> None:
        """Record audio that went up."""
        self._unheard_bytes += size_bytes
        self.tally.audio_in_bytes += size_bytes

    def stamp(self, event: Mapping[str, Any], cseq: int) -> dict[str, Any]:
        """Return a client event with an id by which a refusal finds its way back."""
        self._numbered += 1
        event_id = event.get("event_id")
        if not isinstance(event_id, str) or not self._is_free(event_id):
            event_id = event_ids.of_control(cseq, self._numbered)
        match event.get("type"):
            case "session.update" if names_interruption(event.get("session")):
                self.interruption_set_by = event_id
            case "response.create":
                self._requested[event_id] = None
            case "input_audio_buffer.commit":
                self._commits[event_id], self._unheard_bytes = None, 0
            case "input_audio_buffer.append":
                audio = event.get("audio")
                self.audio_sent(len(audio) * 3 // 4 if isinstance(audio, str) else 0)
            case "input_audio_buffer.clear":
                self._unheard_bytes, self._turn_open, self._hear_until = 0, False, 0.0
        return {**event, "event_id": event_id}

    def _is_free(self, event_id: str) -> bool:
        """Whether a caller's own id can stand for one request: neither ours nor under way already."""
        taken = event_id in self._requested or event_id in self._commits
        return event_ids.may_be_a_callers(event_id) and not taken

    def input_ended(self, now: float) -> bytes:
        """Record that no more input comes; return the silence that lets the server end the turn."""
        self._input_has_ended = True
        if not self.turns.by_server or not (self._unheard_bytes or self._turn_open):
            return b""
        self._hear_until = now + HEARING_SECONDS
        return self.turns.input_format.silence(self.turns.silence_ms + SILENCE_MARGIN_MS)

    @property
    def debt(self) -> Debt:
        """What the provider owes at this moment."""
        asked = self._requested or self._commits or self._answer_expected
        return Debt.REST if self._answers else Debt.BEGINNING if asked else Debt.NOTHING

    @property
    def is_busy(self) -> bool:
        """Whether the provider should be heard of soon."""
        return self._turn_open or self.debt is not Debt.NOTHING

    def is_due(self, now: float) -> bool:
        """Whether the session still owes its caller something."""
        return bool(self.is_busy or self._transcripts_due or now < self._hear_until)

    # From the server.

    def audio(self, event: wire.AudioDelta, now: float) -> out.OutputAudio:
        """Turn a piece of speech into the caller's form. The path of every audio frame down."""
        data = event.audio()
        answer = self._answers.get(event.response_id)
        if answer is None:
            # Behind its end, an answer does not begin again: it would be due for ever.
            done = self._last_done
            answer = done if done is not None and done.id == event.response_id else self._begin(event.response_id, now)
        if answer.first_audio_at is None:
            self._first_audio(answer, now)
        if answer.item_id != event.item_id:
            answer.item_id, answer.size_bytes = event.item_id, 0
        # Counted in bytes: a piece may end in the middle of a sample.
        position = answer.size_bytes // self.turns.output_format.sample_bytes
        answer.size_bytes += len(data)
        self.tally.audio_out_bytes += len(data)
        if not answer.is_heard:
            seconds = answer.listen(data, answer.size_bytes - len(data), self.turns.output_format, now)
            if seconds is not None:
                self.first_audibles.append(seconds)
        return out.OutputAudio(data, event.response_id, event.item_id, position)

    def receive(self, event: wire.ServerEvent, now: float) -> Sequence[out.SessionEvent]:
        """Turn any other typed event into what the caller is told, in order."""
        return _READERS[type(event)](self, event, now)

    def _updated(self, event: wire.SessionUpdatedEvent, _now: float) -> Sequence[out.SessionEvent]:
        configuration = event.configuration()
        self.turns, self.detection = TurnTaking.of(configuration), detection_of(configuration)
        self.input_bytes_per_second = self.turns.input_format.size_bytes(1000)
        return (out.SessionUpdated(bytes(event.session).decode()),)

    def _speech_started(self, event: wire.BufferSpeechStarted, _now: float) -> Sequence[out.SessionEvent]:
        self._turn_open = True
        self._hear_until = 0.0
        return (*self._interruptions(), out.SpeechStarted(event.item_id, event.audio_start_ms))

    def _speech_stopped(self, event: wire.BufferSpeechStopped, now: float) -> Sequence[out.SessionEvent]:
        self._speech_stopped_at = now  # the turn stays open until it is committed
        return (out.SpeechStopped(event.item_id, event.audio_end_ms),)

    def _transcribed(self, event: wire.TranscriptionCompleted, _now: float) -> Sequence[out.SessionEvent]:
        self._transcripts_due.discard(event.item_id)
        return (out.UserTranscript(event.transcript, event.item_id),)

    def _not_transcribed(self, event: wire.TranscriptionFailed, _now: float) -> Sequence[out.SessionEvent]:
        self._transcripts_due.discard(event.item_id)
        failure = event.error.code or event.error.type or "failed"
        return (out.UserTranscript("", event.item_id, failure),)

    def _committed(self, event: wire.BufferCommitted, _now: float) -> Sequence[out.SessionEvent]:
        self._turn_open = False
        self._unheard_bytes = 0
        self._hear_until = 0.0
        if self._commits:  # the caller's own: it is answered only on request
            self._commits.pop(next(iter(self._commits)))
        else:
            self._answer_expected = self.turns.by_server and self.turns.create_response
        if self.turns.transcribes:
            self._transcripts_due.add(event.item_id)
        return (out.InputCommitted(event.item_id),)

    def _begin(self, response_id: str, now: float) -> Answer:
        stopped_at, self._speech_stopped_at = self._speech_stopped_at, None
        answer = self._answers[response_id] = Answer(response_id, now, stopped_at)
        return answer

    def _first_audio(self, answer: Answer, now: float) -> None:
        answer.first_audio_at = now
        self.first_heard_at = self.first_heard_at or now
        self.first_audios.append(("response_created", now - answer.created_at))
        if answer.speech_stopped_at is not None:
            self.first_audios.append(("speech_stopped", now - answer.speech_stopped_at))

    def _response_created(self, event: wire.ResponseCreatedEvent, now: float) -> Sequence[out.SessionEvent]:
        response = event.response
        if self._answer_expected:
            self._answer_expected = False
        elif self._requested:
            self._requested.pop(next(iter(self._requested)))
        self._begin(response.id, now)
        return (out.ResponseCreated(response.id, response.metadata or {}),)

    def _response_done(self, event: wire.ResponseDoneEvent, now: float) -> Sequence[out.SessionEvent]:
        response = event.response
        answer = self._answers.pop(response.id, None) or Answer(response.id, now, None)
        self._last_done = answer
        usage = usage_of(response.usage)
        details = None if isinstance(response.status_details, str) else response.status_details
        reason = (details.reason if details else None) or ""
        code = (details.error.code if details and details.error else None) or ""
        self.tally.answered(response.status, code, usage)
        return (answer.done(now, response.status, reason, code, usage=usage, metadata=response.metadata or {}),)

    def _item_done(self, item: wire.Item) -> out.ItemDone:
        size_bytes = next((answer.size_bytes for answer in self._answers.values() if answer.item_id == item.id), 0)
        audio_ms = self.turns.output_format.milliseconds(size_bytes)
        return out.ItemDone(item.id, item.type, item.role, item.text, item.call_id, item.name, audio_ms)

    def _tool_call(self, event: wire.FunctionCallDone, _now: float) -> Sequence[out.SessionEvent]:
        answer = self._answers.get(event.response_id)
        if answer is not None:
            answer.tool_calls += 1
        call = out.ToolCall(event.call_id, event.name, event.arguments, event.response_id, event.item_id)
        return (call,)

    def _interruptions(self) -> Sequence[out.SessionEvent]:
        if not self.turns.interrupt_response:
            return ()
        heard = (answer for answer in self._answers.values() if answer.first_audio_at is not None)
        fmt = self.turns.output_format
        return tuple(answer.interrupted(out.InterruptionCause.SPEECH, fmt) for answer in heard)

    # The end of a line.

    def asked_again(self, now: float, configuration: Mapping[str, Any]) -> None:
        """A fresh line is told everything: it is asked again what was asked, and hears the end again."""
        self.turns, self.detection = TurnTaking.of(configuration), detection_of(configuration)
        self._requested, self._commits = {}, {}
        if self._input_has_ended and self._unheard_bytes:
            self._hear_until = now + HEARING_SECONDS

    def line_lost(
        self, now: float, unheard_bytes: int, cause: out.InterruptionCause = out.InterruptionCause.UPSTREAM_LOST
    ) -> Sequence[out.SessionEvent]:
        """Record the end of the line; return those of its answers. A fresh one hears `unheard_bytes` again."""
        ends = list[out.SessionEvent]()
        for answer in self._answers.values():
            if answer.first_audio_at is not None and not answer.is_cut:
                ends.append(answer.interrupted(cause, self.turns.output_format))
            ends.append(answer.done(now, "cancelled", LINE_LOST))
        ends += [out.UserTranscript("", item_id, LINE_LOST) for item_id in sorted(self._transcripts_due)]
        for owed in (self._answers, self._requested, self._commits, self._transcripts_due):
            owed.clear()
        self._answer_expected = self._turn_open = False
        self._speech_stopped_at, self._unheard_bytes = None, unheard_bytes
        self.tally.failures = 0
        return ends

    def _error(self, refusal: wire.ServerError, _now: float) -> Sequence[out.SessionEvent]:
        error = refusal.error
        event_id = error.event_id or ""
        self._requested.pop(event_id, None)
        self._commits.pop(event_id, None)
        if event_id == self.interruption_set_by:
            self.interruption_set_by = ""
        if event_id in event_ids.UNSEEN:  # ours alone: the caller has not asked for it
            return ()
        told = out.ErrorEvent(
            wire.error_reason(error),
            redact(error.message),
            upstream_code=shown_code(error.code),
            client_event_id="" if event_id.startswith(event_ids.OURS) else event_id,
            cseq=event_ids.cseq_of(event_id),
            event_id=event_id,
        )
        if event_id == event_ids.CONFIG:
            self.config_rejected = True
            return (out.ConfigRejected(told, error.param or ""),)
        return (told,)


# How each typed event is read. A test compares the keys with the wire's union.
_READERS: Final[dict[type[Any], Callable[[Conversation, Any, float], Sequence[out.SessionEvent]]]] = {
    wire.SessionCreated: lambda _s, _event, _now: (),
    wire.SessionUpdatedEvent: Conversation._updated,  # noqa: SLF001
    wire.ServerError: Conversation._error,  # noqa: SLF001 its own table
    wire.ItemDoneEvent: lambda conversation, event, _now: (conversation._item_done(event.item),),  # noqa: SLF001
    wire.ItemDeletedEvent: lambda _s, event, _now: (out.ItemDeleted(event.item_id),),
    wire.ItemTruncatedEvent: lambda _s, event, _now: (out.ItemTruncated(event.item_id, event.audio_end_ms),),
    wire.TranscriptionDelta: lambda _s, event, _now: (out.UserTranscriptDelta(event.delta or "", event.item_id),),
    wire.TranscriptionCompleted: Conversation._transcribed,  # noqa: SLF001
    wire.TranscriptionFailed: Conversation._not_transcribed,  # noqa: SLF001
    wire.BufferCommitted: Conversation._committed,  # noqa: SLF001
    wire.BufferSpeechStarted: Conversation._speech_started,  # noqa: SLF001
    wire.BufferSpeechStopped: Conversation._speech_stopped,  # noqa: SLF001
    wire.ResponseCreatedEvent: Conversation._response_created,  # noqa: SLF001
    wire.ResponseDoneEvent: Conversation._response_done,  # noqa: SLF001
    wire.AudioDelta: lambda conversation, event, now: (conversation.audio(event, now),),
    wire.TextDeltaEvent: lambda _s, event, _now: (out.TextDelta(event.delta, event.response_id, event.item_id),),
    wire.AudioTranscriptDelta: lambda _s, event, _now: (
        out.TranscriptDelta(event.delta, event.response_id, event.item_id),
    ),
    wire.FunctionCallDone: Conversation._tool_call,  # noqa: SLF001
    wire.RateLimitsUpdated: lambda _s, event, _now: (
        out.RateLimits(tuple(limit_of(limit) for limit in event.rate_limits)),
    ),
}
