"""What a server's events mean to the caller, and what is still owed to it when it says goodbye."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.core import event_ids
from gateway.core import events as out
from gateway.core import realtime as wire
from gateway.core.audio import PCM_24K, PCMA, PCMU
from gateway.core.conversation import HEARING_SECONDS, Conversation
from gateway.core.errors import Reason
from gateway.core.turns import TurnTaking
from tests.unit.core.recordings import NAMES, received, recording

BY_SERVER = TurnTaking()
PUSH_TO_TALK = TurnTaking(by_server=False)
TRANSCRIBED = TurnTaking(transcribes=True)


class Told:
    """One conversation, told events by their fields at given times."""

    def __init__(self, turns: TurnTaking = BY_SERVER) -> None:
        self.conversation = Conversation(turns)
        self.now = 100.0

    def hears(self, kind: str, **fields: Any) -> list[out.SessionEvent]:
        return self.hears_frame(json.dumps({"type": kind, **fields}).encode())

    def hears_frame(self, text: bytes) -> list[out.SessionEvent]:
        event = wire.decode(text)
        if event is None:
            return [out.Raw(text)]
        if isinstance(event, wire.AudioDelta):
            return [self.conversation.audio(event, self.now)]
        return list(self.conversation.receive(event, self.now))

    def says(self, kind: str, cseq: int = 0, **fields: Any) -> dict[str, Any]:
        return self.conversation.stamp({"type": kind, **fields}, cseq)

    def audio(self, size: int = 4, response_id: str = "r", item_id: str = "i") -> out.OutputAudio:
        delta = base64.b64encode(bytes(size)).decode()
        fields = {"response_id": response_id, "item_id": item_id, "delta": delta}
        (event,) = self.hears("response.output_audio.delta", **fields)
        assert isinstance(event, out.OutputAudio)
        return event

    def created(self, response_id: str = "r", **fields: Any) -> list[out.SessionEvent]:
        return self.hears("response.created", response={"id": response_id, **fields})

    def done(self, response_id: str = "r", **fields: Any) -> out.ResponseDone:
        response = {"id": response_id, "status": "completed", **fields}
        (event,) = self.hears("response.done", response=response)
        assert isinstance(event, out.ResponseDone)
        return event

    def speech(self, what: str, item_id: str = "u") -> list[out.SessionEvent]:
        at = {"started": "audio_start_ms", "stopped": "audio_end_ms"}[what]
        return self.hears(f"input_audio_buffer.speech_{what}", item_id=item_id, **{at: 40})

    def committed(self, item_id: str = "u") -> list[out.SessionEvent]:
        return self.hears("input_audio_buffer.committed", item_id=item_id)

    def transcribed(self, how: str, item_id: str = "u", **fields: Any) -> list[out.SessionEvent]:
        kind = f"conversation.item.input_audio_transcription.{how}"
        return self.hears(kind, item_id=item_id, **fields)

    @property
    def due(self) -> bool:
        return self.conversation.is_due(self.now)


def kinds(events: Sequence[object]) -> list[type[object]]:
    return [type(event) for event in events]


# Recorded sessions.


@pytest.mark.parametrize("name", NAMES)
def test_nothing_recorded_is_lost(name: str) -> None:
    """Each event is told in a typed form or untouched; only the line's own beginning is kept back."""
    told = Told(TRANSCRIBED)
    for text in received(name):
        events = told.hears_frame(text)
        kind = json.loads(text)["type"]
        assert len(events) == (kind != "session.created"), kind
        assert all(event.json == text for event in events if isinstance(event, out.Raw))


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_session_owes_nothing_at_its_end(name: str) -> None:
    told = Told(TRANSCRIBED)
    for direction, data in recording(name):
        if direction == "received":
            told.hears_frame(json.dumps(data).encode())
        elif data["type"] == "input_audio_buffer.append":
            told.conversation.audio_sent(len(base64.b64decode(data["audio"])))
        else:
            told.conversation.stamp(data, 0)
    assert not told.due
    assert told.conversation.tally.responses >= 1


