"""A session moves to another gateway while the first still has it: a line is made ready, and then the caller goes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core import events as out
from gateway.core.errors import GatewayError, Reason
from gateway.core.session import SessionState
from gateway.runtime.preparing import CLAIM_SECONDS
from tests.support.virtual_time import turns
from tests.unit.runtime.fakes import ACME, Caller, Line
from tests.unit.runtime.holders import until
from tests.unit.runtime.resuming import BEAT_SECONDS, Phone
from tests.unit.runtime.stage import Stage
from tests.unit.runtime.talk import Call
from tests.unit.runtime.test_line_loss import answered, heard

SAID = ["My name is Ada", "Foggy."]


class Mover:
    """A caller of one gateway that has a second stream, at another."""

    def __init__(self, first: Stage, second: Stage) -> None:
        self.first, self.second = first, second
        self.phone = Phone(first)
        self.ready = Caller(ACME)
        self.call: Call | None = None

    async def talk(self, words: str = SAID[0], answer: str = SAID[1]) -> None:
        line = self.first.line
        self.phone.say(words)
        self.phone.control("response.create")
        await turns(10)
        item = line.sent[-2]["item"]
        line.tell("conversation.item.done", item=item)
        answered(line, answer, f"a{len(line.sent)}")
        await self.phone.caller.until(out.ResponseDone)
        await turns(10)

    def ask(self, **request: Any) -> Call:
        """Ask the second gateway to make a line ready."""
        asked = {"token": self.phone.token, "last_seq": self.phone.last_seq, "prepares": True, **request}
        self.ready.say(out.ResumeRequest(**asked))
        self.call = self.second.serve(self.ready)
        return self.call

    async def prepare(self) -> Line:
        self.ask()
        await self.ready.until(out.Prepared)
        await turns(10)
        return next(line for line in self.second.exchange.lines if line.sent)

    async def move(self, **request: Any) -> out.Resumed:
        """Claim on the second stream what was made ready there."""
        phone = self.phone
        phone.past.append(phone.caller)
        self.ready.beat_seconds = BEAT_SECONDS
        self.ready.say(out.ResumeRequest(**{"token": phone.token, "last_seq": phone.last_seq, **request}))
        prepared, phone.caller, phone.call, phone.stage = self.ready.got[:1], self.ready, self.call, self.second
        await self.ready.until(out.Resumed)
        del self.ready.got[:1]
        assert [type(each.event) for each in prepared] == [out.Prepared]
        await turns(20)
        return phone.resumed


@pytest.fixture
async def mover(stage: Stage) -> AsyncIterator[Mover]:
    second = Stage(store=stage.store, form=stage.form, sealer=stage.sealer, gateway="gateway-2")
    made = Mover(stage, second)
    stage.store.durability = out.Durability.REPLICATED
    await made.first.warm()
    await second.warm()
    try:
        await made.phone.open(moves=True)
        yield made
    finally:
        await second.clear()


async def test_a_line_knows_what_was_said_before_the_session_moves(mover: Mover) -> None:
    await mover.talk()
    ready = await mover.prepare()
    assert heard(ready) == SAID
    assert mover.first.session.state is SessionState.ACTIVE, "nothing has moved yet"
    assert mover.second.directory.sessions() == []
    await mover.talk("And now?", "Rain.")
    before = len(ready.sent)
    resumed = await mover.move()
    assert resumed.outcome is out.ResumeOutcome.REBUILT
    assert mover.second.line is ready
    assert heard(ready) == [*SAID, "And now?", "Rain."]
    assert len(ready.sent) == before + 2, "what it knew it is not told again"
    assert (resumed.gap_from, resumed.unrestored_items) == (0, ())
    mover.phone.say("Thanks")
    await turns(10)
    assert heard(ready)[-1] == "Thanks"
    assert await mover.phone.hang_up() is None
    await mover.second.everything_is_given_back()


async def test_the_line_answers_to_what_it_was_told_and_the_caller_hears_nothing_of_it(mover: Mover) -> None:
    await mover.talk()
    ready = await mover.prepare()
    for event in ready.sent:
        if event["type"] == "conversation.item.create":
            ready.tell("conversation.item.done", item=event["item"])
    await mover.move()
    assert not [each for each in mover.phone.caller.events() if isinstance(each, out.ItemDone)]
    mover.phone.control("response.create")
    await turns(10)
    answered(ready, "Sun.")
    await mover.phone.caller.until(out.ResponseDone)


async def test_an_item_that_the_line_refuses_is_not_expected_any_more(mover: Mover) -> None:
    await mover.talk()
    ready = await mover.prepare()
    refused = ready.sent[0]["event_id"]
    ready.tell("error", error={"type": "invalid_request_error", "message": "no", "event_id": refused})
    await mover.move()
    changes = [each for each in mover.phone.caller.events() if isinstance(each, out.StateChanged)]
    assert [item for each in changes for item in each.unrestored_items] == [ready.sent[0]["item"]["id"]]
    mover.phone.say("And now?")
    await turns(10)
    ready.lose()
    await until(lambda: mover.second.line is not ready)
    await turns(10)
    assert heard(mover.second.line) == [*SAID[1:], "And now?"], "nobody is told it again"


async def test_the_older_gateway_can_write_no_more(mover: Mover) -> None:
    await mover.talk()
    await mover.prepare()
    first = mover.first.line
    await mover.move()
    answered(first)
    await until(lambda: bool(mover.first.observer.reports))
    (report,) = mover.first.observer.reports
    assert report.reason is out.ClosedReason.SUPERSEDED


async def test_what_does_not_hold_any_more_is_told_to_another_line(mover: Mover) -> None:
    await mover.talk()
    ready = await mover.prepare()
    item_id = ready.sent[0]["item"]["id"]
    mover.phone.control("conversation.item.delete", item_id=item_id)
    await turns(10)
    mover.first.line.tell("conversation.item.deleted", item_id=item_id)
    await turns(10)
    await mover.move()
    await asyncio.sleep(1.0)
    assert mover.second.line is not ready
    assert not ready.is_open
    assert heard(mover.second.line) == SAID[1:]


async def test_a_ready_line_that_dies_is_replaced(mover: Mover) -> None:
    await mover.talk()
    ready = await mover.prepare()
    ready.lose()
    await turns(10)
    await mover.move()
    await asyncio.sleep(1.0)
    assert mover.second.line is not ready
    assert heard(mover.second.line) == SAID


async def test_a_caller_that_does_not_come_leaves_no_line_behind(mover: Mover) -> None:
    await mover.talk()
    ready = await mover.prepare()
    await asyncio.sleep(CLAIM_SECONDS / 2)
    assert ready.is_open, "it is in use, and not taken back"
    await asyncio.sleep(CLAIM_SECONDS / 2 + 1)
    assert mover.call is not None
    refusal = await mover.call
    assert refusal is not None
    assert refusal.reason is Reason.FIRST_FRAME_EXPECTED
    await mover.second.everything_is_given_back()
    assert mover.first.session.state is SessionState.ACTIVE


async def test_a_caller_that_goes_away_leaves_no_line_behind(mover: Mover) -> None:
    await mover.talk()
    await mover.prepare()
    assert mover.call is not None
    mover.call.cancel()
    await asyncio.gather(mover.call, return_exceptions=True)
    await turns(10)
    assert mover.second.pool.leases == {}


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (out.OpenRequest(), Reason.INVALID_FRAME),
        (out.ResumeRequest("", prepares=True), Reason.INVALID_FRAME),
        (out.ResumeRequest("forged"), Reason.RESUME_REFUSED),
    ],
)
async def test_what_was_made_ready_is_for_its_session_alone(
    message: out.CallerMessage, reason: Reason, mover: Mover
) -> None:
    await mover.talk()
    await mover.prepare()
    mover.ready.say(message)
    assert mover.call is not None
    refusal = await mover.call
    assert refusal is not None
    assert refusal.reason is reason
    await turns(10)
    assert mover.second.pool.leases == {}
    assert mover.first.session.state is SessionState.ACTIVE


@pytest.mark.parametrize("case", ["forged", "drains", "unknown"])
async def test_nobody_gets_a_line_ready_who_could_not_resume(case: str, mover: Mover) -> None:
    await mover.talk()
    if case == "drains":
        draining = asyncio.ensure_future(mover.second.directory.drain(5.0))
        await turns(3)
    if case == "unknown":
        mover.first.store.log.clear()
    call = mover.ask(**({"token": "forged"} if case == "forged" else {}))
    refusal = await call
    assert isinstance(refusal, GatewayError)
    assert refusal.reason is (Reason.DRAINING if case == "drains" else Reason.RESUME_REFUSED)
    assert mover.second.pool.leases == {}
    if case == "drains":
        await draining


async def test_a_session_has_one_line_made_ready_at_a_time(mover: Mover) -> None:
    await mover.talk()
    first = mover.ask()
    await mover.ready.until(out.Prepared)
    mover.ready = Caller(ACME)
    refusal = await mover.ask()
    assert refusal is not None
    assert (refusal.reason, refusal.retry_after_seconds) == (Reason.RATE_LIMITED, 1.0)
    assert len(mover.second.pool.leases) == 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    mover.ready = Caller(ACME)
    mover.ask()
    await mover.ready.until(out.Prepared)


async def test_a_session_that_is_here_needs_no_other_line(mover: Mover) -> None:
    await mover.talk()
    mover.second = mover.first
    mover.ask()
    await mover.ready.until(out.Prepared)
    line = mover.first.line
    assert len(mover.first.pool.leases) == 1
    resumed = await mover.move()
    assert resumed.outcome is out.ResumeOutcome.REATTACHED
    assert mover.first.line is line


async def test_a_drain_asks_callers_that_move_by_themselves_and_waits_for_them(mover: Mover) -> None:
    await mover.talk()
    draining = asyncio.ensure_future(mover.first.directory.drain(40.0))
    told = await mover.phone.caller.until(out.GoAway)
    assert told.event == out.GoAway("draining", 40_000)
    await asyncio.sleep(5.0)
    assert mover.first.session.state is SessionState.ACTIVE, "it is not sent away while it may move"
    await mover.prepare()
    await mover.move()
    await asyncio.wait_for(draining, 3.0)
    (report,) = mover.first.observer.reports
    assert report.reason is out.ClosedReason.SUPERSEDED


async def test_a_caller_that_was_asked_and_does_not_move_is_sent_away(mover: Mover) -> None:
    await mover.talk()
    draining = asyncio.ensure_future(mover.first.directory.drain(40.0))
    assert mover.phone.call is not None
    refusal = await asyncio.wait_for(mover.phone.call, 15.0)
    assert refusal is not None
    assert refusal.reason is Reason.DRAINING
    await draining
    mover.phone.stage = mover.second
    assert (await mover.phone.come_back()).gap_from == 0
