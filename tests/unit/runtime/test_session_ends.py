"""Every end of a session: asked for by the caller, and the others."""

import asyncio
import base64

import pytest
from structlog.testing import capture_logs

from gateway.core import events as out
from gateway.core.errors import CallerError, CapacityError, GatewayError, Reason, StoreError, UpstreamError
from gateway.runtime.outbox import OutboxOptions
from gateway.runtime.session_options import GONE, Ending
from tests.support.virtual_time import now, others, turns
from tests.unit.runtime.fakes import Caller
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import closed, ended, speak

# Goodbye.


@pytest.mark.parametrize("last", [out.Bye(), None], ids=["bye", "half-close"])
async def test_a_goodbye_is_answered_and_everything_given_back(stage: Stage, last: out.Bye | None) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    await asyncio.sleep(3.0)
    caller.say(last)
    assert await ended(stage, call) is None
    assert closed(caller) == out.Closed(out.ClosedReason.BYE, out.Usage(), 3000)
    assert line.closes == 1
    assert len(stage.store.finished) == 1
    names = [task.get_name() for task in await others()]
    assert all(name.startswith("lines:openai/gpt-realtime:") for name in names), names


async def test_what_is_due_comes_before_the_end(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    line = stage.line
    await asyncio.sleep(2.0)
    line.tell("response.created", response={"id": "r"})
    await asyncio.sleep(2.0)
    assert not call.done()
    usage = {"input_tokens": 3, "output_tokens": 4}
    line.tell("response.done", response={"id": "r", "status": "completed", "usage": usage})
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert caller.kinds()[-3:] == [out.ResponseCreated, out.ResponseDone, out.Closed]
    assert closed(caller).usage == out.Usage(input_tokens=3, output_tokens=4)


async def test_what_is_due_is_waited_for_within_bounds(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    began = now()
    assert await ended(stage, call) is None
    assert 30.0 <= now() - began <= 31.0
    assert closed(caller).reason is out.ClosedReason.BYE


async def test_the_last_speech_is_heard_before_the_end(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    caller.say(bytes(4800), out.Bye())
    await turns(20)
    silence = base64.b64decode(line.sent[-1]["audio"])
    assert silence == bytes(24_000 * 2 * 800 // 1000)
    line.tell("input_audio_buffer.speech_started", item_id="u", audio_start_ms=0)
    line.tell("input_audio_buffer.speech_stopped", item_id="u", audio_end_ms=100)
    line.tell("input_audio_buffer.committed", item_id="u")
    await asyncio.sleep(5.0)
    assert not call.done()
    line.tell("response.created", response={"id": "r"})
    line.tell("response.done", response={"id": "r", "status": "completed"})
    assert await ended(stage, call) is None
    assert caller.kinds()[-2:] == [out.ResponseDone, out.Closed]


@pytest.mark.parametrize("then", [[], [None]], ids=["bye", "bye and half-close"])
async def test_the_silence_at_the_end_is_sent_once(stage: Stage, then: list[None]) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    caller.say(bytes(4800), out.Bye(), *then)
    began = now()
    assert await ended(stage, call) is None
    assert line.types() == ["input_audio_buffer.append"] * 2
    assert now() - began <= 3.0


@pytest.mark.parametrize("then", [[], [None]], ids=["bye", "bye and half-close"])
async def test_what_is_due_comes_also_to_a_caller_that_half_closes(stage: Stage, then: list[None]) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye(), *then)
    line = stage.line
    await asyncio.sleep(5.0)
    line.tell("response.created", response={"id": "r"})
    await asyncio.sleep(5.0)
    line.tell("response.done", response={"id": "r", "status": "completed"})
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert caller.kinds()[-2:] == [out.ResponseDone, out.Closed]
    assert closed(caller).reason is out.ClosedReason.BYE


async def test_a_goodbye_can_be_cut_short(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    await asyncio.sleep(5.0)
    caller.say(out.Bye(now=True))
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert closed(caller).reason is out.ClosedReason.BYE_NOW


async def test_input_after_goodbye_is_refused(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye(), b"audio")
    await caller.until(out.ErrorEvent)
    assert stage.observer.refusals == [Reason.INVALID_FRAME]
    assert stage.line.types() == ["response.create"]
    assert not call.done()


@pytest.mark.usefixtures("unrecovered")
async def test_a_line_lost_after_goodbye_is_told_as_that(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    await asyncio.sleep(1.0)
    stage.line.lose()
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.UPSTREAM_CLOSED
    assert closed(caller).reason is out.ClosedReason.UPSTREAM


async def test_a_caller_that_goes_after_goodbye_is_let_go(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    await asyncio.sleep(1.0)
    caller.vanish()
    began = now()
    await ended(stage, call)
    assert now() == began


async def test_goodbye_now_cuts(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye(now=True))
    began = now()
    assert await ended(stage, call) is None
    assert now() == began
    assert closed(caller).reason is out.ClosedReason.BYE_NOW


async def test_goodbye_now_drops_the_audio_that_waits(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    for _ in range(5):
        speak(stage.line)
    await turns(20)
    caller.say(out.Bye(now=True))
    await turns(20)
    caller.may_write.set()
    assert await ended(stage, call) is None
    assert caller.kinds() == [out.Opened, out.OutputAudio, out.Closed]


@pytest.mark.parametrize("now_", [True, False])
async def test_closed_is_the_last_word_though_the_line_speaks_on(stage: Stage, *, now_: bool) -> None:
    """The store takes its time, and the provider does not stop: nothing comes behind `closed`."""
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    stage.store.may_store.clear()
    caller.say(out.Bye(now=now_))
    for _ in range(10):
        await asyncio.sleep(0.02)
        speak(line)
        line.tell("conversation.item.done", item={"id": "i"})
    stage.store.may_store.set()
    for _ in range(10):
        await turns(2)
        speak(line)
    assert await ended(stage, call) is None
    assert closed(caller)
    assert caller.kinds().count(out.Closed) == 1


class Listener(Caller):
    """A caller that takes a piece of speech only when it has played the last one."""

    async def write(self, outgoing: out.Outgoing, ack: out.GatewayAck | None = None) -> None:
        if isinstance(outgoing.event, out.OutputAudio):
            await asyncio.sleep(0.5)
        await super().write(outgoing, ack)


async def test_a_caller_that_reads_at_the_pace_of_speech_hears_the_answer_out(stage: Stage) -> None:
    await stage.warm()
    caller = Listener()
    caller.say(out.OpenRequest())
    call = stage.serve(caller)
    await caller.until(out.Opened)
    stage.line.tell("response.created", response={"id": "r"})
    for _ in range(40):
        speak(stage.line)
    stage.line.tell("response.done", response={"id": "r", "status": "completed"})
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert caller.kinds().count(out.OutputAudio) == 40
    assert closed(caller).reason is stage.observer.reports[0].reason is out.ClosedReason.BYE


async def test_a_caller_that_stops_reading_after_its_bye_is_told_why_by_the_status(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    speak(stage.line)
    caller.say(out.Bye())
    began = now()
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.SLOW_CALLER
    assert now() - began <= 65.0


async def test_an_end_that_finds_no_room_keeps_its_name(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.store.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    caller.may_write.clear()
    for _ in range(40):
        stage.line.tell("response.mcp_call.in_progress", padding="x" * (1 << 20))
        await turns(2)
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.SLOW_CALLER
    assert stage.observer.reports[0].reason is out.ClosedReason.SLOW_CALLER


async def test_an_end_is_not_delayed_by_a_line_that_speaks_on(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    caller.say(out.Bye(now=True))
    began = now()
    while not call.done() and now() - began < 20.0:
        speak(line)
        await asyncio.sleep(0.02)
    assert now() - began <= 0.1


async def test_a_caller_that_reads_no_more_does_not_delay_the_end_for_long(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    speak(stage.line)
    await turns(5)
    caller.say(out.Bye(now=True))
    began = now()
    assert await ended(stage, call) is None
    assert now() - began <= 5.0


async def test_an_end_is_not_delayed_by_a_store_that_does_not_answer(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    stage.store.may_finish.clear()
    caller.say(out.Bye())
    await asyncio.sleep(1.0)
    assert line.closes == 1, "the line waits for the store"
    await asyncio.sleep(10.0)
    assert call.done(), "the end waits for the store for ever"
    stage.store.may_finish.set()


async def test_a_record_that_cannot_be_deleted_changes_nothing(stage: Stage) -> None:
    await stage.warm()
    stage.store.finish_failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    caller, call = await stage.opened()
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    assert closed(caller).reason is stage.observer.reports[0].reason is out.ClosedReason.BYE


# Ends that nobody asked for.


@pytest.mark.usefixtures("unrecovered")
async def test_a_lost_line_is_told_and_ends_the_session(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.line.lose()
    error = await ended(stage, call)
    assert isinstance(error, UpstreamError)
    assert (error.reason, error.retryable) == (Reason.UPSTREAM_CLOSED, True)
    last = closed(caller)
    assert last.reason is out.ClosedReason.UPSTREAM
    assert last.error is not None
    assert last.error.reason is Reason.UPSTREAM_CLOSED
    assert stage.observer.reports[0].error is Reason.UPSTREAM_CLOSED


@pytest.mark.usefixtures("unrecovered")
async def test_what_came_before_the_loss_is_told_before_the_end(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    speak(line)
    line.tell("conversation.item.done", item={"id": "i"})
    line.lose()
    await ended(stage, call)
    assert caller.kinds() == [out.Opened, out.OutputAudio, out.ItemDone, out.Closed]


@pytest.mark.usefixtures("unrecovered")
async def test_a_provider_that_sends_no_json_is_lost(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.line.tell_raw(b"<html>secret")
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.UPSTREAM_CLOSED
    assert "secret" not in error.message
    assert closed(caller).reason is out.ClosedReason.UPSTREAM


@pytest.mark.usefixtures("unrecovered")
async def test_a_provider_that_reads_no_more_is_stuck(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.line.may_send.clear()
    caller.say(b"audio")
    began = now()
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.UPSTREAM_STUCK
    assert 30.0 <= now() - began <= 32.0


async def test_a_caller_that_reads_no_more_is_too_slow(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    speak(stage.line)
    began = now()
    error = await ended(stage, call)
    assert isinstance(error, CallerError)
    assert error.reason is Reason.SLOW_CALLER
    assert now() - began <= 35.0


async def test_a_caller_for_whom_too_much_piles_up_is_too_slow_and_told_so(stage: Stage) -> None:
    stage.limit(outbox=OutboxOptions(audio_max_bytes=20_000))
    await stage.warm()
    caller, call = await stage.opened()
    caller.may_write.clear()
    for _ in range(50):
        speak(stage.line)
    await turns(100)
    caller.may_write.set()
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.SLOW_CALLER
    assert closed(caller).reason is out.ClosedReason.SLOW_CALLER


async def test_a_newer_owner_ends_the_session_here_and_its_record_is_left_alone(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    stage.store.failure = StoreError(Reason.SUPERSEDED, "epoch 2")
    stage.line.tell("input_audio_buffer.committed", item_id="u")
    began = now()
    error = await ended(stage, call)
    assert isinstance(error, StoreError)
    assert error.reason is Reason.SUPERSEDED
    assert stage.observer.reports[0].reason is out.ClosedReason.SUPERSEDED
    assert stage.store.finished == []
    assert now() == began, "nothing can be stored any more, so nothing is to be waited for"
    assert closed(caller).reason is out.ClosedReason.SUPERSEDED


async def test_a_session_has_a_longest_life(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened(life_max_seconds=600)
    began = now()

    async def talk() -> None:
        while not call.done():
            caller.say(b"audio")
            await asyncio.sleep(10.0)

    talking = asyncio.get_running_loop().create_task(talk())
    assert await ended(stage, call) is None
    assert 600.0 <= now() - began <= 602.0
    assert closed(caller).reason is out.ClosedReason.LIFE_OVER
    talking.cancel()


async def test_a_session_in_which_nothing_happens_ends(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    began = now()
    assert await ended(stage, call) is None
    assert 300.0 <= now() - began <= 302.0
    assert closed(caller).reason is out.ClosedReason.IDLE


@pytest.mark.parametrize("what", ["input", "events", "audio"])
async def test_a_session_in_which_something_happens_goes_on(stage: Stage, what: str) -> None:
    await stage.warm()
    caller, call = await stage.opened(idle_max_seconds=10)
    for _ in range(20):
        await asyncio.sleep(5.0)
        if what == "input":
            caller.say(b"audio")
        elif what == "events":
            stage.line.tell("conversation.item.done", item={"id": "i"})
        else:
            speak(stage.line)
    assert not call.done()


async def test_a_fault_of_ours_ends_one_session_with_a_word(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.break_down(RuntimeError("secret words"))
    with capture_logs() as logs:
        error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.INTERNAL
    assert "secret" not in error.message
    assert closed(caller).reason is out.ClosedReason.INTERNAL
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["session_failed"]


async def test_a_fault_of_ours_before_the_line_is_told_as_one_too(stage: Stage) -> None:
    await stage.warm()
    caller = Caller()
    caller.break_down(RuntimeError("a fault"))
    with capture_logs():
        error = await ended(stage, stage.serve(caller))
    assert error is not None
    assert error.reason is Reason.INTERNAL
    assert stage.observer.reports[0].error is Reason.INTERNAL


# Endings.


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpstreamError(Reason.UPSTREAM_STUCK, ""), out.ClosedReason.UPSTREAM),
        (StoreError(Reason.SUPERSEDED, ""), out.ClosedReason.SUPERSEDED),
        (StoreError(Reason.STORE_UNAVAILABLE, ""), out.ClosedReason.STORE),
        (CallerError(Reason.SLOW_CALLER, ""), out.ClosedReason.SLOW_CALLER),
        (CapacityError(Reason.DRAINING, ""), out.ClosedReason.DRAINING),
        (GatewayError(Reason.INTERNAL, ""), out.ClosedReason.INTERNAL),
    ],
)
def test_an_ending_is_called_by_its_error(error: GatewayError, reason: out.ClosedReason) -> None:
    assert Ending.of(error) == Ending(reason, error)


def test_who_is_gone_is_told_nothing() -> None:
    assert GONE.caller_gone
    assert GONE.error is None
