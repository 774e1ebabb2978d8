"""A resumable session outlives its caller's streams: what was missed comes again, what is sent again counts once."""

import asyncio

import pytest

from gateway.core import events as out
from gateway.core.errors import CallerError, GatewayError, Reason
from gateway.core.session import SessionState
from gateway.runtime.session_options import ResumeOptions
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import EVENT_BYTES, EVIL, Caller
from tests.unit.runtime.resuming import Phone
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import speak
from tests.unit.runtime.test_line_loss import heard

WINDOW = 120.0
LINE_KEPT = 30.0


@pytest.fixture
async def phone(stage: Stage) -> Phone:
    """A session that its caller may come back to."""
    await stage.warm()
    made = Phone(stage)
    await made.open()
    return made


def state(phone: Phone) -> SessionState:
    return phone.stage.session.state


def refusal(error: GatewayError | None) -> Reason:
    assert isinstance(error, CallerError)
    return error.reason


# What is agreed at the beginning.


async def test_a_resumable_session_says_what_holds(phone: Phone) -> None:
    opened = phone.caller.events()[0]
    assert isinstance(opened, out.Opened)
    assert (opened.resumable, opened.resume_window_seconds, opened.window_bytes) == (True, 120, 1 << 20)
    assert opened.resume_token
    assert await phone.hang_up() is None
    await phone.stage.everything_is_given_back()