def test_a_recorded_spoken_turn_is_told_in_order() -> None:
    told = Told(TRANSCRIBED)
    events = [event for text in received("audio_in_server_vad_turn") for event in told.hears_frame(text)]
    typed = [type(event) for event in events if not isinstance(event, out.Raw)]
    seen = list(dict.fromkeys(typed))
    assert seen == [
        out.SessionUpdated,
        out.SpeechStarted,
        out.SpeechStopped,
        out.InputCommitted,
        out.ItemDone,
        out.ResponseCreated,
        out.UserTranscriptDelta,
        out.TranscriptDelta,
        out.OutputAudio,
        out.UserTranscript,
        out.ResponseDone,
    ]
    spoken = "".join(e.delta for e in events if isinstance(e, out.UserTranscriptDelta))
    whole = [e.text for e in events if isinstance(e, out.UserTranscript)]
    assert whole == [spoken.strip()] == ["Hello, my name is Marcelo."]
    answer = "".join(e.delta for e in events if isinstance(e, out.TranscriptDelta))
    (said,) = [e for e in events if isinstance(e, out.ItemDone) and e.role == "assistant"]
    assert said.text == answer == "Hello, Marcelo! Great to meet you. How can I help you today?"


def test_a_recorded_tool_call_is_told_whole() -> None:
    told = Told()
    events = [event for text in received("tool_call_round") for event in told.hears_frame(text)]
    (call,) = [event for event in events if isinstance(event, out.ToolCall)]
    assert json.loads(call.arguments_json) == {"city": "London"}
    assert call.call_id.startswith("call_")
    assert call.name
    (item,) = [e for e in events if isinstance(e, out.ItemDone) and e.type == "function_call"]
    assert item.item_id == call.item_id
    done = [event for event in events if isinstance(event, out.ResponseDone)]
    assert [each.status for each in done] == ["completed", "completed"]


@pytest.mark.parametrize("name", NAMES)
def test_the_tokens_of_a_recorded_session_are_added_up(name: str) -> None:
    told = Told()
    dones = [json.loads(text)["response"]["usage"] for text in received(name) if b'"response.done"' in text]
    for text in received(name):
        told.hears_frame(text)
    usage = told.conversation.tally.usage
    assert usage.input_tokens == sum(each["input_tokens"] for each in dones) > 0
    assert usage.output_tokens == sum(each["output_tokens"] for each in dones) > 0
    made = [each["output_token_details"] for each in dones]
    assert usage.output_audio_tokens == sum(each.get("audio_tokens", 0) for each in made)
    given = [each["input_token_details"] for each in dones]
    assert usage.input_cached_tokens == sum(each["cached_tokens"] for each in given)
    assert told.conversation.tally.responses == len(dones)


# Nothing lost.


def test_every_typed_event_is_told_but_the_lines_own_beginning() -> None:
    silent = {kind for kind, fields in EVERY.items() if not Told().hears(kind, **fields)}
    assert set(EVERY) == wire.TYPED_EVENTS
    assert silent == {"session.created"}


