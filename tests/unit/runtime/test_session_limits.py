"""What a caller may ask for while its session lives, how fast, and what a reservation's token opens."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import ACME, Caller
from tests.unit.runtime.holders import until, wish
from tests.unit.runtime.stage import END_USER_LINE, Stage
from tests.unit.runtime.talk import closed, ended

# 20 ms of speech in the format of these sessions.
FRAME = bytes(960)
FRAME_SECONDS = 0.02


async def tokened(stage: Stage, pool: str = "default") -> str:
    return (await stage.reservations.acquire(stage.pools[pool], 30.0, wish())).token


# What a line was dialled for.


@pytest.mark.parametrize("patch", [{"model": "other"}, {"type": "transcription"}, {"model": None}, {"type": ""}])
async def test_what_was_fixed_when_the_line_was_dialled_cannot_be_changed_and_the_session_goes_on(
    stage: Stage, patch: Mapping[str, Any]
) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("session.update", cseq=7, session={"instructions": "x", **patch})
    event = (await caller.until(out.ErrorEvent)).event
    assert isinstance(event, out.ErrorEvent)
    assert (event.reason, event.cseq) == (Reason.OVERRIDE_REFUSED, 7)
    assert stage.observer.refusals == [Reason.OVERRIDE_REFUSED]
    assert stage.line.sent == []
    caller.say(b"audio")
    caller.control("response.create")
    await turns(10)
    assert stage.line.types() == ["input_audio_buffer.append", "response.create"]
    assert not call.done()


async def test_a_change_of_the_session_names_its_type_which_the_provider_wants(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    caller.control("session.update", session={"instructions": "x"})
    caller.control("session.update", session={"type": "realtime", "model": "gpt-realtime"})
    await turns(10)
    first, second = (event["session"] for event in stage.line.sent)
    assert first == {"type": "realtime", "instructions": "x"}
    assert second == {"type": "realtime", "model": "gpt-realtime"}


@pytest.mark.parametrize("fields", [{}, {"session": None}, {"session": "loud"}, {"session": ["x"]}])
async def test_a_malformed_change_is_the_providers_to_refuse(stage: Stage, fields: dict[str, Any]) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("session.update", **fields)
    await turns(10)
    (sent,) = stage.line.sent
    assert {**sent, "event_id": ""} == {"type": "session.update", "event_id": "", **fields}
    assert not call.done()


# How fast.


async def test_audio_at_twice_the_pace_of_speech_is_not_delayed(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line, latest = stage.line, 0
    for sent in range(3000):
        caller.say(FRAME)
        await asyncio.sleep(FRAME_SECONDS / 2)
        latest = max(latest, sent + 1 - len(line.sent))
    assert latest <= 1
    assert not call.done()


async def test_audio_that_comes_faster_pauses_the_reading_and_nothing_is_lost(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line, began = stage.line, now()
    pieces = [number.to_bytes(2, "big") * 480 for number in range(1000)]
    caller.say(*pieces)
    await turns(4000)
    # Five seconds may come at once.
    assert 250 <= len(line.sent) <= 252
    assert caller._messages.qsize() >= 1000 - 253, "what is not read yet lies with the transport"
    await until(lambda: len(line.sent) == 1000)
    assert now() - began == pytest.approx(7.5, abs=0.1)
    assert [event["audio"][:4] for event in line.sent] == [base64.b64encode(piece).decode()[:4] for piece in pieces]
    assert not call.done()


async def test_one_large_piece_of_audio_is_taken_whole_and_paid_for_afterwards(stage: Stage) -> None:
    await stage.warm()
    caller, _ = await stage.opened()
    line, began = stage.line, now()
    caller.say(bytes(48_000 * 20), b"next")
    await turns(10)
    assert len(line.sent) == 1
    await until(lambda: len(line.sent) == 2)
    assert now() - began == pytest.approx(7.5, abs=0.1)


@pytest.mark.parametrize("seconds", [5, 20])
async def test_a_request_behind_much_audio_is_carried_out(stage: Stage, seconds: int) -> None:
    """A file, then `commit`: the pace was kept by the pauses, so nobody has been too fast."""
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    caller.say(*[FRAME] * round(seconds / FRAME_SECONDS))
    for _ in range(20):
        caller.control("input_audio_buffer.commit")
    await asyncio.sleep(seconds)
    assert line.types().count("input_audio_buffer.commit") == 20
    assert not call.done()


async def test_a_format_of_fewer_bytes_has_the_same_pace() -> None:
    stage = Stage({"audio": {"input": {"format": {"type": "audio/pcmu"}}}})
    await stage.warm()
    caller, _ = await stage.opened()
    line, began = stage.line, now()
    caller.say(*[bytes(160)] * 1000)
    await until(lambda: len(line.sent) == 1000)
    assert now() - began == pytest.approx(7.5, abs=0.1)
    await stage.clear()


async def test_a_burst_of_other_messages_is_taken(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    for _ in range(190):
        caller.control("conversation.item.create", item={})
    await turns(2000)
    assert len(line.sent) == 190
    assert not call.done()


async def test_two_hundred_messages_a_second_may_come_for_ever(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    line = stage.line
    for _ in range(3000):
        caller.control("conversation.item.create", item={})
        await asyncio.sleep(0.005)
    assert len(line.sent) == 3000
    assert not call.done()


@pytest.mark.parametrize("kind", ["controls", "refused frames"])
async def test_more_messages_than_that_end_the_session_with_a_word(stage: Stage, kind: str) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    for _ in range(2000):
        if kind == "controls":
            caller.control("conversation.item.create", item={})
        else:
            caller.say(out.Refused(CallerError(Reason.INVALID_FRAME, "empty")))
    error = await ended(stage, call)
    assert isinstance(error, CallerError)
    assert (error.reason, error.retryable) == (Reason.RATE_LIMITED, True)
    last = closed(caller)
    assert last.reason is out.ClosedReason.REFUSED
    assert last.error is not None
    assert last.error.reason is Reason.RATE_LIMITED


@pytest.mark.parametrize("kind", ["audio", "controls"])
async def test_input_behind_a_goodbye_is_bounded_too(stage: Stage, kind: str) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    for _ in range(2000):
        caller.say(FRAME) if kind == "audio" else caller.control("response.cancel")
    error = await ended(stage, call)
    assert error is not None
    assert error.reason is Reason.RATE_LIMITED
    assert len(caller.got) <= 600


async def test_a_microphone_that_runs_on_behind_a_goodbye_does_no_harm(stage: Stage) -> None:
    await stage.warm()
    caller, call = await stage.opened()
    caller.control("response.create")
    caller.say(out.Bye())
    for _ in range(500):
        caller.say(FRAME)
        await asyncio.sleep(FRAME_SECONDS)
    assert not call.done()


# A token.


async def test_a_session_with_a_token_has_its_line_at_once_and_says_warm() -> None:
    stage = Stage(floor=0, ceiling=1)
    token = await tokened(stage)
    await asyncio.sleep(3.0)
    began = now()
    caller, call = await stage.opened(lease_token=token)
    opened = caller.got[0].event
    assert isinstance(opened, out.Opened)
    assert (now(), opened.source, opened.waited_ms, opened.entry_age_ms) == (began, out.LineSource.WARM, 0, 3000)
    assert stage.pool.stats().reserved == 0
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    await stage.clear()


async def test_a_token_chooses_the_template_when_the_caller_names_none() -> None:
    stage = Stage(names=("default", "second"))
    await stage.warm()
    caller, _ = await stage.opened(lease_token=await tokened(stage, "second"))
    opened = caller.got[0].event
    assert isinstance(opened, out.Opened)
    assert opened.template == "second"
    await stage.clear()


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"template": "second"}, Reason.INVALID_FRAME),
        ({"template": "unknown"}, Reason.UNKNOWN_TEMPLATE),
        ({"overrides": {"model": "other"}}, Reason.OVERRIDE_REFUSED),
        ({"safety_identifier": "user-1"}, Reason.SAFETY_IDENTIFIER_REFUSED),
    ],
)
async def test_a_refused_open_burns_no_reservation(request_: Mapping[str, Any], reason: Reason) -> None:
    stage = Stage(names=("default", "second"))
    await stage.warm()
    token = await tokened(stage)
    caller = Caller()
    caller.say(out.OpenRequest(lease_token=token, **request_))
    error = await stage.serve(caller)
    assert isinstance(error, CallerError)
    assert error.reason is reason
    assert stage.pool.stats().reserved == 1
    following, _ = await stage.opened(lease_token=token)
    assert out.Opened in following.kinds()
    await stage.clear()


async def test_a_token_that_means_nothing_is_refused(stage: Stage) -> None:
    await stage.warm()
    caller = Caller()
    caller.say(out.OpenRequest(lease_token="x"))
    error = await ended(stage, stage.serve(caller))
    assert isinstance(error, CallerError)
    assert error.reason is Reason.LEASE_UNKNOWN


async def test_an_end_users_session_gives_the_unit_that_it_reserved_back() -> None:
    stage = Stage(line=END_USER_LINE)
    await stage.warm()
    token = await tokened(stage)
    caller, call = await stage.opened(lease_token=token, safety_identifier="user-1")
    opened = caller.got[-1].event
    assert isinstance(opened, out.Opened)
    assert opened.source is out.LineSource.DIALLED
    assert stage.pool.stats().reserved == 0
    assert not await stage.reservations.release(token, ACME)
    caller.say(out.Bye())
    assert await ended(stage, call) is None
    await stage.clear()
