"""What of a conversation outlives its line, and what a fresh one is sent."""

import base64
from typing import Any

from gateway.core import events as out
from gateway.core.audio import PCM_24K
from gateway.core.continuity import Continuity
from gateway.core.errors import Reason

SECOND = PCM_24K.bytes_per_second
SESSION: dict[str, Any] = {"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}


def numbered(count: int, begin: int = 0) -> bytes:
    return b"".join((at % 65_536).to_bytes(2, "little") for at in range(begin, begin + count))


def speech(continuity: Continuity, start_ms: int, end_ms: int, item_id: str = "u1") -> list[out.SessionEvent]:
    events: list[out.SessionEvent] = [
        out.SpeechStarted(item_id, start_ms),
        out.SpeechStopped(item_id, end_ms),
        out.InputCommitted(item_id),
    ]
    return [continuity.heard(event) for event in events]


def sent(continuity: Continuity) -> list[tuple[str, Any]]:
    """What a fresh line is sent: each event's type, and its audio or item."""
    return [(event["type"].rpartition(".")[2], content(event)) for event in continuity.replay()[1]]


def content(event: Any) -> Any:
    if "audio" in event:
        return base64.b64decode(event["audio"])
    return event["item"]["content"][0] if "item" in event else None


def test_a_turn_that_had_begun_is_heard_again_from_its_first_sample_on() -> None:
    continuity = Continuity(SESSION)
    continuity.audio(numbered(48_000))
    continuity.heard(out.SpeechStarted("u1", 1500))
    continuity.audio(numbered(12_000, 48_000))
    continuity.line_lost()
    heard = sent(continuity)
    assert [kind for kind, _ in heard] == ["append"]
    assert heard[0][1] == numbered(24_000, 36_000)


def test_audio_that_a_turn_has_taken_is_not_heard_again() -> None:
    continuity = Continuity(SESSION)
    continuity.audio(numbered(72_000))
    speech(continuity, 500, 2000)
    continuity.heard(out.UserTranscript("Weather?", "u1"))
    continuity.heard(out.ResponseDone("r", "completed", "", "", out.Usage(), 0, 0, 0, {}))
    continuity.line_lost()
    assert sent(continuity) == [
        ("create", {"type": "input_text", "text": "Weather?"}),
        ("append", numbered(24_000, 48_000)),
    ]


def test_a_turn_whose_words_have_not_come_is_told_as_audio_and_answered() -> None:
    continuity = Continuity(SESSION)
    continuity.audio(numbered(72_000))
    speech(continuity, 500, 2000)
    continuity.line_lost()
    heard = sent(continuity)
    assert [kind for kind, _ in heard] == ["create", "append", "create"]
    assert heard[0][1]["type"] == "input_audio"
    assert base64.b64decode(heard[0][1]["audio"]) == numbered(36_000, 12_000)
    assert continuity.replay()[0].unrestored == ()


def test_times_count_from_the_beginning_of_the_session_on_every_line() -> None:
    continuity = Continuity(SESSION)
    continuity.audio(numbered(72_000))
    speech(continuity, 500, 2000)
    continuity.line_lost()
    continuity.replay()  # it hears again from 2,000 ms on
    continuity.audio(numbered(24_000, 72_000))
    started, stopped, _ = speech(continuity, 250, 1750, "u2")
    assert isinstance(started, out.SpeechStarted)
    assert isinstance(stopped, out.SpeechStopped)
    assert (started.audio_start_ms, stopped.audio_end_ms) == (2250, 3750)
    spoken = continuity.replay()[1]
    assert base64.b64decode(spoken[1]["item"]["content"][0]["audio"]) == numbered(36_000, 54_000)


def test_a_commit_of_the_callers_own_takes_what_came_before_it() -> None:
    continuity = Continuity({**SESSION, "audio": {"input": {"turn_detection": None}}})
    continuity.audio(numbered(1000))
    continuity.sent({"type": "input_audio_buffer.commit", "event_id": "m"})
    continuity.audio(numbered(500, 1000))
    continuity.heard(out.InputCommitted("u1"))
    continuity.line_lost()
    heard = sent(continuity)
    assert base64.b64decode(heard[0][1]["audio"]) == numbered(1000)
    assert heard[1] == ("append", numbered(500, 1000))


def test_a_commit_that_was_refused_takes_nothing() -> None:
    continuity = Continuity({**SESSION, "audio": {"input": {"turn_detection": None}}})
    continuity.sent({"type": "input_audio_buffer.commit", "event_id": "m1"})
    continuity.heard(out.ErrorEvent(Reason.INVALID_FRAME, "the buffer is empty", event_id="m1"))
    continuity.audio(numbered(1000))
    continuity.sent({"type": "input_audio_buffer.commit", "event_id": "m2"})
    continuity.heard(out.InputCommitted("u1"))
    heard = sent(continuity)
    assert base64.b64decode(heard[0][1]["audio"]) == numbered(1000)


def test_turns_that_were_ended_without_a_line_end_again_where_the_caller_ended_them() -> None:
    manual = {**SESSION, "audio": {"input": {"turn_detection": None}}}
    continuity = Continuity(manual)
    pieces = [numbered(2400 * size, 2400 * at) for size, at in ((3, 0), (2, 3), (1, 5))]
    for number, piece in enumerate(pieces[:2]):
        continuity.audio(piece)
        continuity.sent({"type": "input_audio_buffer.commit", "event_id": f"m{number}"})
    continuity.audio(pieces[2])
    continuity.line_lost()
    whole = [("append", pieces[0]), ("commit", None), ("append", pieces[1]), ("commit", None), ("append", pieces[2])]
    assert sent(continuity) == whole
    for number in range(2):  # as they go up again, with names of their own
        continuity.sent({"type": "input_audio_buffer.commit", "event_id": f"again{number}"})
    continuity.line_lost()
    assert sent(continuity) == whole, "a second line in a row is told the same"
    for number in range(2):
        continuity.sent({"type": "input_audio_buffer.commit", "event_id": f"third{number}"})
    continuity.heard(out.InputCommitted("u1"))
    continuity.line_lost()
    kept = [event for event in sent(continuity) if event[0] != "create"]
    assert kept == whole[2:], "the first turn is an item now"


def test_a_commit_that_was_not_answered_is_made_again_behind_its_audio() -> None:
    continuity = Continuity({**SESSION, "audio": {"input": {"turn_detection": None}}})
    continuity.audio(numbered(1000))
    continuity.sent({"type": "input_audio_buffer.commit", "event_id": "m"})
    continuity.sent({"type": "response.create", "event_id": "c"})
    continuity.line_lost()
    assert [kind for kind, _ in sent(continuity)] == ["append", "commit", "create"]


def test_audio_that_came_as_a_raw_event_counts_as_any_other() -> None:
    continuity = Continuity(SESSION)
    audio = base64.b64encode(numbered(1000)).decode()
    continuity.sent({"type": "input_audio_buffer.append", "audio": audio})
    continuity.sent({"type": "input_audio_buffer.append", "audio": "no base64"})
    continuity.sent({"type": "input_audio_buffer.append", "audio": 5})
    assert sent(continuity) == [("append", numbered(1000))]
    continuity.sent({"type": "input_audio_buffer.clear"})
    assert sent(continuity) == []


def test_long_audio_is_heard_again_in_pieces() -> None:
    continuity = Continuity(SESSION)
    continuity.audio(numbered(1))
    continuity.heard(out.SpeechStarted("u1", 0))
    continuity.audio(numbered(240_000))
    pieces = [audio for _, audio in sent(continuity)]
    assert max(map(len, pieces)) == SECOND
    assert b"".join(pieces) == numbered(1) + numbered(240_000)


def test_an_item_without_a_name_gets_one() -> None:
    continuity = Continuity(SESSION)
    create = {"type": "conversation.item.create", "item": {"type": "message"}}
    names = [continuity.named(create)["item"]["id"] for _ in range(3)]
    assert len(set(names)) == 3
    assert all(len(name) <= 32 for name in names)
    named = {"type": "conversation.item.create", "item": {"id": "mine"}}
    assert continuity.named(named) is named
    for other in ({"type": "response.create"}, {"type": "conversation.item.create", "item": 5}):
        assert continuity.named(other) is other