ANSWER = {"response_id": "r", "item_id": "i"}
TRANSCRIPTION = "conversation.item.input_audio_transcription"
EVERY: dict[str, dict[str, Any]] = {
    "session.created": {"session": {"id": "s"}},
    "session.updated": {"session": {"type": "realtime"}},
    "error": {"error": {"message": "no"}},
    "conversation.item.done": {"item": {"id": "i"}},
    "conversation.item.deleted": {"item_id": "i"},
    "conversation.item.truncated": {"item_id": "i", "audio_end_ms": 1},
    f"{TRANSCRIPTION}.delta": {"item_id": "u", "delta": "a"},
    f"{TRANSCRIPTION}.completed": {"item_id": "u", "transcript": "a"},
    f"{TRANSCRIPTION}.failed": {"item_id": "u", "error": {"code": "c"}},
    "input_audio_buffer.committed": {"item_id": "u"},
    "input_audio_buffer.speech_started": {"item_id": "u", "audio_start_ms": 1},
    "input_audio_buffer.speech_stopped": {"item_id": "u", "audio_end_ms": 2},
    "response.created": {"response": {"id": "r"}},
    "response.done": {"response": {"id": "r", "status": "completed"}},
    "response.output_audio.delta": {**ANSWER, "delta": "AAA="},
    "response.output_text.delta": {**ANSWER, "delta": "a"},
    "response.output_audio_transcript.delta": {**ANSWER, "delta": "a"},
    "response.function_call_arguments.done": {**ANSWER, "call_id": "c", "arguments": "{}"},
    "rate_limits.updated": {"rate_limits": [{"name": "tokens", "limit": 9, "remaining": 8, "reset_seconds": 0.5}]},
}


def test_pieces_keep_their_ids_and_words() -> None:
    told = Told()
    assert told.hears("response.output_text.delta", **ANSWER, delta="a") == [out.TextDelta("a", "r", "i")]
    assert told.hears("response.output_audio_transcript.delta", **ANSWER, delta="b") == [
        out.TranscriptDelta("b", "r", "i")
    ]
    assert told.transcribed("delta", delta="c") == [out.UserTranscriptDelta("c", "u")]
    assert told.transcribed("delta") == [out.UserTranscriptDelta("", "u")]
    assert told.transcribed("completed", transcript="d") == [out.UserTranscript("d", "u")]


@pytest.mark.parametrize(
    ("error", "failure"), [({"code": "c", "type": "t"}, "c"), ({"type": "t"}, "t"), ({}, "failed")]
)
def test_a_transcript_that_failed_says_why(error: dict[str, str], failure: str) -> None:
    assert Told().transcribed("failed", error=error) == [out.UserTranscript("", "u", failure)]


def test_limits_of_the_account_are_told() -> None:
    (event,) = Told().hears("rate_limits.updated", **EVERY["rate_limits.updated"])
    assert event == out.RateLimits((out.RateLimit("tokens", 9, 8, 0.5),))


def test_a_configuration_in_force_is_told_as_it_was_written() -> None:
    (event,) = Told().hears_frame(b'{"type":"session.updated","session":{"b": 1.50}}')
    assert event == out.SessionUpdated('{"b": 1.50}')


def test_the_end_of_an_answer_says_how_and_why() -> None:
    told = Told()
    details = {"reason": "turn_detected", "error": {"code": "c", "message": "m"}}
    usage = {"input_tokens": 3, "output_tokens": 4, "output_token_details": {"audio_tokens": 2}}
    done = told.done(status="cancelled", status_details=details, usage=usage, metadata={"k": "v"})
    assert (done.status, done.status_reason, done.error_code) == ("cancelled", "turn_detected", "c")
    assert done.usage == out.Usage(input_tokens=3, output_tokens=4, output_audio_tokens=2)
    assert done.metadata == {"k": "v"}


# Audio.


def test_audio_is_positioned_in_samples_of_its_item() -> None:
    told = Told()
    told.created()
    assert [told.audio(480).position, told.audio(480).position, told.audio(2).position] == [0, 240, 480]
    assert told.audio(480, item_id="next").position == 0
    assert told.conversation.tally.audio_out_bytes == 480 * 3 + 2


def test_a_sample_of_g711_is_one_byte() -> None:
    told = Told(TurnTaking(output_format=PCMU))
    assert [told.audio(160).position, told.audio(160).position] == [0, 160]


def test_half_samples_add_up() -> None:
    told = Told()
    assert [told.audio(33).position, told.audio(33).position, told.audio(33).position] == [0, 16, 33]


