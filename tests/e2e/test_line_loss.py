"""A conversation goes on when its line is lost, over real sockets: what was said is known, nothing is said twice."""

import asyncio
import json
import time
from typing import Any, Final

import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import types_pb2 as types

from gateway.simulator import Simulator, speech
from tests.support.calls import AUDIO_CHUNK_BYTES, Caller
from tests.support.slots import figures
from tests.support.stack import pool, stack
from tests.support.store_calls import WITH_TOOL

TEXT: Final = control.SessionOverrides(output_modality=control.OUTPUT_MODALITY_TEXT)
POOLS: Final = {"default": pool(floor=4, ceiling=16, demand={"enabled": False})}
SPOKEN: Final = speech.questions()[0]


async def line_is_replaced(caller: Caller) -> event.StateChanged:
    changed = await caller.until("state_changed")
    assert (changed.state, changed.cause) == (types.SESSION_STATE_RECOVERING, "line_lost")
    changed = await caller.until("state_changed")
    assert (changed.state, changed.cause) == (types.SESSION_STATE_ACTIVE, "line_replaced")
    found: event.StateChanged = changed
    return found


def cut(provider: Simulator, upstream_session_id: str) -> None:
    """Cut one line, and no other."""
    (line,) = (each for each in provider._open if each.describe()["session_id"] == upstream_session_id)
    line.close(1006, "")


async def retrieved(caller: Caller, item_id: str) -> dict[str, Any]:
    """Ask the line itself what it knows of an item."""
    await caller.ask(raw=control.RawEvent(json=json.dumps({"type": "conversation.item.retrieve", "item_id": item_id})))
    while True:
        found: dict[str, Any] = json.loads((await caller.until("raw")).json)
        if found["type"] == "conversation.item.retrieved":
            assert found["item"]["id"] == item_id
            item: dict[str, Any] = found["item"]
            return item


def words(item: dict[str, Any]) -> str:
    return "".join(part.get("text") or part.get("transcript") or "" for part in item.get("content", ()))


async def turn(caller: Caller, question: str) -> str:
    await caller.say(question)
    await caller.answer_please()
    await caller.until("response_done")
    answer: str = [each.text for each in caller.all("item_done") if each.role == "assistant"][-1]
    return answer


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 1013])
async def test_what_was_said_is_known_to_the_fresh_line(code: int) -> None:
    async with stack(pools=POOLS) as (running, provider):
        await running.until_warm(4)
        caller = running.caller()
        await caller.open(overrides=TEXT)
        first = await turn(caller, "My name is Marcelo.")
        names = [each.item_id for each in caller.all("item_done")]
        provider.close_open(code)
        changed = await line_is_replaced(caller)
        assert list(changed.unrestored_items) == []
        items = [await retrieved(caller, name) for name in names]
        assert [(each["role"], words(each)) for each in items] == [
            ("user", "My name is Marcelo."),
            ("assistant", first),
        ]
        assert "Marcelo" in await turn(caller, "What is my name?")
        numbers = [each.seq for each in caller.seen if each.seq]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len({each.item_id for each in caller.all("item_done")}) == len(caller.all("item_done")) == 4


async def test_a_function_that_was_called_is_not_called_again_and_its_result_is_taken() -> None:
    async with stack(pools=POOLS) as (running, provider):
        await running.until_warm(4)
        caller = running.caller()
        await caller.open(overrides=WITH_TOOL)
        await caller.say("What is the weather in London?")
        await caller.answer_please()
        called = await caller.until("tool_call")
        await caller.until("response_done")
        provider.close_open(1006)
        await line_is_replaced(caller)
        await caller.ask(tool_result=control.ToolResult(call_id=called.call_id, output="Foggy", create_response=True))
        await caller.until("response_done")
        assert len(caller.all("tool_call")) == 1
        assert "Foggy" in [each.text for each in caller.all("item_done") if each.role == "assistant"][-1]


