"""What went wrong in resumable sessions once: slow stores, stuck lines, lost answers, hostile numbers."""

import asyncio

import pytest

from gateway.core import events as out
from gateway.core.errors import Reason, StoreError
from gateway.core.session import SessionState
from gateway.runtime.session_options import ResumeOptions
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import EVENT_BYTES, EVIL, Caller
from tests.unit.runtime.resuming import Phone
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import speak
from tests.unit.runtime.test_claim import Pair, pair
from tests.unit.runtime.test_line_loss import heard
from tests.unit.runtime.test_resume import phone

__all__ = ["pair", "phone"]


async def test_a_control_that_the_store_has_not_is_not_acknowledged_and_counts_at_the_next_gateway(pair: Pair) -> None:
    phone, store = pair.phone, pair.first.store
    phone.say("a")
    await turns(10)
    store.may_store.clear()
    phone.say("b")
    await asyncio.sleep(2.0)
    assert phone.caller.acks[-1].cseq == 1
    await pair.kill()
    store.failure = StoreError(Reason.STORE_UNAVAILABLE, "gone with the gateway")
    store.may_store.set()
    await turns(4)
    store.failure = None
    resumed = await phone.come_back(last_seq=3)
    assert resumed.next_cseq == 2
    phone.cseq = 1
    phone.say("b")
    phone.say("c")
    await turns(30)
    assert heard(pair.second.line) == ["a", "b", "c"]


async def test_a_control_that_is_stored_late_is_acknowledged_then(phone: Phone) -> None:
    phone.stage.store.may_store.clear()
    phone.say("a")
    await asyncio.sleep(2.0)
    assert phone.caller.acks[-1].cseq == 0
    phone.stage.store.may_store.set()
    await asyncio.sleep(2.0)
    assert phone.caller.acks[-1].cseq == 1


async def test_what_the_caller_never_received_of_an_answer_is_told_as_cut(pair: Pair) -> None:
    phone, line = pair.phone, pair.first.line
    phone.control("response.create")
    await turns(5)
    line.tell("response.created", response={"id": "r"})
    for _ in range(5):
        speak(line)
    line.tell("conversation.item.done", item={"id": "i", "type": "message", "role": "assistant", "content": []})
    line.tell("response.done", response={"id": "r", "status": "completed"})
    await turns(20)
    await pair.kill()
    await phone.come_back(output=out.OutputPosition("i", 240, 240))
    await turns(30)
    (cut,) = [event for event in phone.caller.events() if isinstance(event, out.Interrupted)]
    assert (cut.item_id, cut.sent_samples) == ("i", 240)
    assert "response.create" not in pair.second.line.types()


async def test_an_answer_that_was_cut_before_does_not_eat_the_next_one(pair: Pair) -> None:
    phone, line = pair.phone, pair.first.line
    phone.control("response.create")
    await turns(5)
    line.tell("response.created", response={"id": "r"})
    speak(line)
    await turns(10)
    line.lose()
    await asyncio.sleep(1.0)
    phone.say("again")
    phone.control("response.create")
    await turns(20)
    await pair.kill()
    await phone.come_back(output=out.OutputPosition("i", 240, 240))
    await turns(30)
    assert "response.create" in pair.second.line.types()


async def test_a_caller_whose_words_the_line_does_not_take_is_there(phone: Phone) -> None:
    phone.stage.line.may_send.clear()
    phone.caller.play(bytes(480), 0)
    await asyncio.sleep(8.0)
    assert phone.call is not None
    assert not phone.call.done()
    phone.stage.line.may_send.set()