def test_two_answers_do_not_mix_their_positions() -> None:
    told = Told()
    told.created("a")
    told.created("b")
    told.audio(4, "a", "ia")
    told.audio(8, "b", "ib")
    assert told.audio(4, "a", "ia").position == 2
    assert told.audio(4, "b", "ib").position == 4


# Timings.


def test_an_answer_is_timed_from_speech_and_from_its_creation() -> None:
    told = Told()
    told.speech("started")
    told.speech("stopped")
    told.now += 0.2
    told.committed()
    told.created()
    told.now += 0.3
    told.audio()
    told.now += 0.5
    told.audio()
    done = told.done()
    assert done.speech_stopped_to_first_audio_ms == 500
    assert done.created_to_first_audio_ms == 300
    assert done.created_to_done_ms == 800
    assert [(since, round(s, 3)) for since, s in told.conversation.first_audios] == [
        ("response_created", 0.3),
        ("speech_stopped", 0.5),
    ]


def test_an_answer_to_text_has_no_time_from_speech() -> None:
    told = Told()
    told.created()
    told.now += 0.25
    told.audio()
    done = told.done()
    assert (done.speech_stopped_to_first_audio_ms, done.created_to_first_audio_ms) == (0, 250)
    assert [since for since, _ in told.conversation.first_audios] == ["response_created"]


def test_an_answer_without_audio_has_no_first_audio() -> None:
    told = Told()
    told.created()
    told.now += 1
    done = told.done()
    assert (done.created_to_first_audio_ms, done.created_to_done_ms) == (0, 1000)
    assert told.conversation.first_audios == []


def test_the_end_of_speech_times_one_answer_only() -> None:
    told = Told()
    told.speech("stopped")
    told.created("a")
    told.audio(response_id="a")
    told.done("a")
    told.created("b")
    told.now += 3
    told.audio(response_id="b")
    assert told.done("b").speech_stopped_to_first_audio_ms == 0


def test_an_answer_that_was_never_created_has_no_times() -> None:
    done = Told().done("unknown")
    assert done.created_to_done_ms == 0


# Barge-in.


def test_speech_cuts_an_answer_that_is_being_spoken() -> None:
    told = Told()
    told.created()
    told.audio(480)
    events = told.speech("started")
    assert kinds(events) == [out.Interrupted, out.SpeechStarted]
    assert events[0] == out.Interrupted("r", "i", out.InterruptionCause.SPEECH, 240, had_tool_calls=False)
    assert events[1] == out.SpeechStarted("u", 40)


def test_speech_does_not_cut_an_answer_that_has_not_spoken() -> None:
    told = Told()
    told.created()
    assert kinds(told.speech("started")) == [out.SpeechStarted]


def test_speech_after_an_answer_cuts_nothing() -> None:
    told = Told()
    told.created()
    told.audio()
    told.done()
    assert kinds(told.speech("started")) == [out.SpeechStarted]


def test_speech_cuts_nothing_where_the_session_says_so() -> None:
    told = Told(TurnTaking(interrupt_response=False))
    told.created()
    told.audio()
    assert kinds(told.speech("started")) == [out.SpeechStarted]


def test_an_interruption_tells_whether_tools_were_called() -> None:
    told = Told()
    told.created()
    told.audio()
    told.hears("response.function_call_arguments.done", **ANSWER, call_id="c", arguments="{}", name="f")
    interrupted = told.speech("started")[0]
    assert isinstance(interrupted, out.Interrupted)
    assert interrupted.had_tool_calls


def test_a_tool_call_is_told_whole() -> None:
    call = {**ANSWER, "call_id": "c", "arguments": '{"a":1}', "name": "f"}
    assert Told().hears("response.function_call_arguments.done", **call) == [
        out.ToolCall("c", "f", '{"a":1}', "r", "i")
    ]


# What is due at `bye`: written turns.


def test_a_new_session_owes_nothing() -> None:
    assert not Told().due


def test_an_answer_that_was_asked_for_is_due_until_it_is_done() -> None:
    told = Told()
    told.says("response.create")
    assert told.due
    told.created()
    assert told.due
    told.done()
    assert not told.due