async def spoken(caller: Caller, provider: Simulator, *, cut_at_ratio: float | None) -> tuple[str, int]:
    """Say something at the pace of speech; return what was understood, and when it ended."""
    opened = await caller.open()
    pcm, now = SPOKEN.pcm + bytes(48_000 * 2), time.monotonic
    began, at_byte = now(), None if cut_at_ratio is None else int(len(SPOKEN.pcm) * cut_at_ratio)
    for at in range(0, len(pcm), AUDIO_CHUNK_BYTES):
        if at_byte is not None and at <= at_byte < at + AUDIO_CHUNK_BYTES:
            cut(provider, opened.upstream_session_id)
        await caller.send(audio=pcm[at : at + AUDIO_CHUNK_BYTES])
        await asyncio.sleep(began + at / 48_000 - now())
    while not any(each.final for each in caller.all("user_transcript")):
        await caller.read()
    await caller.until("response_done")
    (said,) = [each for each in caller.all("user_transcript") if each.final]
    return said.text, caller.all("speech_stopped")[-1].audio_end_ms


async def test_a_spoken_turn_in_the_middle_of_which_the_line_is_lost_is_understood() -> None:
    """Not a sample is missing or doubled, or the provider would not know the words, and its clock would differ."""
    async with stack({"speed": 1.0}, pools=POOLS) as (running, provider):
        await running.until_warm(4)
        callers = [running.caller() for _ in range(4)]
        ratios = (None, 0.2, 0.5, 0.9)
        found = [spoken(caller, provider, cut_at_ratio=ratio) for caller, ratio in zip(callers, ratios, strict=True)]
        heard = await asyncio.gather(*found)
        assert {text for text, _ in heard} == {SPOKEN.text}
        calm_ms = heard[0][1]
        assert max(abs(end_ms - calm_ms) for _, end_ms in heard) <= 60
        for caller in callers[1:]:
            assert [each.cause for each in caller.all("state_changed")] == ["line_lost", "line_replaced"]
            assert len(caller.all("response_done")) == 1


async def test_an_answer_that_is_cut_off_is_told_to_the_sample_and_the_next_one_comes() -> None:
    async with stack({"speed": 1.0}, pools=POOLS) as (running, provider):
        await running.until_warm(4)
        caller = running.caller()
        await caller.open()
        await caller.say("Tell me about the history of the telephone.")
        await caller.answer_please()
        for _ in range(3):
            await caller.until("audio")
        provider.close_open(1006)
        cut = await caller.until("interrupted")
        done = await caller.until("response_done")
        assert cut.cause == event.INTERRUPTION_CAUSE_UPSTREAM_LOST
        assert cut.sent_samples == len(caller.audio()) // 2
        assert (done.response_id, done.status) == (cut.response_id, event.RESPONSE_STATUS_CANCELLED)
        await line_is_replaced(caller)
        known = await retrieved(caller, cut.item_id)
        said = "".join(each.delta for each in caller.all("transcript_delta"))
        assert words(known) == said != ""
        await caller.say("Thank you")
        await caller.answer_please()
        done = await caller.until("response_done")
        assert done.status == event.RESPONSE_STATUS_COMPLETED


async def test_lines_that_are_lost_again_and_again_cost_milliseconds_and_no_event() -> None:
    loop, costs, count = asyncio.get_running_loop(), list[float](), 20
    pools = {"default": pool(floor=4, ceiling=64, dials_max=16, demand={"enabled": False})}
    async with stack(pools=pools) as (running, provider):
        callers, lines = [running.caller() for _ in range(count)], list[str]()
        for caller in callers:
            await running.until_warm(1)
            lines.append((await caller.open(overrides=TEXT)).upstream_session_id)
            await turn(caller, "My name is Marcelo.")
        for caller, line in zip(callers, lines, strict=True):
            await running.until_warm(4)
            began = loop.time()
            cut(provider, line)
            await line_is_replaced(caller)
            costs.append((loop.time() - began) * 1000)
        for caller in callers:
            assert "Marcelo" in await turn(caller, "What is my name?")
            numbers = [each.seq for each in caller.seen if each.seq]
            assert numbers == list(range(1, len(numbers) + 1))
    costs.sort()
    figures("line lost", n=count, p50_ms=round(costs[count // 2], 1), max_ms=round(costs[-1], 1))
    assert costs[count // 2] <= 40
