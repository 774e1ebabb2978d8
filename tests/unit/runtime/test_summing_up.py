"""A slow line of a long conversation is left for one that is told a summary, and what was said last."""

import asyncio
from typing import Any

import pytest

from gateway.core import events as out
from gateway.core.aside import HEADING, MARK
from gateway.core.slowness import SlownessOptions
from gateway.runtime.summing_up import ANSWER_SECONDS, KEPT
from tests.support.virtual_time import turns
from tests.unit.runtime.fakes import Line
from tests.unit.runtime.resuming import Phone
from tests.unit.runtime.stage import PATIENT, Stage
from tests.unit.runtime.talk import speak
from tests.unit.runtime.test_line_loss import heard

SUMMARY = "Ada wants a table for two."
SAID = 50
# Said one after the other, one is a function's result and stands beside its call.
NUMBERS = [f"item {number}" for number in range(SAID)]


@pytest.fixture
async def phone(stage: Stage) -> Phone:
    """A long conversation at a line that has become slow."""
    options = SlownessOptions(sums_up=True, line_seconds=60.0)
    stage.limit(watchdog=PATIENT, slowness=options)
    await stage.warm()
    made = Phone(stage)
    await made.open()
    line = stage.line
    for words in NUMBERS:
        made.say(words)
        await turns(5)
        line.tell("conversation.item.done", item=line.sent[-1]["item"])
    await answers(made, line, 5, 0.5)
    await answers(made, line, 5, 3.0)
    return made


async def answers(phone: Phone, line: Line, times: int, seconds: float) -> None:
    for _ in range(times):
        phone.control("response.create")
        await turns(10)
        line.tell("response.created", response={"id": "r"})
        await asyncio.sleep(seconds)
        speak(line)
        line.tell("response.done", response={"id": "r", "status": "completed"})
        await asyncio.sleep(4.0)


async def asked(line: Line) -> dict[str, Any]:
    """Return the request for a summary, when it is there."""
    for _ in range(40):
        found = [event for event in line.sent if event.get("event_id") == "tl-aside"]
        if found:
            return found[0]
        await asyncio.sleep(1.0)
    raise AssertionError(line.types())


def summed_up(line: Line, text: str = SUMMARY, status: str = "completed") -> None:
    """Answer it, with all that a provider says of an answer."""
    (request,) = [event for event in line.sent if event.get("event_id") == "tl-aside"]
    metadata = request["response"]["metadata"]
    line.tell("response.created", response={"id": "aside", "metadata": metadata})
    line.tell("response.output_item.added", response_id="aside", item={"id": "s"})
    line.tell("response.output_text.delta", response_id="aside", item_id="s", delta=text[:5])
    line.tell("response.output_text.delta", response_id="aside", item_id="s", delta=text[5:])
    line.tell("response.output_text.done", response_id="aside", item_id="s", text=text)
    usage = {"total_tokens": 9, "input_tokens": 7, "output_tokens": 2}
    line.tell("response.done", response={"id": "aside", "status": status, "usage": usage, "metadata": metadata})


async def moved(stage: Stage, first: Line) -> Line:
    for _ in range(60):
        if stage.line is not first:
            await turns(20)
            return stage.line
        await asyncio.sleep(0.5)
    raise AssertionError("it has not moved")


async def test_the_next_line_is_told_a_summary_and_what_was_said_last(stage: Stage, phone: Phone) -> None:
    first, before = stage.line, len(phone.caller.got)
    request = await asked(first)
    assert request["response"]["conversation"] == "none"
    summed_up(first)
    second = await moved(stage, first)
    assert heard(second) == [HEADING + SUMMARY, *NUMBERS[-KEPT:]]
    assert second.sent[0]["item"]["role"] == "system"
    told = [each.event for each in phone.caller.got[before:]]
    deleted = [each.item_id for each in told if isinstance(each, out.ItemDeleted)]
    assert len(deleted) == SAID - KEPT
    assert not [each for each in told if isinstance(each, out.TextDelta | out.ResponseDone | out.ResponseCreated)]
    assert not [each for each in told if isinstance(each, out.Raw) and b"aside" in each.json]
    used = stage.session.conversation.tally.usage
    assert (used.input_tokens, used.output_tokens) == (7, 2)
    phone.say("And a window seat")
    await turns(5)
    assert heard(second)[-1] == "And a window seat"


async def test_another_gateway_tells_the_same(stage: Stage, phone: Phone) -> None:
    first = stage.line
    await asked(first)
    summed_up(first)
    second = await moved(stage, first)
    for event in second.sent:
        second.tell("conversation.item.done", item=event["item"])
    await turns(20)
    expected = heard(second)
    other = Stage(store=stage.store, form=stage.form, sealer=stage.sealer, gateway="gateway-2")
    await other.warm()
    try:
        await phone.drop()
        phone.stage = other
        await phone.come_back()
        await turns(60)
        assert heard(other.line) == expected
    finally:
        await other.clear()


@pytest.mark.parametrize("answer", ["cancelled", "refused", "none"])
async def test_without_a_summary_it_moves_with_everything(answer: str, stage: Stage, phone: Phone) -> None:
    first = stage.line
    await asked(first)
    if answer == "cancelled":
        summed_up(first, status="cancelled")
    elif answer == "refused":
        first.tell("error", error={"type": "invalid_request_error", "message": "no", "event_id": "tl-aside"})
    else:
        await asyncio.sleep(ANSWER_SECONDS)
    second = await moved(stage, first)
    assert heard(second) == NUMBERS
    assert not [each for each in phone.caller.events() if isinstance(each, out.ItemDeleted | out.ErrorEvent)]


async def test_a_short_conversation_is_not_summed_up(stage: Stage) -> None:
    stage.limit(watchdog=PATIENT, slowness=SlownessOptions(sums_up=True, line_seconds=60.0))
    await stage.warm()
    phone = Phone(stage)
    await phone.open()
    first = stage.line
    phone.say("Weather?")
    await answers(phone, first, 5, 0.5)
    await answers(phone, first, 5, 3.0)
    second = await moved(stage, first)
    assert heard(second) == ["Weather?"]
    assert "tl-aside" not in [event.get("event_id") for event in first.sent]


async def test_what_is_said_while_the_summary_is_made_stays(stage: Stage, phone: Phone) -> None:
    first = stage.line
    await asked(first)
    phone.say("Wait")
    await turns(10)
    first.tell("conversation.item.done", item=first.sent[-1]["item"])
    summed_up(first)
    second = await moved(stage, first)
    assert heard(second) == [HEADING + SUMMARY, *NUMBERS[-KEPT:], "Wait"]


async def test_an_answer_that_a_caller_marks_alike_is_the_callers(stage: Stage) -> None:
    await stage.warm()
    phone = Phone(stage)
    await phone.open()
    phone.control("response.create")
    await turns(10)
    metadata = {MARK: "summary"}
    stage.line.tell("response.created", response={"id": "r", "metadata": metadata})
    stage.line.tell("response.output_text.delta", response_id="r", item_id="i", delta="Foggy.")
    stage.line.tell("response.done", response={"id": "r", "status": "completed", "metadata": metadata})
    await phone.caller.until(out.ResponseDone)
    kinds = phone.caller.kinds()
    assert out.ResponseCreated in kinds
    assert out.TextDelta in kinds