def test_each_answer_that_was_asked_for_is_due() -> None:
    told = Told()
    told.says("response.create")
    told.says("response.create")
    told.created("a")
    told.done("a")
    assert told.due
    told.created("b")
    told.done("b")
    assert not told.due


def test_a_refused_answer_is_not_due() -> None:
    told = Told()
    event_id = told.says("response.create")["event_id"]
    told.hears("error", error={"message": "no", "event_id": event_id})
    assert not told.due


def test_another_refusal_leaves_the_answer_due() -> None:
    told = Told()
    told.says("response.create")
    other = told.says("response.cancel")["event_id"]
    told.hears("error", error={"message": "nothing to cancel", "event_id": other})
    assert told.due


def test_a_written_item_alone_is_answered_by_nobody() -> None:
    told = Told()
    told.says("conversation.item.create", item={})
    assert not told.due


# What is due at `bye`: turns that the server ends.


def test_a_spoken_turn_is_due_until_it_was_answered() -> None:
    told = Told()
    told.conversation.audio_sent(480)
    told.speech("started")
    assert told.due
    told.speech("stopped")
    told.committed()
    assert told.due
    told.created()
    assert told.due
    told.done()
    assert not told.due


def test_a_turn_is_not_answered_where_the_session_says_so() -> None:
    told = Told(TurnTaking(create_response=False))
    told.speech("started")
    told.speech("stopped")
    told.committed()
    assert not told.due


def test_after_the_last_audio_silence_lets_the_server_end_the_turn() -> None:
    told = Told(TurnTaking(silence_ms=200))
    told.conversation.audio_sent(480)
    silence = told.conversation.input_ended(told.now)
    assert silence == bytes(PCM_24K.size_bytes(200 + 300))


@pytest.mark.parametrize(("fmt", "quiet"), [(PCMU, 0xFF), (PCMA, 0xD5)])
def test_silence_is_silent_in_g711(fmt: Any, quiet: int) -> None:
    told = Told(TurnTaking(input_format=fmt))
    told.conversation.audio_sent(480)
    assert set(told.conversation.input_ended(told.now)) == {quiet}


def test_unheard_audio_is_due_for_as_long_as_hearing_takes() -> None:
    told = Told()
    told.conversation.audio_sent(480)
    told.conversation.input_ended(told.now)
    told.now += HEARING_SECONDS - 0.01
    assert told.due
    told.now += 0.01
    assert not told.due


def test_speech_that_was_heard_is_due_beyond_the_hearing() -> None:
    told = Told()
    told.conversation.audio_sent(480)
    told.conversation.input_ended(told.now)
    told.speech("started")
    told.now += HEARING_SECONDS * 2
    assert told.due


def test_speech_that_goes_on_at_the_end_is_ended_by_silence() -> None:
    told = Told()
    told.conversation.audio_sent(480)
    told.speech("started")
    assert told.conversation.input_ended(told.now)


def test_nothing_is_heard_for_where_no_audio_was_sent() -> None:
    told = Told()
    assert told.conversation.input_ended(told.now) == b""
    assert not told.due


def test_audio_that_has_become_an_item_needs_no_hearing() -> None:
    told = Told()
    told.conversation.audio_sent(480)
    told.committed()
    assert told.conversation.input_ended(told.now) == b""


# What is due at `bye`: push to talk.


def test_push_to_talk_ends_its_own_turns() -> None:
    told = Told(PUSH_TO_TALK)
    told.conversation.audio_sent(480)
    assert told.conversation.input_ended(told.now) == b""
    assert not told.due


def test_a_pushed_turn_is_due_until_it_was_answered() -> None:
    told = Told(PUSH_TO_TALK)
    told.conversation.audio_sent(480)
    told.says("input_audio_buffer.commit")
    told.says("response.create")
    told.committed()
    assert told.due
    told.created()
    told.done()
    assert not told.due


