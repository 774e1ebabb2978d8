"""A leased line that has died without a word is noticed, soon and for the right reason; and leases end with use."""

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from gateway.core import events as out
from gateway.core.errors import Reason, UpstreamClosedError, UpstreamError
from tests.support.virtual_time import advance, now, others, turns
from tests.unit.runtime.fakes import Caller
from tests.unit.runtime.holders import until
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import closed, ended, speak

pytestmark = pytest.mark.usefixtures("unrecovered")
IDLE_SECONDS = 6.0
BUSY_SECONDS = 3.0


async def test_a_silent_dead_line_is_noticed_within_six_seconds(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    await asyncio.sleep(0.7)
    line.tell("rate_limits.updated", rate_limits=[])
    await turns(5)
    line.may_answer.clear()
    began = now()
    error = await ended(stage, call)
    assert now() - began <= IDLE_SECONDS + 0.15
    assert isinstance(error, UpstreamError)
    assert error.reason is Reason.UPSTREAM_CLOSED
    assert closed(caller).reason is out.ClosedReason.UPSTREAM
    assert line.closes == 1


@pytest.mark.parametrize("why", ["asked for an answer", "an answer began", "speech", "a turn is committed"])
@pytest.mark.parametrize("idle_seconds", [0.0, 0.5, 1.3, 3.9, 60.0])
async def test_a_line_that_dies_while_something_is_in_progress_is_noticed_within_three_seconds(
    stage: Stage, why: str, idle_seconds: float
) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    await asyncio.sleep(idle_seconds)
    match why:
        case "asked for an answer":
            caller.control("response.create")
        case "an answer began":
            line.tell("response.created", response={"id": "r"})
        case "speech":
            line.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=0)
        case _:
            caller.control("input_audio_buffer.commit")
    await turns(5)
    line.may_answer.clear()
    began = now()
    error = await ended(stage, call)
    assert now() - began <= BUSY_SECONDS + 0.15
    assert isinstance(error, UpstreamError)


async def test_an_answer_that_stops_in_the_middle_is_noticed_within_three_seconds(stage: Stage) -> None:
    await stage.warm()
    _, call = await stage.opened()
    line = stage.line
    line.tell("response.created", response={"id": "r"})
    for _ in range(50):
        speak(line)
        await asyncio.sleep(0.1)
    line.may_answer.clear()
    began = now()
    await ended(stage, call)
    assert now() - began <= BUSY_SECONDS + 0.15


async def test_a_line_that_is_silent_and_alive_is_kept(stage: Stage) -> None:
    await stage.warm()
    _, call = await stage.opened()
    await asyncio.sleep(280.0)
    assert not call.done()
    assert 60 <= stage.line.pings <= 80


