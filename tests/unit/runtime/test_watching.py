"""A line that pings but does not answer is asked once more, and then replaced; our own standstill is not its fault."""

import asyncio

import pytest

from gateway.core import events as out
from gateway.core.event_ids import PROBE
from tests.support.virtual_time import advance, now, turns
from tests.unit.runtime.holders import until
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import speak
from tests.unit.runtime.test_line_loss import heard, lost, say, states


async def test_a_line_that_does_not_begin_is_probed_and_then_replaced(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    say(caller, "Weather?")
    caller.control("response.create")
    await turns(10)
    began = now()
    await until(lambda: first.sent[-1].get("event_id") == PROBE)
    assert first.sent[-1] == {"type": "session.update", "session": {"type": "realtime"}, "event_id": PROBE}
    assert 9.5 <= now() - began <= 11.5
    await until(lambda: stage.line is not first)
    assert 12.5 <= now() - began <= 15.0
    await turns(20)
    assert [cause for _, cause in states(caller)] == ["line_lost", "line_replaced"]
    assert heard(stage.line) == ["Weather?", "response.create"], "it is asked for again"
    assert stage.observer.recoveries[0][:2] == ("line_lost", "ok")


async def test_a_line_that_answers_the_probe_is_kept(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    caller.control("response.create")
    await turns(10)
    for _ in range(3):
        await until(lambda: first.sent[-1].get("event_id") == PROBE)
        first.sent.append({"type": "seen"})
        first.tell("session.updated", session={"id": "s"})
    first.tell("error", error={"type": "invalid_request_error", "message": "no", "event_id": PROBE})
    await asyncio.sleep(2.0)
    assert stage.line is first
    assert states(caller) == []
    assert out.ErrorEvent not in caller.kinds(), "nobody has asked for the probe"


async def test_an_answer_that_stops_is_cancelled_and_then_its_line_replaced(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    caller.control("response.create")
    await turns(10)
    first.tell("response.created", response={"id": "r"})
    speak(first)
    await turns(10)
    began = now()
    await until(lambda: first.sent[-1]["type"] == "response.cancel")
    assert 19.5 <= now() - began <= 21.5
    await until(lambda: stage.line is not first)
    await turns(20)
    (cut,) = [event for event in caller.events() if isinstance(event, out.Interrupted)]
    assert cut.cause is out.InterruptionCause.STUCK
    assert heard(stage.line) == [], "what was heard is not made twice"


async def test_an_answer_that_ends_when_it_is_cancelled_leaves_its_line_alone(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    caller.control("response.create")
    await turns(10)
    first.tell("response.created", response={"id": "r"})
    await until(lambda: first.sent[-1]["type"] == "response.cancel")
    first.tell("response.done", response={"id": "r", "status": "cancelled"})
    await asyncio.sleep(60.0)
    assert stage.line is first


async def test_a_line_that_fails_every_answer_is_replaced(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    for number in range(3):
        assert stage.line is first
        caller.control("response.create")
        await turns(10)
        first.tell("response.created", response={"id": f"r{number}"})
        first.tell("response.done", response={"id": f"r{number}", "status": "failed"})
        await asyncio.sleep(1.0)
    assert stage.line is not first
    await asyncio.sleep(5.0)
    assert [cause for _, cause in states(caller)] == ["line_lost", "line_replaced"], "once: the count begins anew"


async def test_failures_of_different_lines_are_not_added_up(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    for number in range(2):
        line = stage.line
        for _ in range(2):
            caller.control("response.create")
            await turns(10)
            line.tell("response.created", response={"id": f"r{number}"})
            line.tell("response.done", response={"id": f"r{number}", "status": "failed"})
        await asyncio.sleep(10.0)
        assert stage.line is line
        await lost(stage, line)


@pytest.mark.parametrize("pause", [0.8, 2.0, 3.0])
async def test_our_own_standstill_is_not_the_lines_silence(stage: Stage, pause: float) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    caller.control("response.create")
    await turns(10)
    first.tell("response.created", response={"id": "r"})
    speak(first)
    for _ in range(60):
        advance(pause)
        await asyncio.sleep(0.1)
    assert stage.line is first
    assert "response.cancel" not in [event["type"] for event in first.sent]
