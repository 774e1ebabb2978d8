"""A session leaves a line before the provider ends it, for one that stands ready, when nobody speaks."""

import asyncio

import pytest

from gateway.core import events as out
from gateway.core.errors import Reason
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import Caller, Line
from tests.unit.runtime.holders import until
from tests.unit.runtime.stage import PATIENT, Stage
from tests.unit.runtime.talk import Call, ended, speak
from tests.unit.runtime.test_line_loss import heard, say, states

LIFE = 60.0


@pytest.fixture
async def moving(stage: Stage) -> tuple[Stage, Caller, Call, Line]:
    """A session on a line that lives for a minute from now."""
    stage.exchange.life_seconds = LIFE
    stage.limit(watchdog=PATIENT)
    await stage.warm()
    caller, call = await stage.opened()
    return stage, caller, call, stage.line


def causes(caller: Caller) -> list[str]:
    return [cause for _, cause in states(caller)]


async def test_a_line_is_left_for_a_fresh_one_before_its_end(
    moving: tuple[Stage, Caller, Call, Line],
) -> None:
    stage, caller, call, first = moving
    began = now()
    say(caller, "Weather?")
    await turns(10)
    await asyncio.sleep(LIFE * 0.8)

    def has_moved() -> bool:
        for line in stage.exchange.lines:
            if line is not first:
                line.may_send.clear()
        return stage.line is not first

    await until(has_moved)
    assert LIFE * 0.87 <= now() - began <= LIFE * 0.93
    assert first.is_open, "the next one is told before this one is closed"
    stage.line.may_send.set()
    await turns(20)
    assert first.closes
    assert heard(stage.line) == ["Weather?"]
    assert causes(caller) == ["rotation"]
    assert stage.observer.rotations == [("expiry", "ok")]
    assert stage.observer.recoveries == []
    say(caller, "Thanks")
    caller.say(out.Bye())
    assert await ended(stage, call) is None


async def test_it_goes_on_and_on(moving: tuple[Stage, Caller, Call, Line]) -> None:
    stage, caller, call, _ = moving
    for number in range(20):
        say(caller, f"{number}")
        await asyncio.sleep(30.0)
    assert 9 <= len(stage.observer.rotations) <= 13
    assert set(stage.observer.rotations) == {("expiry", "ok")}
    assert heard(stage.line)[:20] == [f"{number}" for number in range(20)]
    assert not call.done()


async def test_an_answer_is_not_cut_for_it(moving: tuple[Stage, Caller, Call, Line]) -> None:
    stage, caller, _, first = moving
    await asyncio.sleep(LIFE * 0.86)
    first.tell("response.created", response={"id": "r"})
    for _ in range(30):
        speak(first)
        await asyncio.sleep(0.1)
    await asyncio.sleep(LIFE * 0.97 - LIFE * 0.86 - 3.0)
    assert stage.line is first
    first.tell("response.done", response={"id": "r", "status": "completed"})
    await until(lambda: stage.line is not first)
    await turns(20)
    assert out.Interrupted not in caller.kinds()
    assert causes(caller) == ["rotation"]


async def test_at_the_last_moment_it_moves_whoever_speaks(
    moving: tuple[Stage, Caller, Call, Line],
) -> None:
    stage, caller, _, first = moving
    began = now()
    first.tell("response.created", response={"id": "r"})
    first.tell("response.output_audio_transcript.delta", response_id="r", item_id="i", delta="It is foggy")

    async def talk() -> None:
        while first.is_open:
            speak(first)
            await asyncio.sleep(0.1)

    talking = asyncio.ensure_future(talk())
    await until(lambda: stage.line is not first)
    assert now() - began == pytest.approx(LIFE * 0.9875, abs=0.2)
    await turns(20)
    assert [type(e) for e in caller.events() if isinstance(e, out.Interrupted | out.ResponseDone)] == [
        out.Interrupted,
        out.ResponseDone,
    ]
    assert heard(stage.line) == ["It is foggy"]
    talking.cancel()


async def test_where_none_is_to_be_had_the_line_is_used_to_its_end_and_replaced_then(
    moving: tuple[Stage, Caller, Call, Line],
) -> None:
    stage, caller, _, first = moving
    await asyncio.sleep(LIFE * 0.5)
    for line in stage.exchange.lines:
        if line is not first:
            line.lose()
    stage.exchange.fail(Reason.UPSTREAM_UNREACHABLE, 10_000)
    await asyncio.sleep(LIFE * 0.49)
    assert (stage.line is first, causes(caller)) == (True, [])
    stage.exchange.failures.clear()
    first.lose("1001")
    await until(lambda: stage.line is not first)
    await until(lambda: causes(caller) == ["line_lost", "line_replaced"])


async def test_a_line_that_stands_by_is_used_when_the_present_one_is_lost(
    moving: tuple[Stage, Caller, Call, Line],
) -> None:
    stage, caller, _, first = moving
    first.tell("response.created", response={"id": "r"})
    await asyncio.sleep(LIFE * 0.95)
    assert stage.line is first
    assert sum(len(pool.leases) for pool in stage.pools.values()) == 2
    first.lose()
    await until(lambda: stage.line is not first)
    await until(lambda: "line_replaced" in causes(caller))
    assert sum(len(pool.leases) for pool in stage.pools.values()) == 1


async def test_whoever_leaves_meanwhile_leaves_neither_line_behind(
    moving: tuple[Stage, Caller, Call, Line],
) -> None:
    stage, caller, call, first = moving
    first.tell("response.created", response={"id": "r"})
    await asyncio.sleep(LIFE * 0.95)
    caller.vanish()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await stage.everything_is_given_back()


# A line that has become slow.


async def answers(caller: Caller, line: Line, times: int, seconds: float) -> None:
    for _ in range(times):
        caller.control("response.create")
        await turns(10)
        line.tell("response.created", response={"id": "r"})
        await asyncio.sleep(seconds)
        finished(line)
        await asyncio.sleep(40.0)


def finished(line: Line) -> None:
    speak(line)
    line.tell("response.done", response={"id": "r", "status": "completed"})


async def test_a_line_whose_answers_have_become_slow_is_left_for_a_fresh_one(stage: Stage) -> None:
    stage.limit(watchdog=PATIENT)
    await stage.warm()
    caller, call = await stage.opened()
    first = stage.line
    await answers(caller, first, 5, 0.5)
    await answers(caller, first, 4, 3.0)
    assert stage.line is first
    await answers(caller, first, 1, 3.0)
    await turns(20)
    second = stage.line
    assert second is not first
    assert first.closes
    assert stage.observer.rotations == [("slow", "ok")]
    assert causes(caller) == ["rotation"]
    await answers(caller, second, 10, 3.0)
    assert stage.line is second, "its first ones were no quicker: another one would not help"
    caller.say(out.Bye())
    assert await ended(stage, call) is None


async def test_a_slow_line_is_not_left_in_the_middle_of_an_answer(stage: Stage) -> None:
    stage.limit(watchdog=PATIENT)
    await stage.warm()
    caller, _ = await stage.opened()
    first = stage.line
    await answers(caller, first, 5, 0.5)
    await answers(caller, first, 4, 3.0)
    caller.control("response.create")
    await turns(10)
    first.tell("response.created", response={"id": "r"})
    await asyncio.sleep(3.0)
    speak(first)
    await asyncio.sleep(60.0)
    assert stage.line is first
    finished(first)
    await until(lambda: stage.line is not first)