async def test_a_line_whose_messages_keep_coming_is_never_asked(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    line.may_answer.clear()
    caller.control("response.create")
    for _ in range(400):
        line.tell("rate_limits.updated", rate_limits=[])
        await asyncio.sleep(0.8)
    assert (line.pings, call.done()) == (0, False)


async def test_what_the_caller_says_is_no_sign_of_life_of_the_line(stage: Stage) -> None:
    """A send that succeeds proves nothing: the socket takes it."""
    await stage.warm()
    caller, call = await stage.opened()
    stage.line.may_answer.clear()
    began = now()

    async def talk() -> None:
        while not call.done():
            caller.say(b"audio")
            await asyncio.sleep(0.02)

    speaking = asyncio.ensure_future(talk())
    await call
    assert now() - began <= IDLE_SECONDS + 0.15
    await speaking


@pytest.mark.parametrize("busy", [True, False])
async def test_while_our_own_loop_is_held_up_no_line_is_taken_for_dead(stage: Stage, *, busy: bool) -> None:
    """A callback that blocks for five seconds, again and again; the answer is read when there is time to."""
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    if busy:
        caller.control("response.create")
    line.may_answer.clear()
    for _ in range(10):
        asyncio.get_running_loop().call_soon(advance, 5.0)
        await asyncio.sleep(0.12)
    assert line.pings >= 1
    line.may_answer.set()
    await turns(20)
    assert not call.done()


async def test_messages_that_lay_unread_while_our_loop_was_held_up_are_signs_of_life(stage: Stage) -> None:
    await stage.warm()
    _, call = await stage.opened()
    line = stage.line
    line.may_answer.clear()
    for _ in range(20):
        advance(5.0)
        line.tell("rate_limits.updated", rate_limits=[])
        await asyncio.sleep(0.5)
    assert not call.done()


async def test_a_line_that_cannot_be_asked_any_more_has_died(stage: Stage) -> None:
    await stage.warm()
    _, call = await stage.opened()
    stage.line.ping_failure = UpstreamClosedError(Reason.UPSTREAM_CLOSED, "reset")
    error = await ended(stage, call)
    assert isinstance(error, UpstreamError)


async def test_a_goodbye_while_the_line_is_asked_leaves_nothing(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    line.may_answer.clear()
    await until(lambda: line.pings)
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert all(task.get_name().startswith("lines:") for task in await others())


# Leases.


class Listener(Caller):
    """A caller that takes a piece of speech only when it has played the last one."""

    async def write(self, outgoing: out.Outgoing, ack: out.GatewayAck | None = None) -> None:
        if isinstance(outgoing.event, out.OutputAudio):
            await asyncio.sleep(1.0)
        await super().write(outgoing, ack)


async def test_a_lease_is_renewed_while_the_caller_is_there(stage: Stage) -> None:
    await stage.warm()
    with capture_logs() as logs:
        _, call = await stage.opened()
        await asyncio.sleep(290.0)
    assert not call.done()
    assert stage.pool.stats().leased == 1
    assert [log for log in logs if log["event"] == "lease_revoked"] == []


async def test_a_lease_is_renewed_also_during_a_long_farewell(stage: Stage) -> None:
    await stage.warm()
    caller = Listener()
    caller.say(out.OpenRequest())
    call = stage.serve(caller)
    await caller.until(out.Opened)
    stage.line.tell("response.created", response={"id": "r"})
    for _ in range(60):
        speak(stage.line)
    stage.line.tell("response.done", response={"id": "r", "status": "completed"})
    caller.say(out.Bye())
    with capture_logs() as logs:
        await asyncio.sleep(30.0)
        assert (call.done(), stage.pool.stats().leased) == (False, 1)
        assert await ended(stage, call) is None
    assert closed(caller).reason is out.ClosedReason.BYE
    assert [log for log in logs if log["event"] == "lease_revoked"] == []


class Stuck(Caller):
    """A stream whose reader does not let go when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()

    async def read(self) -> out.CallerMessage | None:
        try:
            return await super().read()
        except asyncio.CancelledError:
            with suppress(asyncio.CancelledError):  # nor when it is told again
                await self.may_end.wait()
            await self.may_end.wait()
            raise


async def test_a_session_that_hangs_after_its_caller_has_left_gives_its_line_back(stage: Stage) -> None:
    await stage.warm()
    caller = Stuck()
    caller.say(out.OpenRequest(correlation_id="c-9"))
    call = stage.serve(caller)
    await caller.until(out.Opened)
    line = stage.line
    await asyncio.sleep(60.0)
    call.cancel()
    began = now()
    await until(lambda: line.closes)
    assert now() - began <= 1.0
    assert len(stage.directory.sessions()) == 1, "its task hangs on, without a line"
    caller.may_end.set()
    await turns(10)
    await stage.everything_is_given_back()
    assert line.closes == 1
    assert len(stage.observer.reports) == 1


async def test_a_lease_that_is_taken_back_ends_its_session_with_a_word(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.group.perform(stage.core.fence(stage.group.now()))
    error = await call
    assert isinstance(error, UpstreamError)
    assert closed(caller).reason is out.ClosedReason.UPSTREAM