def test_a_pushed_turn_that_nobody_asked_an_answer_for_is_not_due_after_its_commit() -> None:
    told = Told(PUSH_TO_TALK)
    told.says("input_audio_buffer.commit")
    told.committed()
    assert not told.due


def test_a_commit_is_due_until_the_server_has_taken_it() -> None:
    told = Told(TurnTaking(by_server=False, transcribes=True))
    told.conversation.audio_sent(480)
    told.says("input_audio_buffer.commit")
    assert told.due
    told.committed()
    assert told.due
    told.transcribed("completed", transcript="hello")
    assert not told.due


def test_a_refused_commit_is_not_due() -> None:
    told = Told(PUSH_TO_TALK)
    event_id = told.says("input_audio_buffer.commit")["event_id"]
    told.hears("error", error={"message": "buffer too small", "event_id": event_id})
    assert not told.due


def test_a_commit_by_the_caller_is_answered_only_on_request() -> None:
    """With turn detection on, too: the service answers the turns that it has ended itself."""
    told = Told()
    told.conversation.audio_sent(480)
    told.says("input_audio_buffer.commit")
    told.committed()
    assert not told.due


# What is due at `bye`: transcripts.


@pytest.mark.parametrize("how", ["completed", "failed"])
def test_a_late_transcript_is_due(how: str) -> None:
    told = Told(TRANSCRIBED)
    told.speech("started")
    told.speech("stopped")
    told.committed()
    told.created()
    told.done()
    assert told.due
    told.transcribed("delta", delta="hel")
    assert told.due
    told.transcribed(how, transcript="hello", error={})
    assert not told.due


def test_a_transcript_before_its_answer_leaves_the_answer_due() -> None:
    told = Told(TRANSCRIBED)
    told.committed()
    told.transcribed("completed", transcript="hello")
    assert told.due


def test_no_transcript_is_due_where_none_is_made() -> None:
    told = Told(TurnTaking(create_response=False))
    told.committed()
    assert not told.due


def test_each_turn_has_its_transcript() -> None:
    told = Told(TurnTaking(create_response=False, transcribes=True))
    told.committed("one")
    told.committed("two")
    told.transcribed("completed", "two", transcript="b")
    assert told.due
    told.transcribed("completed", "one", transcript="a")
    assert not told.due


# Stamps.


def test_a_refusal_finds_its_way_back_to_the_control_that_caused_it() -> None:
    told = Told()
    stamped = told.says("response.create", cseq=7)
    (event,) = told.hears("error", error={"message": "no", "code": "invalid_value", "event_id": stamped["event_id"]})
    assert event == out.ErrorEvent(
        Reason.INVALID_FRAME, "no", upstream_code="invalid_value", cseq=7, event_id=stamped["event_id"]
    )


def test_a_stamp_leaves_the_event_as_it_was() -> None:
    told = Told()
    event = {"type": "response.create", "response": {"metadata": {"a": "b"}}}
    stamped = told.conversation.stamp(event, 1)
    assert {**event, "event_id": stamped["event_id"]} == stamped
    assert "event_id" not in event


def test_no_two_stamps_are_alike() -> None:
    told = Told()
    ids = [told.says("response.create", cseq=cseq)["event_id"] for cseq in (0, 0, 1, 1, 2)]
    assert len(set(ids)) == 5


def test_the_callers_own_event_id_is_kept_and_told() -> None:
    told = Told()
    assert told.says("response.create", cseq=7, event_id="mine")["event_id"] == "mine"
    (event,) = told.hears("error", error={"message": "no", "event_id": "mine"})
    assert isinstance(event, out.ErrorEvent)
    assert event.client_event_id == "mine"


@pytest.mark.parametrize("event_id", ["tl-control-", "tl-control-x-1", "tl-control-²-1", "", None])
def test_an_event_id_that_is_nobodys_has_no_number(event_id: str | None) -> None:
    (event,) = Told().hears("error", error={"message": "no", "event_id": event_id})
    assert isinstance(event, out.ErrorEvent)
    assert event.cseq == 0


