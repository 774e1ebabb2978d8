"""A session whose gateway is gone goes on at another one: what was said is there, what was missed comes, once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core import events as out
from gateway.core.errors import GatewayError, Reason, StoreError
from gateway.core.session import SessionState
from tests.support.virtual_time import turns
from tests.unit.runtime.resuming import Phone
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import speak
from tests.unit.runtime.test_line_loss import heard


class Pair:
    """Two gateways with one store, and a caller of the first."""

    def __init__(self, first: Stage, second: Stage) -> None:
        self.first, self.second = first, second
        self.phone = Phone(first)

    async def kill(self) -> None:
        """The first gateway is gone, without a word: nothing that it does counts any more."""
        assert self.phone.call is not None
        self.phone.caller.gone = True
        self.phone.call.cancel()
        await asyncio.gather(self.phone.call, return_exceptions=True)
        self.phone.stage = self.second


@pytest.fixture
async def pair(stage: Stage) -> AsyncIterator[Pair]:
    """A resumable session at one gateway; another one stands ready."""
    made = Pair(stage, Stage(store=stage.store, form=stage.form, sealer=stage.sealer, gateway="gateway-2"))
    await made.first.warm()
    await made.second.warm()
    try:
        await made.phone.open(correlation_id="c-7", metadata={"a": "b"})
        yield made
    finally:
        await made.second.clear()


async def test_another_gateway_knows_what_was_said(pair: Pair) -> None:
    phone = pair.phone
    phone.say("My name is Ada")
    await turns(10)
    pair.first.line.tell("conversation.item.done", item={"id": "item_tl_1", "type": "message", "role": "user"})
    await turns(10)
    await pair.kill()
    resumed = await phone.come_back()
    await turns(30)
    assert resumed.outcome is out.ResumeOutcome.REBUILT
    assert resumed.next_cseq == 2
    assert (resumed.gap_from, resumed.gap_to) == (0, 0)
    assert heard(pair.second.line) == ["My name is Ada"]
    session = pair.second.session
    assert session.id == pair.first.session.id
    assert session.state is SessionState.ACTIVE
    assert (session.request.correlation_id, session.request.metadata) == ("c-7", {"a": "b"})
    phone.say("And you?")
    await turns(5)
    assert heard(pair.second.line) == ["My name is Ada", "And you?"]
    assert pair.second.observer.resumes[0][0] == "rebuilt"
    assert await phone.hang_up() is None
    await pair.second.everything_is_given_back()


async def test_what_the_caller_missed_comes_again_with_its_numbers(pair: Pair) -> None:
    phone = pair.phone
    await turns(5)
    before = phone.last_seq
    phone.caller.may_write.clear()
    for number in range(3):
        item = {"id": f"i{number}", "type": "message", "role": "assistant", "content": []}
        pair.first.line.tell("conversation.item.done", item=item)
    await turns(20)
    await pair.kill()
    resumed = await phone.come_back()
    await turns(20)
    assert resumed.replay_to == before + 3
    seqs = [each.seq for each in phone.applied]
    assert seqs == list(range(1, len(seqs) + 1))
    assert [e.item_id for e in phone.caller.events() if isinstance(e, out.ItemDone)] == ["i0", "i1", "i2"]


async def test_the_old_owner_can_write_no_more_and_ends(pair: Pair) -> None:
    phone = pair.phone
    await pair.kill()
    await turns(6)
    assert pair.first.session.state is SessionState.DETACHED
    await phone.come_back()
    pair.first.line.tell("conversation.item.done", item={"id": "late", "type": "message", "role": "assistant"})
    await turns(30)
    (report,) = pair.first.observer.reports
    assert report.reason is out.ClosedReason.SUPERSEDED
    assert pair.first.directory.sessions() == []
    assert "late" not in [e.item_id for e in phone.caller.events() if isinstance(e, out.ItemDone)]


async def test_an_old_owner_that_has_nothing_to_write_learns_of_it_too(pair: Pair) -> None:
    await pair.kill()
    line = pair.first.line
    await pair.phone.come_back()
    await asyncio.sleep(1.5)
    assert not line.is_open
    assert pair.first.directory.sessions() == []
    assert pair.second.session.state is SessionState.ACTIVE


async def test_an_answer_that_was_asked_for_and_not_begun_is_asked_for_again(pair: Pair) -> None:
    pair.phone.control("response.create", response={"instructions": "Say hello"})
    await turns(10)
    await pair.kill()
    await pair.phone.come_back()
    await turns(30)
    asked = [event for event in pair.second.line.sent if event["type"] == "response.create"]
    assert [event["response"]["instructions"] for event in asked] == ["Say hello"]


async def test_an_answer_that_was_heard_in_part_is_not_begun_again_and_named(pair: Pair) -> None:
    phone = pair.phone
    phone.control("response.create")
    await turns(5)
    pair.first.line.tell("response.created", response={"id": "r"})
    speak(pair.first.line)
    await turns(10)
    await pair.kill()
    await phone.come_back(output=out.OutputPosition("i", 240, 240))
    await turns(30)
    assert "response.create" not in pair.second.line.types()
    cut = next(event for event in phone.caller.events() if isinstance(event, out.Interrupted))
    assert (cut.item_id, cut.cause, cut.sent_samples) == ("i", out.InterruptionCause.UPSTREAM_LOST, 240)
    named = [event.unrestored_items for event in phone.caller.events() if isinstance(event, out.StateChanged)]
    assert ("i",) in named


async def test_a_tool_call_that_was_made_is_there_with_its_result_and_not_made_again(pair: Pair) -> None:
    phone = pair.phone
    phone.control("response.create")
    await turns(5)
    first = pair.first.line
    first.tell("response.created", response={"id": "r"})
    call = {"id": "fc", "type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}
    done = {key: value for key, value in call.items() if key in {"call_id", "name", "arguments"}}
    first.tell("response.function_call_arguments.done", response_id="r", item_id="fc", **done)
    first.tell("conversation.item.done", item=call)
    first.tell("response.done", response={"id": "r", "status": "completed", "output": [call]})
    await turns(20)
    output = {"type": "function_call_output", "call_id": "c1", "output": "42"}
    phone.control("conversation.item.create", item=output)
    await turns(10)
    await pair.kill()
    await phone.come_back()
    await turns(30)
    items = [event["item"] for event in pair.second.line.sent if event["type"] == "conversation.item.create"]
    assert [item["type"] for item in items] == ["function_call", "function_call_output"]
    assert [item["call_id"] for item in items] == ["c1", "c1"]
    assert "response.create" not in pair.second.line.types()


async def test_seeds_are_there_under_their_names(stage: Stage) -> None:
    second = Stage(store=stage.store, form=stage.form, sealer=stage.sealer, gateway="gateway-2")
    pair = Pair(stage, second)
    await stage.warm()
    await second.warm()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Before"}]}
    await pair.phone.open(history=({"type": "conversation.item.create", "item": item},))
    await turns(10)
    (seed,) = [event["item"] for event in stage.line.sent if event["type"] == "conversation.item.create"]
    await pair.kill()
    await pair.phone.come_back()
    await turns(30)
    (again,) = [event["item"] for event in second.line.sent if event["type"] == "conversation.item.create"]
    assert (again["id"], heard(second.line)) == (seed["id"], ["Before"])
    pair.phone.say("New")
    await turns(5)
    names = [event["item"]["id"] for event in second.line.sent if event["type"] == "conversation.item.create"]
    assert len(set(names)) == len(names) == 2
    await second.clear()


async def test_a_changed_configuration_is_kept(pair: Pair) -> None:
    pair.phone.control("session.update", session={"instructions": "Sing."})
    await turns(10)
    await pair.kill()
    await pair.phone.come_back()
    await turns(30)
    updates = [event["session"] for event in pair.second.line.sent if event["type"] == "session.update"]
    assert updates[-1]["instructions"] == "Sing."


async def test_a_spoken_turn_whose_words_are_not_known_is_named(pair: Pair) -> None:
    phone, line = pair.phone, pair.first.line
    phone.caller.play(bytes(48_000), 0)
    line.tell("input_audio_buffer.speech_started", item_id="u1", audio_start_ms=0)
    line.tell("input_audio_buffer.speech_stopped", item_id="u1", audio_end_ms=500)
    line.tell("input_audio_buffer.committed", item_id="u1")
    await turns(20)
    await pair.kill()
    resumed = await phone.come_back()
    await turns(30)
    assert resumed.input_position_wanted == 12_000, "what follows the turn is wanted again"
    named = [event.unrestored_items for event in phone.caller.events() if isinstance(event, out.StateChanged)]
    assert ("u1",) in named


async def test_a_turn_that_its_caller_had_ended_is_ended_behind_its_audio(stage: Stage) -> None:
    manual = {"audio": {"input": {"turn_detection": None}}}
    second = Stage(store=stage.store, form=stage.form, sealer=stage.sealer, gateway="gateway-2")
    pair = Pair(stage, second)
    await stage.warm()
    await second.warm()
    phone = pair.phone
    await phone.open(overrides=manual)
    phone.caller.play(bytes(4800), 0)
    phone.control("input_audio_buffer.commit")
    phone.control("response.create")
    await turns(10)
    await pair.kill()
    resumed = await phone.come_back()
    await turns(30)
    assert (resumed.input_position_wanted, resumed.next_cseq) == (0, 3)
    assert "input_audio_buffer.commit" not in second.line.types(), "there is nothing to commit yet"
    phone.caller.play(bytes(2400), 0)
    phone.caller.play(bytes(2400), 1200)
    await turns(20)
    assert second.line.types()[-4:] == [
        "input_audio_buffer.append",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "response.create",
    ]
    await second.clear()


async def test_two_turns_that_were_not_answered_are_two_at_the_next_gateway(stage: Stage) -> None:
    manual = {"audio": {"input": {"turn_detection": None}}}
    second = Stage(store=stage.store, form=stage.form, sealer=stage.sealer, gateway="gateway-2")
    pair = Pair(stage, second)
    await stage.warm()
    await second.warm()
    phone = pair.phone
    await phone.open(overrides=manual)
    for at, size in ((0, 4800), (2400, 2400)):
        phone.caller.play(bytes([at % 251]) * size, at)
        phone.control("input_audio_buffer.commit")
    phone.control("response.create")
    await turns(10)
    await pair.kill()
    await phone.come_back()
    await turns(30)
    phone.caller.play(bytes(4800) + bytes([1]) * 2400 + bytes([2]) * 960, 0)  # all of it in one piece
    await turns(20)
    assert [each if isinstance(each, str) else len(each) for each in heard(second.line)] == [
        "session.update",
        4800,
        "input_audio_buffer.commit",
        2400,
        "input_audio_buffer.commit",
        "response.create",
        960,
    ]
    await second.clear()


async def test_a_goodbye_that_was_said_is_remembered(pair: Pair) -> None:
    phone, line = pair.phone, pair.first.line
    phone.control("response.create")
    await turns(5)
    line.tell("response.created", response={"id": "r"})
    phone.bye()
    await turns(10)
    await pair.kill()
    await phone.come_back()
    await phone.caller.until(out.Closed)
    phone.caller.acknowledge()
    assert phone.call is not None
    assert await phone.call is None


async def test_nobody_takes_over_what_is_not_stored(pair: Pair) -> None:
    await pair.kill()
    pair.first.store.log.clear()
    error = await pair.phone.resume()
    assert isinstance(error, GatewayError)
    assert error.reason is Reason.RESUME_REFUSED


async def test_without_the_store_it_may_be_tried_again(pair: Pair) -> None:
    await pair.kill()
    pair.first.store.claim_failure = StoreError(Reason.STORE_UNAVAILABLE, "away")
    error = await pair.phone.resume()
    assert isinstance(error, GatewayError)
    assert (error.reason, error.retryable) == (Reason.STORE_UNAVAILABLE, True)
    pair.first.store.claim_failure = None
    pair.phone.caller = pair.phone.past.pop()
    await pair.phone.come_back()


async def test_a_gateway_that_goes_away_takes_nobody_over(pair: Pair) -> None:
    await pair.kill()
    await pair.second.directory.drain(0.0)
    error = await pair.phone.resume()
    assert isinstance(error, GatewayError)
    assert error.reason is Reason.DRAINING


async def test_a_gateway_that_is_drained_sends_its_sessions_on(pair: Pair) -> None:
    phone = pair.phone
    pair.first.store.durability = out.Durability.REPLICATED
    phone.say("My name is Ada")
    await turns(10)
    await pair.first.directory.drain(45.0)
    assert phone.call is not None
    error = await phone.call
    assert error is not None
    assert (error.reason, error.retryable) == (Reason.DRAINING, True)
    assert out.Closed not in phone.caller.kinds()
    assert out.GoAway in phone.caller.kinds()
    phone.stage = pair.second
    await phone.come_back()
    await turns(30)
    assert heard(pair.second.line) == ["My name is Ada"]
    await pair.first.everything_is_given_back()


async def test_a_session_in_the_middle_of_an_answer_moves_behind_it(pair: Pair) -> None:
    phone, line = pair.phone, pair.first.line
    pair.first.store.durability = out.Durability.REPLICATED
    phone.control("response.create")
    await turns(5)
    line.tell("response.created", response={"id": "r"})
    await turns(5)
    draining = asyncio.ensure_future(pair.first.directory.drain(45.0))
    await asyncio.sleep(5.0)
    assert phone.call is not None
    assert not phone.call.done()
    line.tell("response.done", response={"id": "r", "status": "completed"})
    await draining
    assert out.ResponseDone in phone.caller.kinds()


async def test_a_session_whose_record_dies_with_the_gateway_is_closed_with_a_word(pair: Pair) -> None:
    await pair.first.directory.drain(1.0)
    assert out.Closed in pair.phone.caller.kinds()


async def test_it_can_go_on_and_on(pair: Pair) -> None:
    phone = pair.phone
    phone.say("one")
    await turns(10)
    await pair.kill()
    await phone.come_back()
    await turns(30)
    phone.say("two")
    await turns(10)
    third = Stage(store=pair.first.store, form=pair.first.form, sealer=pair.first.sealer, gateway="gateway-3")
    await third.warm()
    assert phone.call is not None
    phone.call.cancel()
    await asyncio.gather(phone.call, return_exceptions=True)
    phone.stage = third
    await phone.come_back()
    await turns(30)
    assert heard(third.line) == ["one", "two"]
    assert third.session.epoch > pair.second.session.epoch > pair.first.session.epoch
    await third.clear()
