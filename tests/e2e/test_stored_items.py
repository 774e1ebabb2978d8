"""What is kept of a conversation: spoken words, function calls, and what was given before it."""

import json
from typing import Final

from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session

from gateway.simulator import speech
from tests.support.store_calls import WITH_TOOL
from tests.support.stored import TEXT, ends, keeping, text_turn

SPOKEN: Final = speech.questions()[0]


async def test_a_spoken_turn_is_shown_with_its_transcript() -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open()).session_id
        await caller.speak(SPOKEN.pcm)
        await caller.speak(bytes(48_000 * 2))
        await caller.until("response_done")
        while not any(each.final for each in caller.all("user_transcript")):
            assert await caller.read() is not None
        found = await here.get(name)
        user, model = found.items
        assert (user.role, user.text) == (control.ROLE_USER, SPOKEN.text)
        assert model.role == control.ROLE_ASSISTANT
        assert model.text == [each.text for each in caller.all("item_done") if each.role == "assistant"][-1] != ""
        assert user.item_id == next(each.item_id for each in caller.all("user_transcript") if each.final)
        await ends(caller)
        assert [each.text for each in (await here.get(name)).items] == [user.text, model.text]


async def test_a_function_call_is_shown_with_its_name_and_its_result_with_the_call() -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open(overrides=WITH_TOOL)).session_id
        await caller.say("What is the weather in London?")
        await caller.answer_please()
        called = await caller.until("tool_call")
        await caller.until("response_done")
        await caller.ask(tool_result=control.ToolResult(call_id=called.call_id, output="Foggy", create_response=True))
        await caller.until("response_done")
        found = await here.get(name)
        assert [each.type for each in found.items] == ["message", "function_call", "function_call_output", "message"]
        call, result = found.items[1:3]
        assert (call.call_id, call.name) == (called.call_id, "get_weather")
        assert result.type == "function_call_output"


async def test_history_that_was_given_at_the_opening_is_shown_first() -> None:
    async with keeping() as here:
        caller = here.caller()
        history = [
            session.HistoryItem(text="My name is Ada.", role=control.ROLE_USER),
            session.HistoryItem(text="Hello, Ada.", role=control.ROLE_ASSISTANT),
        ]
        name = (await caller.open(overrides=TEXT, history=history)).session_id
        answer = await text_turn(caller, "Go on")
        found = await here.get(name)
        assert [each.text for each in found.items] == ["My name is Ada.", "Hello, Ada.", "Go on", answer]


async def test_the_result_of_a_function_call_is_shown_with_its_call() -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open(overrides=WITH_TOOL)).session_id
        await caller.say("What is the weather in London?")
        await caller.answer_please()
        called = await caller.until("tool_call")
        await caller.until("response_done")
        await caller.ask(tool_result=control.ToolResult(call_id=called.call_id, output="Foggy", create_response=True))
        await caller.until("response_done")
        found = await here.get(name)
        assert found.items[2].call_id == called.call_id


async def test_an_item_that_its_caller_has_deleted_is_shown_no_more() -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open(overrides=TEXT)).session_id
        await caller.say("My card number is 4111", item_id="item_secret")
        answer = await text_turn(caller, "Thank you")
        delete = json.dumps({"type": "conversation.item.delete", "item_id": "item_secret"})
        await caller.ask(raw=control.RawEvent(json=delete))
        await text_turn(caller, "Goodbye")
        found = await here.get(name)
        assert "4111" not in " ".join(each.text for each in found.items)
        assert answer in [each.text for each in found.items]