def test_a_refused_configuration_is_told_as_that() -> None:
    error = {
        "message": "no such voice",
        "code": "invalid_value",
        "param": "session.audio",
        "event_id": event_ids.CONFIG,
    }
    (event,) = Told().hears("error", error=error)
    assert isinstance(event, out.ConfigRejected)
    assert (event.param, event.error.upstream_code) == ("session.audio", "invalid_value")


def test_a_refusal_tells_nothing_of_the_account() -> None:
    (event,) = Told().hears("error", error={"message": "key sk-abcdefgh is no good", "code": "invalid_api_key"})
    assert isinstance(event, out.ErrorEvent)
    assert event.reason is Reason.UPSTREAM_REFUSED_KEY
    assert "abcdefgh" not in event.message


def test_turn_taking_follows_the_configuration_in_force() -> None:
    told = Told()
    session = {"audio": {"input": {"turn_detection": None}, "output": {"format": {"type": "audio/pcmu"}}}}
    told.hears("session.updated", session=session)
    told.committed()
    assert not told.due
    assert [told.audio(160).position, told.audio(160).position] == [0, 160]


# What a caller may send in raw form, and what a provider may get wrong.


def test_audio_in_raw_form_counts_like_audio() -> None:
    told = Told()
    told.says("input_audio_buffer.append", audio=base64.b64encode(bytes(480)).decode())
    assert told.conversation.tally.audio_in_bytes == 480
    assert told.conversation.input_ended(told.now), "it was not heard yet: silence must follow"


def test_audio_that_was_cleared_is_not_due() -> None:
    told = Told()
    told.conversation.audio_sent(480)
    told.speech("started")
    told.says("input_audio_buffer.clear")
    assert not told.due
    assert told.conversation.input_ended(told.now) == b""


def test_audio_behind_the_end_of_its_answer_is_told_and_makes_nothing_due() -> None:
    told = Told()
    told.created()
    told.audio(480)
    told.done()
    assert told.audio(480).position == 240
    assert not told.due
    assert out.Interrupted not in kinds(told.speech("started"))


@pytest.mark.parametrize("own", ["tl-config", "tl-control-1-1", "x" * 513, "", 5, None])
def test_an_id_that_cannot_be_a_callers_is_replaced(own: object) -> None:
    sent = Told().says("response.create", cseq=3, event_id=own)
    assert sent["event_id"] == "tl-control-3-1"


def test_two_requests_with_one_id_are_two() -> None:
    told = Told()
    assert told.says("response.create", event_id="mine")["event_id"] == "mine"
    assert told.says("response.create", event_id="mine")["event_id"] != "mine"
    told.created("a")
    told.done("a")
    assert told.due


def test_counts_that_a_contract_cannot_carry_are_none() -> None:
    told = Told()
    told.created()
    done = told.done(usage={"input_tokens": -1, "output_tokens": 2})
    assert (done.usage.input_tokens, done.usage.output_tokens) == (0, 2)
    (limits,) = told.hears("rate_limits.updated", rate_limits=[{"name": "tokens", "limit": 5, "remaining": -5}])
    assert isinstance(limits, out.RateLimits)
    assert limits.limits[0].remaining == 0


# What the gateway wants to know for itself.


