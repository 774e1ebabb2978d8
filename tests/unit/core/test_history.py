"""What a conversation consists of: what a fresh line is told of it, and what it cannot be told."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.core import events as out
from gateway.core.errors import Reason
from gateway.core.history import History
from gateway.core.item_book import HISTORY_MAX_BYTES
from gateway.core.replay import Replay

SESSION: Mapping[str, Any] = {"type": "realtime", "instructions": "Be brief.", "audio": {"output": {"voice": "cedar"}}}


def text(item_id: str, words: str, role: str = "user", event_id: str = "") -> dict[str, Any]:
    content = [{"type": "input_text", "text": words}]
    item = {"id": item_id, "type": "message", "role": role, "content": content}
    return {"type": "conversation.item.create", "event_id": event_id or f"e-{item_id}", "item": item}


def told(history: History, **spoken: str) -> list[tuple[str, str]]:
    """Return each item that a fresh line is told: its name, and its words or what stands for them."""
    return [(event["item"]["id"], words(event["item"])) for event in history.replay(spoken).items]


def words(item: Mapping[str, Any]) -> str:
    if item["type"] == "function_call":
        return f"{item['name']}({item['arguments']}) {item['call_id']}"
    if item["type"] == "function_call_output":
        return f"{item['call_id']} -> {item['output']}"
    (part,) = item["content"]
    return f"{item['role']}: {part.get('text') or part['audio']}"


def answer(history: History, number: int, *, text: str = "Foggy.", audio_ms: int = 1000) -> None:
    history.heard(out.ResponseCreated(f"r{number}", {}))
    history.heard(out.TranscriptDelta(text, f"r{number}", f"a{number}"))
    history.heard(out.ItemDone(f"a{number}", "message", "assistant", text, audio_ms=audio_ms))
    history.heard(done(f"r{number}"))


def done(response_id: str) -> out.ResponseDone:
    return out.ResponseDone(response_id, "completed", "", "", out.Usage(), 0, 0, 0, {})


def refusal(event_id: str) -> out.ErrorEvent:
    return out.ErrorEvent(Reason.INVALID_FRAME, "no", event_id=event_id)


def test_a_written_conversation_is_told_in_order_under_the_same_names() -> None:
    history = History(SESSION)
    history.sent(text("u1", "Weather?"))
    history.heard(out.ItemDone("u1", "message", "user", "Weather?"))
    history.sent({"type": "response.create", "event_id": "c1"})
    answer(history, 1)
    history.sent(text("s1", "The user is in London.", "system"))
    assert told(history) == [
        ("u1", "user: Weather?"),
        ("a1", "assistant: Foggy."),
        ("s1", "system: The user is in London."),
    ]
    assert history.replay({}) == Replay(
        SESSION, history.replay({}).items, requests=(), unrestored=(), unconfirmed=frozenset({"s1"})
    )


def test_what_was_said_before_the_session_comes_first() -> None:
    history = History(SESSION)
    for number in range(3):
        history.sent(text(f"h{number}", str(number)))
    history.heard(out.InputCommitted("u"))
    assert [name for name, _ in told(history)] == ["h0", "h1", "h2"]


def test_a_function_call_is_told_with_its_result_and_never_made_again() -> None:
    history = History(SESSION)
    history.sent({"type": "response.create", "event_id": "c1"})
    history.heard(out.ResponseCreated("r1", {}))
    history.heard(out.ToolCall("call_1", "weather", '{"city": "London"}', "r1", "f1"))
    history.line_lost()
    assert history.replay({}).requests == (), "it has called a function already"
    result = {"id": "o1", "type": "function_call_output", "call_id": "call_1", "output": "Foggy"}
    history.sent({"type": "conversation.item.create", "event_id": "e", "item": result})
    assert told(history) == [("f1", 'weather({"city": "London"}) call_1'), ("o1", "call_1 -> Foggy")]


def test_a_result_is_known_from_a_log_as_well() -> None:
    history = History(SESSION)
    history.heard(out.ItemDone("f1", "function_call", "", "", "call_1", "weather"))
    history.heard(out.ToolCall("call_1", "weather", "{}", "r1", "f1"))
    history.heard(out.ItemDone("o1", "function_call_output", "", "Foggy", "call_1"))
    assert told(history) == [("f1", "weather({}) call_1"), ("o1", "call_1 -> Foggy")]


# Spoken turns.


def test_a_spoken_turn_is_told_in_its_words_and_stands_where_it_was_spoken() -> None:
    history = History(SESSION)
    history.heard(out.InputCommitted("u1"))
    history.heard(out.ItemDone("u1", "message", "user", ""))
    answer(history, 1)
    history.heard(out.UserTranscript("Weather?", "u1"))
    assert told(history) == [("u1", "user: Weather?"), ("a1", "assistant: Foggy.")]


def test_a_spoken_turn_without_words_is_told_as_audio_where_that_is_kept_and_named_where_it_is_not() -> None:
    history = History(SESSION)
    history.heard(out.InputCommitted("u1"))
    history.heard(out.UserTranscript("", "u1", "audio_unintelligible"))
    assert told(history, u1="AAAA") == [("u1", "user: AAAA")]
    assert told(history) == []
    assert history.replay({}).unrestored == ("u1",)


def test_who_wants_no_turn_kept_has_all_of_them_named() -> None:
    history = History(SESSION, user_turns="none")
    history.heard(out.InputCommitted("u1"))
    history.heard(out.UserTranscript("Weather?", "u1"))
    assert (told(history), history.replay({}).unrestored) == ([], ("u1",))


# What is owed.


@pytest.mark.parametrize("begun", [False, True])
def test_an_answer_that_had_not_begun_is_asked_for_again(begun: bool) -> None:  # noqa: FBT001
    history = History(SESSION)
    request = {"type": "response.create", "event_id": "c1", "response": {"instructions": "Sing."}}
    history.sent(request)
    if begun:
        history.heard(out.ResponseCreated("r1", {}))
    history.line_lost()
    assert history.replay({}).requests == (request,)
    history.replayed()
    assert history.replay({}).requests == ()


def test_the_answer_to_a_turn_that_the_provider_ended_is_asked_for() -> None:
    history = History(SESSION)
    history.heard(out.InputCommitted("u1"))
    history.line_lost()
    assert history.replay({}).requests == ({"type": "response.create"},)


@pytest.mark.parametrize(
    "detection", [None, {"type": "server_vad", "create_response": False}], ids=["by the caller", "without an answer"]
)
def test_a_turn_that_nobody_was_to_answer_is_not_answered(detection: Mapping[str, Any] | None) -> None:
    history = History({**SESSION, "audio": {"input": {"turn_detection": detection}}})
    history.sent({"type": "input_audio_buffer.commit", "event_id": "m"})
    history.heard(out.InputCommitted("u1"))
    history.line_lost()
    assert history.replay({}).requests == ()


def test_an_answer_that_was_heard_is_cut_there_and_not_asked_for_again() -> None:
    history = History(SESSION)
    history.sent({"type": "response.create", "event_id": "c1"})
    history.heard(out.ResponseCreated("r1", {}))
    history.heard(out.TranscriptDelta("It is foggy ", "r1", "a1"))
    history.heard(out.TranscriptDelta("in London", "r1", "a1"))
    history.interrupted("r1", "a1", 700, 700)
    history.line_lost()
    assert told(history) == [("a1", "assistant: It is foggy in London")]
    assert history.replay({}).requests == ()


def test_what_was_asked_and_answered_is_not_asked_again() -> None:
    history = History(SESSION)
    history.sent({"type": "input_audio_buffer.commit", "event_id": "m"})
    history.heard(out.InputCommitted("u1"))
    history.sent({"type": "response.create", "event_id": "c1"})
    answer(history, 1)
    history.line_lost()
    replay = history.replay({})
    assert replay.requests == ()


def test_an_answer_that_its_line_had_not_given_is_owed_still_where_a_log_says_so() -> None:
    history = History(SESSION)
    history.sent({"type": "response.create", "event_id": "c1"})
    history.heard(out.ResponseDone("r1", "cancelled", "asked_again", "", out.Usage(), 0, 0, 0, {}))
    assert [event["event_id"] for event in history.replay({}).requests] == ["c1"]
    history.heard(done("r2"))
    assert history.replay({}).requests == ()


def test_a_log_that_does_not_tell_of_beginnings_owes_no_answer_that_has_ended() -> None:
    history = History(SESSION)
    history.heard(out.InputCommitted("u1"))
    history.heard(done("r1"))
    assert history.replay({}).requests == ()


# Changes.


def test_a_changed_configuration_is_told_once_it_is_confirmed_or_the_line_lost() -> None:
    history = History(SESSION)
    patch = {"audio": {"output": {"voice": "marin"}}, "instructions": None}
    history.sent({"type": "session.update", "event_id": "e1", "session": patch})
    assert history.configuration == SESSION
    history.heard(out.SessionUpdated("{}"))
    assert history.configuration["audio"]["output"]["voice"] == "marin"
    assert history.configuration["instructions"] is None, "absent, it would stay what the template says"
    history.sent({"type": "session.update", "event_id": "e2", "session": {"instructions": "Sing."}})
    assert history.replay({}).configuration["instructions"] == "Sing."


def test_what_the_provider_refuses_has_not_happened() -> None:
    history = History(SESSION)
    history.sent({"type": "session.update", "event_id": "e1", "session": {"instructions": "Sing."}})
    history.sent(text("u1", "hello", event_id="e2"))
    history.sent({"type": "response.create", "event_id": "e3"})
    for event_id in ("e1", "e2", "e3"):
        history.heard(refusal(event_id))
    replay = history.replay({})
    assert (replay.configuration, replay.items, replay.requests) == (SESSION, (), ())


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_deleted_item_is_not_told(confirmed: bool) -> None:  # noqa: FBT001
    history = History(SESSION)
    history.sent(text("u1", "My card is 4111"))
    history.sent(text("u2", "Thanks"))
    history.sent({"type": "conversation.item.delete", "event_id": "e", "item_id": "u1"})
    if confirmed:
        history.heard(out.ItemDeleted("u1"))
    assert told(history) == [("u2", "user: Thanks")]
    assert history.replay({}).unrestored == ()


@pytest.mark.parametrize("confirmed", [True, False])
def test_an_answer_that_was_truncated_is_told_as_far_as_it_was_heard(confirmed: bool) -> None:  # noqa: FBT001
    history = History(SESSION)
    answer(history, 1, text="It is foggy in London today", audio_ms=2700)
    history.sent({"type": "conversation.item.truncate", "event_id": "e", "item_id": "a1", "audio_end_ms": 1300})
    if confirmed:
        history.heard(out.ItemTruncated("a1", 1300))
    assert told(history) == [("a1", "assistant: It is foggy")]
    assert told(history) == [("a1", "assistant: It is foggy")]


def test_an_answer_that_was_heard_to_its_end_keeps_its_words() -> None:
    history = History(SESSION)
    answer(history, 1, audio_ms=1000)
    history.heard(out.ItemTruncated("a1", 1000))
    assert told(history) == [("a1", "assistant: Foggy.")]


def test_the_oldest_items_make_room_and_are_named() -> None:
    history = History(SESSION)
    for number in range(12):
        history.sent(text(f"u{number}", "x" * (HISTORY_MAX_BYTES // 10)))
    names = [name for name, _ in told(history)]
    replay = history.replay({})
    assert names == [f"u{number}" for number in range(3, 12)]
    assert replay.unrestored == ("u0", "u1", "u2")


def test_what_the_caller_was_not_told_of_is_known() -> None:
    history = History(SESSION)
    history.sent(text("u1", "Weather?"))
    answer(history, 1)
    history.heard(out.ResponseCreated("r2", {}))
    history.heard(out.TranscriptDelta("It is", "r2", "a2"))
    history.interrupted("r2", "a2", 300, 300)
    history.line_lost()
    assert history.replay({}).unconfirmed == {"u1", "a2"}


def test_what_could_not_be_restored_is_named_once() -> None:
    history = History(SESSION)
    history.heard(out.InputCommitted("u1"))
    unrestored = history.replay({}).unrestored
    assert unrestored == ("u1",)
    history.named(unrestored)
    assert history.replay({}).unrestored == ()


def test_requests_that_nothing_comes_of_are_bounded() -> None:
    history = History(SESSION)
    for number in range(1000):
        history.sent({"type": "response.create", "event_id": f"r{number}"})
        history.sent({"type": "session.update", "event_id": f"s{number}", "session": {"instructions": f"{number}"}})
        history.sent({"type": "conversation.item.delete", "event_id": f"d{number}", "item_id": "u"})
    replay = history.replay({})
    assert [event["event_id"] for event in replay.requests] == [f"r{number}" for number in range(968, 1000)]
    assert replay.configuration["instructions"] == "999"


def test_an_answer_beside_the_conversation_is_no_part_of_it() -> None:
    history = History(SESSION)
    history.sent({"type": "response.create", "event_id": "c1", "response": {"conversation": "none"}})
    history.heard(out.ResponseCreated("r1", {}))
    history.heard(out.TextDelta("angry", "r1", "x1"))
    history.heard(out.ToolCall("call_1", "classify", "{}", "r1", "x2"))
    history.line_lost()
    replay = history.replay({})
    assert (replay.items, replay.requests, replay.unrestored) == ((), (), ())


def test_an_item_stands_where_its_caller_has_put_it() -> None:
    history = History(SESSION)
    for number in range(3):
        history.sent(text(f"u{number}", str(number)))
    history.sent({**text("between", "b"), "previous_item_id": "u0"})
    history.sent({**text("first", "f"), "previous_item_id": "root"})
    history.sent({**text("last", "l"), "previous_item_id": "nobody"})
    assert [name for name, _ in told(history)] == ["first", "u0", "between", "u1", "u2", "last"]


def test_of_an_answer_that_was_cut_as_much_is_said_as_went_out() -> None:
    history = History(SESSION)
    history.sent({"type": "response.create", "event_id": "c1"})
    history.heard(out.ResponseCreated("r1", {}))
    history.heard(out.TranscriptDelta("It is foggy in London today", "r1", "a1"))
    history.interrupted("r1", "a1", 1300, 2700)
    history.line_lost()
    assert told(history) == [("a1", "assistant: It is foggy")]
    assert history.replay({}).requests == ()


def test_an_answer_of_which_nothing_went_out_is_asked_for_again_and_its_words_are_not_said() -> None:
    history = History(SESSION)
    history.sent({"type": "response.create", "event_id": "c1"})
    history.heard(out.ResponseCreated("r1", {}))
    history.heard(out.TranscriptDelta("It is foggy", "r1", "a1"))
    history.interrupted("r1", "a1", 0, 500)
    history.line_lost()
    assert told(history) == []
    assert [event["event_id"] for event in history.replay({}).requests] == ["c1"]


def test_an_answer_that_was_heard_before_its_words_came_is_named_and_not_asked_for_again() -> None:
    history = History(SESSION)
    history.sent({"type": "response.create", "event_id": "c1"})
    history.heard(out.ResponseCreated("r1", {}))
    history.interrupted("r1", "a1", 500, 500)
    history.line_lost()
    replay = history.replay({})
    assert (replay.items, replay.requests, replay.unrestored) == ((), (), ("a1",))


def test_an_answer_beside_another_one_takes_nothing_from_it() -> None:
    history = History(SESSION)
    history.heard(out.ResponseCreated("r1", {}))
    history.heard(out.TranscriptDelta("It is foggy", "r1", "a1"))
    history.sent({"type": "response.create", "event_id": "o", "response": {"conversation": "none"}})
    history.heard(out.ResponseCreated("r2", {}))
    history.heard(out.TranscriptDelta("angry", "r2", "x"))
    history.interrupted("r2", "x", 500, 500)
    history.heard(done("r2"))
    history.interrupted("r1", "a1", 500, 500)
    history.line_lost()
    assert told(history) == [("a1", "assistant: It is foggy")]


def test_a_second_item_of_a_name_is_refused_and_the_first_one_stays() -> None:
    history = History(SESSION)
    history.sent(text("u1", "first"))
    history.sent(text("u1", "second", event_id="e2"))
    history.heard(refusal("e2"))
    assert told(history) == [("u1", "user: first")]


def test_a_configuration_of_our_own_confirms_none_of_the_callers() -> None:
    history = History(SESSION)
    history.configures("tl-config")
    history.sent({"type": "session.update", "event_id": "e1", "session": {"instructions": "Sing."}})
    history.heard(out.SessionUpdated("{}"))
    history.heard(refusal("e1"))
    assert history.replay({}).configuration == SESSION


@pytest.mark.parametrize("named", [True, False])
def test_an_answer_that_was_cancelled_is_not_asked_for_again(named: bool) -> None:  # noqa: FBT001
    history = History(SESSION)
    history.sent({"type": "response.create", "event_id": "c1"})
    history.heard(out.ResponseCreated("r1", {}))
    if not named:
        history.sent({"type": "response.create", "event_id": "c2"})
        history.heard(out.InputCommitted("u1"))
    history.sent({"type": "response.cancel", "event_id": "x", **({"response_id": "r1"} if named else {})})
    history.line_lost()
    assert history.replay({}).requests == ()


def test_what_was_asked_of_the_lost_line_and_is_done_by_the_next_is_told() -> None:
    history = History(SESSION)
    history.sent(text("u1", "x"))
    answer(history, 1, text="It is foggy in London", audio_ms=2000)
    history.sent({"type": "conversation.item.delete", "event_id": "d", "item_id": "u1"})
    history.sent({"type": "conversation.item.truncate", "event_id": "t", "item_id": "a1", "audio_end_ms": 700})
    history.sent({"type": "session.update", "event_id": "s", "session": {"instructions": "Sing."}})
    replay = history.replay({})
    assert replay.confirmed == (out.ItemDeleted("u1"), out.ItemTruncated("a1", 700))
    assert replay.updates
    assert (history.replay({}).confirmed, history.replay({}).updates) == ((), False)
