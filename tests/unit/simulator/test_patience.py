"""How long the simulator waits: for the end of a thought, and for a caller who says nothing."""

from typing import Any

import pytest

from gateway.simulator import speech

from .stage import Stage, kinds

HELLO, NAME, WEATHER = speech.questions()[:3]
# Nobody knows this sentence, so nobody knows whether it is over.
HALF = WEATHER.pcm[: len(WEATHER.pcm) // 4 * 2]
SECOND = bytes(48_000)
MAX_MS = {"high": 2_000, "auto": 4_000, "medium": 4_000, "low": 8_000}


def semantic(stage: Stage, eagerness: str = "auto") -> None:
    stage.update(audio={"input": {"turn_detection": {"type": "semantic_vad", "eagerness": eagerness}}})


def stopped_ms(events: list[dict[str, Any]]) -> int:
    (stopped,) = [each for each in events if each["type"] == "input_audio_buffer.speech_stopped"]
    return int(stopped["audio_end_ms"])


@pytest.mark.parametrize("eagerness", MAX_MS)
def test_an_unfinished_sentence_is_waited_for_as_long_as_eagerness_allows(stage: Stage, eagerness: str) -> None:
    semantic(stage, eagerness)
    spoken_ms = 1_000 + len(HALF) // 48
    events = stage.append(SECOND + HALF + SECOND * 10)
    assert abs(stopped_ms(events) - spoken_ms - MAX_MS[eagerness]) <= 150


@pytest.mark.parametrize(("eagerness", "silence_ms"), [("high", 300), ("auto", 600), ("low", 1_000)])
def test_a_whole_sentence_is_answered_soon(stage: Stage, eagerness: str, silence_ms: int) -> None:
    semantic(stage, eagerness)
    events = stage.append(SECOND + WEATHER.pcm + SECOND * 2)
    assert abs(stopped_ms(events) - 1_000 - WEATHER.duration_ms - silence_ms) <= 150
    assert kinds(events)[-1] == "response.created"


def test_a_pause_in_the_middle_of_a_thought_does_not_end_the_turn(stage: Stage) -> None:
    semantic(stage)
    events = stage.append(SECOND + HALF + SECOND * 2 + HALF + SECOND * 5)
    assert kinds(events).count("input_audio_buffer.speech_started") == 1
    assert kinds(events).count("input_audio_buffer.committed") == 1


@pytest.mark.parametrize("piece", [320, 960, 4_801, 1_000_000])
def test_the_wait_does_not_depend_on_how_the_stream_is_cut(piece: int) -> None:
    whole, cut = Stage(), Stage()
    for stage in (whole, cut):
        semantic(stage)
    stream = SECOND + HALF + SECOND * 5
    assert stopped_ms(cut.append(stream, piece)) == stopped_ms(whole.append(stream))


def answered(stage: Stage, idle_timeout_ms: int = 5_000) -> None:
    """Set the time-out and answer once; the answer is over but not yet heard to its end."""
    detection = {"type": "server_vad", "idle_timeout_ms": idle_timeout_ms}
    stage.update(audio={"input": {"turn_detection": detection}})
    stage.say("Where is my order?")
    stage.take("response.create")
    while stage.sent[-1]["type"] != "response.done":
        stage.play(until_ms=stage.now + 10)
        stage.now += 10


def test_a_silent_caller_is_spoken_to(stage: Stage) -> None:
    answered(stage)
    done_ms, reply_ms = stage.now, next(r.duration_ms for r in speech.replies() if r.text.startswith("Your order"))
    stage.append(SECOND * 2)
    events = stage.play(until_ms=done_ms + 20_000)
    triggered = next(each for each in events if each["type"] == "input_audio_buffer.timeout_triggered")
    names = kinds(events)
    assert names[:5] == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert "response.done" in names
    assert {each["item_id"] for each in events[:2]} == {triggered["item_id"], events[2]["item"]["id"]}
    assert events[2]["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert (triggered["audio_start_ms"], triggered["audio_end_ms"]) == (2_000, 2_000)
    # Counted from when the answer has been heard, not from when it was sent.
    assert stage.now - done_ms >= 5_000 + reply_ms * 0.7


def test_the_silence_is_the_audio_written_meanwhile(stage: Stage) -> None:
    answered(stage)
    stage.play(until_ms=stage.now + 4_000)
    stage.append(SECOND * 3)
    events = stage.play(until_ms=stage.now + 20_000)
    triggered = next(each for each in events if each["type"] == "input_audio_buffer.timeout_triggered")
    assert (triggered["audio_start_ms"], triggered["audio_end_ms"]) == (0, 3_000)


@pytest.mark.parametrize("what", ["speaks", "turns it off", "push to talk"])
def test_nobody_is_spoken_to_who_does_something(stage: Stage, what: str) -> None:
    answered(stage)
    match what:
        case "speaks":
            stage.append(SECOND + HALF)
        case "turns it off":
            stage.update(audio={"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": None}}})
        case "push to talk":
            stage.update(audio={"input": {"turn_detection": None}})
    assert "input_audio_buffer.timeout_triggered" not in kinds(stage.play(until_ms=60_000))


def test_without_a_time_out_nobody_is_spoken_to(stage: Stage) -> None:
    stage.say("Where is my order?")
    stage.take("response.create")
    assert stage.play()[-1]["type"] == "response.done"


def test_an_answer_that_was_asked_for_starts_the_wait_anew() -> None:
    stage = Stage(speed=1)
    answered(stage)
    stage.say("Tell me about the history of the telephone.")
    stage.take("response.create")
    events = stage.play(until_ms=stage.now + 7_000)  # it takes longer to say than the wait is
    assert "response.output_audio.delta" in kinds(events)
    assert not {"response.done", "input_audio_buffer.timeout_triggered"} & set(kinds(events))
    assert "input_audio_buffer.timeout_triggered" in kinds(stage.play(until_ms=stage.now + 40_000))