def test_a_conversation_in_which_nothing_is_expected_is_not_busy() -> None:
    told = Told()
    told.hears("session.updated", session={})
    told.conversation.audio_sent(4800)
    assert not told.conversation.is_busy


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        ("asked", "done"),
        ("asked", "refused"),
        ("answer", "done"),
        ("speech", "committed"),
        ("speech", "cleared"),
        ("commit", "committed"),
        ("commit", "refused"),
    ],
)
def test_the_provider_should_be_heard_of_soon_while_something_is_in_progress(begins: str, ends: str) -> None:
    told = Told(TurnTaking(create_response=False))
    asked = ""
    match begins:
        case "asked":
            asked = told.says("response.create")["event_id"]
        case "answer":
            told.created()
        case "speech":
            told.speech("started")
            told.speech("stopped")
        case "commit":
            asked = told.says("input_audio_buffer.commit")["event_id"]
    assert told.conversation.is_busy
    match ends:
        case "done":
            told.created()
            told.done()
        case "refused":
            told.hears("error", error={"message": "no", "event_id": asked})
        case "committed":
            told.committed()
        case "cleared":
            told.says("input_audio_buffer.clear")
    assert not told.conversation.is_busy


def test_a_turn_that_will_be_answered_keeps_the_conversation_busy_until_it_is() -> None:
    told = Told()
    told.committed()
    assert told.conversation.is_busy
    told.created()
    told.done()
    assert not told.conversation.is_busy


def test_a_transcript_alone_or_the_hearing_of_the_last_audio_hurries_nobody() -> None:
    told = Told(TurnTaking(transcribes=True, create_response=False))
    told.committed()
    assert (told.due, told.conversation.is_busy) == (True, False)
    told.transcribed("completed", transcript="words")
    told.conversation.audio_sent(4800)
    told.conversation.input_ended(told.now)
    assert (told.due, told.conversation.is_busy) == (True, False)


def test_the_model_is_first_heard_once() -> None:
    told = Told()
    assert told.conversation.first_heard_at is None
    told.created()
    assert told.conversation.first_heard_at is None
    told.now += 1.0
    told.audio()
    first = told.now
    told.now += 1.0
    told.audio()
    told.done()
    told.created("r2")
    told.audio(response_id="r2")
    assert told.conversation.first_heard_at == first


def interrupting(**fields: Any) -> dict[str, Any]:
    return {"audio": {"input": {"turn_detection": {"type": "server_vad", **fields}}}}


@pytest.mark.parametrize(
    ("session", "says"),
    [
        (interrupting(interrupt_response=True), True),
        (interrupting(interrupt_response=False), True),
        (interrupting(threshold=0.6), False),
        ({"audio": {"input": {"turn_detection": None}}}, False),
        ({"audio": {"output": {"voice": "marin"}}}, False),
        ({"audio": "loud"}, False),
        ({"audio": {"input": "pcm16"}}, False),
        (None, False),
        ("loud", False),
    ],
)
def test_a_caller_that_says_whether_speech_interrupts_is_remembered(session: object, *, says: bool) -> None:
    told = Told()
    told.says("session.update", session=session)
    assert bool(told.conversation.interruption_set_by) is says
    told.says("session.update", session={"instructions": "y"})
    assert bool(told.conversation.interruption_set_by) is says


def test_what_a_caller_said_of_interruptions_is_forgotten_when_it_is_refused() -> None:
    told = Told()
    event = told.conversation.stamp({"type": "session.update", "session": interrupting(interrupt_response=True)}, 7)
    told.hears("error", error={"type": "invalid_request_error", "event_id": event["event_id"]})
    assert told.conversation.interruption_set_by == ""


def test_how_turns_end_is_what_the_provider_confirmed_last() -> None:
    conversation = Conversation(TurnTaking(), {"type": "server_vad"})
    assert conversation.detection == {"type": "server_vad"}
    told = Told()
    told.hears("session.updated", session=interrupting(threshold=0.6))
    assert told.conversation.detection == {"type": "server_vad", "threshold": 0.6}
    told.hears("session.updated", session={"audio": {"input": {"turn_detection": None}}})
    assert told.conversation.detection is None


def test_the_pace_of_speech_follows_the_format_in_force() -> None:
    told = Told()
    assert told.conversation.input_bytes_per_second == 48_000
    told.hears("session.updated", session={"audio": {"input": {"format": {"type": "audio/pcmu"}}}})
    assert told.conversation.input_bytes_per_second == 8_000