async def test_a_caller_that_has_waited_for_its_line_is_there(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    stage.group.start()
    await turns(8)
    phone = Phone(stage)
    phone.caller.say(out.OpenRequest(resumable=True, wait_max_ms=10_000))
    phone.call = stage.serve(phone.caller)
    await asyncio.sleep(1.5)
    stage.exchange.may_answer.set()
    await phone.caller.until(out.Opened)
    await asyncio.sleep(2.0)
    phone.caller.acknowledge()
    await turns(4)
    assert not phone.call.done()
    phone.caller.beat_seconds = 0.5


async def test_two_that_come_back_at_once_make_one_session(pair: Pair) -> None:
    phone, store = pair.phone, pair.first.store
    await pair.kill()
    token = phone.token
    first = phone.resume(token=token)
    second = phone.resume(token=token)
    await turns(30)
    assert [session.id for session in pair.second.directory.sessions()] == [pair.first.session.id]
    assert first.done()
    assert not second.done()
    assert len(store.epochs) == 1


async def test_an_owner_that_lost_the_session_unseen_claims_it_back(pair: Pair) -> None:
    phone, store = pair.phone, pair.first.store
    (key,) = store.log
    await phone.drop()
    await store.claim(key, 1, phone.last_seq, ())  # elsewhere, and its answer was lost
    resumed = await phone.come_back()
    assert resumed.outcome is out.ResumeOutcome.REBUILT
    phone.say("hello")
    await asyncio.sleep(3.0)
    assert phone.call is not None
    assert not phone.call.done()
    assert heard(pair.first.line)[-1] == "hello"
    assert pair.first.session.state is SessionState.ACTIVE


async def test_a_gateway_that_does_not_know_the_template_fences_nobody(pair: Pair) -> None:
    phone = pair.phone
    pools = dict(pair.second.pools)
    pair.second.pools.clear()
    phone.stage = pair.second
    assert await phone.resume() is not None
    pair.second.pools.update(pools)
    assert pair.first.store.epochs == {}


async def test_a_caller_that_hangs_up_on_its_sessions_leaves_room_for_others(phone: Phone) -> None:
    stage = phone.stage
    await phone.drop()
    again, other = Caller(), Caller(EVIL)
    for each in (again, other):
        each.say(out.OpenRequest(resumable=True))
    refusal = await stage.serve(again)
    assert refusal is not None
    assert refusal.reason is Reason.OVERLOADED
    call = stage.serve(other)
    await other.until(out.Opened)
    other.say(out.Bye(now=True, cseq=1))
    await call
    await phone.come_back()
    assert await phone.hang_up() is None


async def test_audio_that_is_not_played_holds_no_event(phone: Phone) -> None:
    line = phone.stage.line
    line.tell("response.created", response={"id": "r"})
    speak(line)
    await turns(5)
    for number in range(100):
        line.tell("conversation.item.done", item={"id": f"i{number}"})
    await turns(150)
    output = out.OutputPosition("i", 240, 100)
    phone.caller.acknowledge(out.CallerAck(phone.last_seq, phone.caller.written_bytes, output))
    await turns(5)
    assert phone.stage.session.callers is not None
    assert len(phone.stage.session.callers._outbox._sent or ()) == 1


async def test_as_much_as_a_caller_keeps_may_come_at_once(phone: Phone) -> None:
    await phone.drop()
    await asyncio.sleep(10.0)
    await phone.come_back()
    for number in range(256):
        phone.say(f"n{number}")
    await asyncio.sleep(2.0)
    assert phone.call is not None
    assert not phone.call.done()


async def test_a_token_that_was_on_its_way_does_not_come_behind_a_newer_one(phone: Phone) -> None:
    phone.caller.may_write.clear()
    callers = phone.stage.session.callers
    assert callers is not None
    callers.tell(out.Beat())
    callers.tell(out.Token(callers.downlink.issue_token(), callers.downlink.token_number))
    await turns(5)
    await phone.drop()
    await phone.come_back()
    await turns(10)
    assert out.Token not in phone.caller.kinds()


async def test_beats_do_not_pile_up_where_the_window_is_full(stage: Stage) -> None:
    stage.limit(resume=ResumeOptions(window_bytes=10 * EVENT_BYTES))
    await stage.warm()
    phone = Phone(stage)
    await phone.open()
    phone.caller.beat_seconds = None
    for number in range(30):
        stage.line.tell("conversation.item.done", item={"id": f"i{number}"})
    await turns(40)
    for _ in range(40):
        phone.caller.acknowledge(out.CallerAck(1, 0))
        await asyncio.sleep(0.25)
    assert stage.session.callers is not None
    assert len(stage.session.callers._outbox) <= 30
    phone.caller.beat_seconds = 0.5


@pytest.mark.parametrize("position", [1 << 53, (1 << 64) - 1])
async def test_a_position_that_no_session_comes_to_is_refused(phone: Phone, position: int) -> None:
    phone.caller.play(bytes(480), position)
    told = await phone.caller.until(out.Closed)
    assert isinstance(told.event, out.Closed)
    assert told.event.error is not None
    assert told.event.error.reason is Reason.INVALID_FRAME


async def test_a_caller_that_is_back_without_a_line_is_told_in_time(phone: Phone) -> None:
    stage = phone.stage
    await phone.drop()
    await asyncio.sleep(35.0)
    stage.exchange.may_answer.clear()
    stage.slots.may_grant.clear()
    for line in stage.exchange.lines:
        line.lose()
    await phone.come_back()
    began = now()
    async with asyncio.timeout(100):
        await phone.caller.until(out.Closed)
    assert now() - began <= 25.0
    stage.exchange.may_answer.set()
    stage.slots.may_grant.set()


async def test_who_lost_its_stream_behind_goodbye_has_all_of_the_window_to_come_for_the_rest(phone: Phone) -> None:
    phone.caller.may_write.clear()
    phone.bye()
    await turns(10)
    await phone.drop()
    await asyncio.sleep(100.0)
    await phone.come_back()
    await phone.caller.until(out.Closed)
    phone.caller.acknowledge()
    assert phone.call is not None
    assert await phone.call is None