async def test_a_plain_session_has_nothing_of_it(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    opened = caller.events()[0]
    assert isinstance(opened, out.Opened)
    assert (opened.resumable, opened.resume_token, opened.window_bytes) == (False, "", 0)


# Controls.


async def test_a_control_is_acknowledged_when_it_is_stored(phone: Phone) -> None:
    phone.stage.store.may_store.clear()
    phone.say("Hello")
    await turns(10)
    assert heard(phone.stage.line) == ["Hello"], "its effect does not wait for the store"
    assert phone.caller.acks == []
    phone.stage.store.may_store.set()
    await phone.caller.until(out.ControlTaken)
    assert phone.caller.acks[-1].cseq == 1


async def test_a_control_that_is_sent_again_has_one_effect(phone: Phone) -> None:
    phone.say("Hello")
    await turns(10)
    phone.cseq -= 1
    phone.say("Hello")
    phone.say("Again")
    await turns(10)
    assert heard(phone.stage.line) == ["Hello", "Again"]


@pytest.mark.parametrize("cseq", [0, 3])
async def test_a_control_without_its_number_is_refused(phone: Phone, cseq: int) -> None:
    phone.caller.control("response.create", cseq)
    told = await phone.caller.until(out.ErrorEvent)
    assert isinstance(told.event, out.ErrorEvent)
    assert told.event.reason is Reason.INVALID_FRAME
    assert "response.create" not in phone.stage.line.types()


# The caller's network is lost.


async def test_a_caller_that_comes_back_finds_its_line(phone: Phone) -> None:
    line = phone.stage.line
    phone.say("Hello")
    await turns(10)
    await phone.drop()
    assert state(phone) is SessionState.DETACHED
    line.tell("response.created", response={"id": "r"})
    line.tell("conversation.item.done", item={"id": "i", "type": "message", "role": "assistant"})
    await turns(10)
    resumed = await phone.come_back()
    await turns(10)
    assert resumed.outcome is out.ResumeOutcome.REATTACHED
    assert (resumed.gap_from, resumed.gap_to) == (0, 0)
    assert resumed.next_cseq == 2
    assert state(phone) is SessionState.ACTIVE
    assert phone.stage.line is line
    assert [each.seq for each in phone.applied] == list(range(1, resumed.replay_to + 1))
    assert out.ItemDone in phone.caller.kinds(), "what came while it was away"
    phone.say("There again")
    await turns(5)
    assert heard(line) == ["Hello", "There again"]
    assert await phone.hang_up() is None
    await phone.stage.everything_is_given_back()
    assert phone.stage.observer.resumes == [("reattached", 0.0)]


async def test_what_was_written_and_never_arrived_comes_again_and_only_that(phone: Phone) -> None:
    for number in range(4):
        phone.say(f"number {number}")
    await turns(20)
    last = phone.last_seq
    await phone.drop()
    resumed = await phone.come_back(last_seq=last - 2)
    await turns(5)
    assert resumed.replay_to == last
    assert [each.seq for each in phone.caller.got if each.seq] == [last - 1, last]


async def test_audio_goes_on_where_the_caller_lost_it(phone: Phone) -> None:
    line = phone.stage.line
    line.tell("response.created", response={"id": "r"})
    for _ in range(5):
        speak(line, 480)
    await turns(10)
    await phone.drop()
    speak(line, 480)
    await turns(5)
    await phone.come_back(output=out.OutputPosition("i", received=500, played=100))
    await turns(5)
    positions = [each.event.position for each in phone.caller.got if isinstance(each.event, out.OutputAudio)]
    assert positions == [480, 720, 960, 1200], "240 samples each; the piece in which the caller stopped is whole"


async def test_audio_that_was_played_is_not_kept(phone: Phone) -> None:
    line = phone.stage.line
    line.tell("response.created", response={"id": "r"})
    for _ in range(5):
        speak(line, 480)
    await turns(10)
    ack = out.CallerAck(phone.last_seq, phone.caller.written_bytes, out.OutputPosition("i", 1200, 960))
    phone.caller.acknowledge(ack)
    await turns(5)
    await phone.drop()
    await phone.come_back()
    await turns(5)
    positions = [each.event.position for each in phone.caller.got if isinstance(each.event, out.OutputAudio)]
    assert positions == [960]


async def test_input_that_is_sent_again_is_taken_once(phone: Phone) -> None:
    phone.caller.play(b"\1\0" * 240, 0)
    phone.caller.play(b"\2\0" * 240, 240)
    await turns(5)
    await phone.drop()
    resumed = await phone.come_back(input_kept_from=0)
    assert resumed.input_position_wanted == 480
    phone.caller.play(b"\2\0" * 240, 240)
    phone.caller.play(b"\2\0" * 120 + b"\3\0" * 120, 360)
    await turns(5)
    sent = [event["audio"] for event in phone.stage.line.sent if event["type"] == "input_audio_buffer.append"]
    assert len(sent) == 3
    assert phone.stage.session.conversation.tally.audio_in_bytes == 2 * (480 + 120)


async def test_what_the_caller_cannot_send_again_is_not_waited_for(phone: Phone) -> None:
    phone.caller.play(bytes(480), 0)
    await turns(5)
    await phone.drop()
    resumed = await phone.come_back(input_kept_from=1000)
    assert resumed.input_position_wanted == 1000
    phone.caller.play(bytes(480), 1000)
    await turns(5)
    assert phone.stage.session.conversation.tally.audio_in_bytes == 960


async def test_events_that_the_caller_has_forgotten_are_a_gap_that_is_named(phone: Phone) -> None:
    for number in range(4):
        phone.say(f"number {number}")
    await turns(20)
    phone.caller.acknowledge()
    await turns(5)
    last = phone.last_seq
    await phone.drop()
    resumed = await phone.come_back(last_seq=2)
    assert (resumed.gap_from, resumed.gap_to) == (3, last)


# Nobody comes back.


async def test_a_session_waits_for_its_caller_and_no_longer(phone: Phone) -> None:
    line = phone.stage.line
    await phone.drop()
    await asyncio.sleep(LINE_KEPT - 0.1)
    assert line.is_open
    await asyncio.sleep(1.0)
    assert not line.is_open, "a caller that is away holds no line for longer"
    await asyncio.sleep(WINDOW - LINE_KEPT - 2.0)
    assert phone.stage.session.state is SessionState.DETACHED
    await asyncio.sleep(2.0)
    await phone.stage.everything_is_given_back()
    (report,) = phone.stage.observer.reports
    assert report.reason is out.ClosedReason.BYE_NOW
    assert refusal(await phone.resume()) is Reason.RESUME_REFUSED


async def test_who_comes_late_gets_another_line_that_knows_everything(phone: Phone) -> None:
    first = phone.stage.line
    phone.say("Remember me")
    await turns(10)
    await phone.drop()
    await asyncio.sleep(LINE_KEPT + 5.0)
    resumed = await phone.come_back()
    await turns(30)
    assert resumed.outcome is out.ResumeOutcome.REBUILT
    assert phone.stage.line is not first
    assert heard(phone.stage.line) == ["Remember me"]
    assert phone.stage.session.state is SessionState.ACTIVE
    phone.say("Still there")
    await turns(5)
    assert heard(phone.stage.line)[-1] == "Still there"
    assert phone.stage.observer.resumes[0][0] == "rebuilt"


async def test_a_line_that_is_lost_while_nobody_is_there_is_replaced_when_somebody_is(phone: Phone) -> None:
    phone.say("Remember me")
    await turns(10)
    await phone.drop()
    phone.stage.line.lose()
    await asyncio.sleep(5.0)
    assert phone.stage.pool.stats().leased == 0
    await phone.come_back()
    await turns(30)
    assert heard(phone.stage.line) == ["Remember me"]


async def test_a_caller_without_a_heartbeat_is_away(phone: Phone) -> None:
    phone.caller.beat_seconds = None
    began = now()
    assert phone.call is not None
    assert await phone.call is None, "its stream is ended; the session waits"
    assert 3.0 <= now() - began <= 4.5
    assert phone.stage.session.state is SessionState.DETACHED
    await phone.come_back()


async def test_a_caller_with_nothing_to_say_is_there(phone: Phone) -> None:
    await asyncio.sleep(200.0)
    assert phone.stage.session.state is SessionState.ACTIVE
    beats = [each for each in phone.caller.got if isinstance(each.event, out.Beat)]
    assert 100 <= len(beats) <= 300, "it hears the gateway's heart"


# Tokens.


async def test_tokens_are_renewed_and_old_ones_die_when_the_new_one_has_come(phone: Phone) -> None:
    old = phone.token
    await asyncio.sleep(32.0)
    assert phone.token != old
    await phone.drop()
    assert refusal(await phone.resume(token=old)) is Reason.RESUME_REFUSED
    phone.caller = phone.past.pop()
    assert (await phone.come_back()).outcome is out.ResumeOutcome.REATTACHED


async def test_a_token_that_was_sent_and_perhaps_not_read_leaves_the_old_one_valid(phone: Phone) -> None:
    old = phone.token
    phone.caller.beat_seconds = None
    for _ in range(16):  # it acknowledges nothing of what it reads
        phone.caller.acknowledge(out.CallerAck(1, EVENT_BYTES))
        await asyncio.sleep(2.0)
    assert phone.token != old
    await phone.drop()
    await phone.come_back(token=old)


@pytest.mark.parametrize("token", ["", "made up"])
async def test_what_is_no_token_opens_nothing(phone: Phone, token: str) -> None:
    await phone.drop()
    assert refusal(await phone.resume(token=token)) is Reason.RESUME_REFUSED


async def test_a_stolen_token_opens_nothing_and_says_no_more_than_a_made_up_one(phone: Phone) -> None:
    await phone.drop()
    thief = Caller(EVIL)
    thief.say(out.ResumeRequest(phone.token))
    stolen = await phone.stage.serve(thief)
    thief.say(out.ResumeRequest("made up"))
    made_up = await phone.stage.serve(thief)
    assert stolen is not None
    assert made_up is not None
    assert (refusal(stolen), stolen.message) == (refusal(made_up), made_up.message)
    await phone.come_back()


async def test_numbers_that_were_never_given_are_refused(phone: Phone) -> None:
    await phone.drop()
    assert refusal(await phone.resume(last_seq=1000)) is Reason.RESUME_REFUSED


async def test_a_plain_session_cannot_be_resumed(stage: Stage) -> None:
    await stage.warm()
    await stage.opened()
    token = stage.parts.tokens.issue(stage.session.id, stage.session.principal, "default", 1, 1)
    other = Caller()
    other.say(out.ResumeRequest(token))
    assert refusal(await stage.serve(other)) is Reason.RESUME_REFUSED
    assert len(stage.directory.sessions()) == 1


# Two streams.


async def test_the_last_stream_wins_and_the_other_is_told(phone: Phone) -> None:
    first = phone.call
    await phone.come_back()
    assert first is not None
    error = await first
    assert error is not None
    assert error.reason is Reason.SUPERSEDED
    phone.say("From the second")
    await turns(5)
    assert heard(phone.stage.line) == ["From the second"]
    assert phone.stage.session.state is SessionState.ACTIVE


async def test_a_race_of_many_leaves_one(phone: Phone) -> None:
    calls = [phone.call]
    token = phone.token
    for number in range(10):
        calls += [phone.resume(token=token)]
        if number % 2:  # so many may be silent at once here
            await turns(8)
    await turns(30)
    ended = [call for call in calls if call is not None and call.done()]
    assert len(ended) == 10
    assert {error.reason for call in ended if (error := call.result()) is not None} == {Reason.SUPERSEDED}
    phone.say("The last one")
    await turns(5)
    assert heard(phone.stage.line) == ["The last one"]


async def test_a_control_in_the_middle_of_being_carried_out_is_carried_out_once(phone: Phone) -> None:
    line = phone.stage.line
    line.may_send.clear()
    events = tuple({"type": kind} for kind in ("input_audio_buffer.clear", "response.create"))
    phone.cseq += 1
    phone.caller.say(out.Control(events, phone.cseq))
    await turns(5)
    await phone.drop()
    resumed = await phone.come_back()
    assert resumed.next_cseq == 2
    phone.caller.say(out.Control(events, 1))
    phone.say("Behind it")
    await turns(5)
    line.may_send.set()
    await turns(10)
    assert line.types()[-3:] == ["input_audio_buffer.clear", "response.create", "conversation.item.create"]


# The window.


async def test_no_more_is_under_way_than_the_caller_has_room_for(stage: Stage) -> None:
    stage.limit(resume=ResumeOptions(window_bytes=10 * EVENT_BYTES))
    await stage.warm()
    phone = Phone(stage)
    await phone.open()
    phone.caller.beat_seconds = None
    for number in range(30):
        stage.line.tell("conversation.item.done", item={"id": f"i{number}"})
    await turns(40)
    assert len(phone.caller.got) == 10
    phone.caller.acknowledge()
    await turns(20)
    assert len(phone.caller.got) == 20
    phone.caller.beat_seconds = 0.5


# The end.


async def test_a_goodbye_whose_answer_is_lost_is_answered_on_the_next_stream(phone: Phone) -> None:
    phone.caller.may_write.clear()
    phone.bye()
    await turns(10)
    await phone.drop()
    await phone.come_back()
    await phone.caller.until(out.Closed)
    phone.caller.acknowledge()
    assert phone.call is not None
    assert await phone.call is None
    await phone.stage.everything_is_given_back()


async def test_a_half_close_is_no_goodbye(phone: Phone) -> None:
    phone.caller.say(None)
    assert phone.call is not None
    assert await phone.call is None
    assert phone.stage.session.state is SessionState.DETACHED
    await phone.come_back()


async def test_a_session_that_is_ended_while_nobody_is_there_is_gone(phone: Phone) -> None:
    await phone.drop()
    await phone.stage.directory.drain(0.0)
    await phone.stage.everything_is_given_back()


async def test_what_was_said_meanwhile_may_come_as_fast_as_it_can(phone: Phone) -> None:
    await phone.drop()
    await asyncio.sleep(8.0)
    await phone.come_back()
    began = now()
    for number in range(80):
        phone.caller.play(bytes(4800), number * 2400)
    await turns(300)
    assert phone.stage.session.conversation.tally.audio_in_bytes == 80 * 4800
    assert now() == began


async def test_nobody_is_waited_for_who_was_told_nothing(stage: Stage) -> None:
    await stage.warm()
    phone = Phone(stage)
    phone.caller.may_write.clear()
    phone.caller.say(out.OpenRequest(resumable=True))
    phone.call = stage.serve(phone.caller)
    await turns(10)
    assert stage.pool.leases
    await phone.drop()
    await turns(30)
    await stage.everything_is_given_back()
