"""What both clients do when their gateway goes away: another one is ready before the first is left."""

import asyncio
import time
from typing import Any

import pytest
from grpc import StatusCode
from trunkline.v1.event_pb2 import ItemDone
from trunkline.v1.session_pb2 import RESUME_MODE_CLAIM, RESUME_MODE_PREPARE, ConverseResponse

from trunkline_client._aio_resumable import ResumableAsyncSession
from trunkline_client._sync_resumable import ResumableSession

from .long_session import LongSession
from .moving import answered, done, ends, said, says_nothing
from .resuming import audio_of, items_until, refusing, talking, until
from .scripted_gateway import Conversation
from .shells import Connect, names_of


async def test_it_moves_at_once_where_nothing_goes_on_and_nothing_is_lost(connect: Connect) -> None:
    long = LongSession(heartbeat_ms=100)
    async with talking(connect, long) as (session, cutter):
        await said(session, "1")
        long.go_away()
        await until(lambda: len(long.resumes) == 1)
        assert names_of(await said(session, "2")) == ["GoAway", "Resumed"]
        assert session.resumed_count == 1
        first, second = long.conversations
        await until(first.over.is_set)
        assert cutter.connections == 2
        long.beats = False
        await until(lambda: long.acks[-1].read_bytes == long.sent_bytes[-1])
        assert len(long.conversations) == 2
    assert [each.resume.mode for each in second.received[:2]] == [RESUME_MODE_PREPARE, RESUME_MODE_CLAIM]
    assert (long.prepares[0].last_seq, long.resumes[0].last_seq) == (2, 2)
    assert "bye" not in first.kinds()
    assert (long.texts(), long.twice, long.ahead, long.byes) == (["1", "2"], [], [], [True])


async def test_it_moves_again_and_again(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, _):
        for number in range(1, 4):
            long.go_away()
            await until(lambda number=number: len(long.resumes) == number)  # type: ignore[misc]
            await said(session, str(number))
        assert session.resumed_count == 3
    assert len(long.prepares) == 3
    assert long.texts() == ["1", "2", "3"]


async def test_an_answer_under_way_is_heard_to_its_end_where_it_began(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, _):
        await answered(long, session)
        long.go_away()
        await until(lambda: len(long.prepared) == 1)
        waited_until, number = time.monotonic() + 0.6, 0
        while time.monotonic() < waited_until:
            number += 1
            long.speak("i1", number, bytes(2))
            assert [each.position for each in await audio_of(session, 1)] == [number]
            await said(session, str(number))
        assert long.resumes == []
        done(long)
        await until(lambda: len(long.resumes) == 1)
        assert names_of(await said(session, "after")) == ["ResponseDone", "Resumed"]
    # `opened`, the control that asked, each text, and the end of the answer.
    assert long.resumes[0].last_seq == number + 3


async def test_the_deadline_does_not_wait_for_an_answer(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, _):
        await answered(long, session)
        begun = time.monotonic()
        long.go_away(2500)
        await until(lambda: len(long.resumes) == 1)
        # A second before it is over.
        assert 1.3 < time.monotonic() - begun < 2.5
        assert "Resumed" in names_of(await said(session, "after"))
        assert session.resumed_count == 1


async def test_it_asks_another_one_where_one_refuses(connect: Connect) -> None:
    long = LongSession(before_prepared=[refusing("DRAINING"), refusing("RESUME_REFUSED"), ends])
    async with talking(connect, long) as (session, _):
        long.go_away()
        await until(lambda: len(long.resumes) == 1)
        assert names_of(await said(session, "1")) == ["GoAway", "Resumed"]
    assert len(long.prepares) == 4


async def test_where_all_refuse_it_stays_until_it_is_sent_away(connect: Connect) -> None:
    long = LongSession(before_prepared=[refusing("DRAINING")] * 5)
    async with talking(connect, long) as (session, _):
        long.go_away()
        await until(lambda: len(long.prepares) == 5)
        assert names_of(await said(session, "1")) == ["GoAway"]
        long.go_away()
        assert names_of(await said(session, "2")) == ["GoAway"]
        assert session.resumed_count == 0
        long.refuse("DRAINING", StatusCode.UNAVAILABLE)
        assert names_of(await said(session, "3")) == ["Resumed"]
    assert (len(long.prepares), len(long.resumes)) == (5, 1)


async def test_what_is_prepared_and_dies_is_prepared_again(connect: Connect) -> None:
    long = LongSession(after_prepared=[ends])
    async with talking(connect, long) as (session, _):
        await answered(long, session)
        long.go_away()
        await until(lambda: len(long.prepared) == 2)
        assert long.resumes == []
        done(long)
        await until(lambda: len(long.resumes) == 1)
        await said(session, "1")
        assert session.resumed_count == 1


@pytest.mark.parametrize("answer", [ends, refusing("RESUME_REFUSED"), refusing("DRAINING"), says_nothing])
async def test_a_claim_that_fails_is_a_loss_like_any_other(connect: Connect, answer: object) -> None:
    long = LongSession(answers=[answer])  # type: ignore[list-item]
    async with talking(connect, long) as (session, _):
        await said(session, "1")
        long.go_away()
        await until(lambda: len(long.resumes) == 2)
        assert names_of(await said(session, "2")) == ["GoAway", "Resumed"]
        assert session.resumed_count == 1
    assert (long.texts(), long.twice, long.ahead) == (["1", "2"], [], [])


@pytest.mark.parametrize("speaks", [True, False])
async def test_nothing_counts_that_comes_on_the_first_stream_after_the_claim(
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    speaks: bool,  # noqa: FBT001
) -> None:
    # The first stream is not cut, so that its end comes from its gateway: SUPERSEDED.
    monkeypatch.setattr(ResumableAsyncSession, "_cut_first", lambda _: None)
    monkeypatch.setattr(ResumableSession, "_cut_left", lambda _: None)
    long = LongSession()

    def last_words(_: Conversation) -> None:
        if speaks:
            seq = len(long.log) + 1
            long.say(ConverseResponse(item_done=ItemDone(item_id="of the old owner"), seq=seq))
            long.log.append(ConverseResponse(item_done=ItemDone(item_id="of the new owner"), seq=seq))

    long.answers = [last_words]
    async with talking(connect, long) as (session, _):
        long.go_away()
        await until(lambda: len(long.resumes) == 1)
        await session.send_text("1")
        items, others = await items_until(session, "1")
        assert items == ["of the new owner"] * speaks + ["1"]
        assert names_of(others) == ["GoAway", "Resumed"]
    assert len(long.resumes) == 1


async def test_a_first_stream_that_dies_while_another_is_prepared_is_resumed_as_ever(connect: Connect) -> None:
    long = LongSession(before_prepared=[says_nothing])
    async with talking(connect, long) as (session, _):
        long.go_away()
        await until(lambda: len(long.prepares) == 1)
        long.cut()
        assert names_of(await said(session, "1")) == ["GoAway", "Resumed"]
        assert session.resumed_count == 1
    assert [next(iter(each.received)).resume.mode for each in long.conversations[1:]] == [RESUME_MODE_CLAIM]


def is_prepared(session: Any) -> bool:
    """Tell whether the client knows that another gateway is ready, not only that it was told."""
    moving = getattr(session, "blocking", session)._core.moving
    return moving is not None and moving.is_prepared


async def test_what_is_prepared_is_claimed_at_once_where_the_first_stream_ends(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        await answered(long, session)
        long.go_away()
        await until(lambda: is_prepared(session))
        long.refuse("DRAINING", StatusCode.UNAVAILABLE)
        assert names_of(await said(session, "1"))[-2:] == ["GoAway", "Resumed"]
        assert cutter.connections == 2
    assert long.conversations[1] is long.prepared[0]


async def test_nothing_is_prepared_where_it_is_not_granted(connect: Connect) -> None:
    long = LongSession(moves=False)
    async with talking(connect, long) as (session, cutter):
        long.go_away()
        assert names_of(await said(session, "1")) == ["GoAway"]
        assert cutter.connections == 1
    assert long.prepares == []


async def test_what_is_sent_while_it_moves_goes_once_and_in_order(connect: Connect) -> None:
    long = LongSession()
    spoken = b""
    async with talking(connect, long) as (session, _):
        for number in range(60):
            if number % 15 == 5:
                long.go_away()
            piece = number.to_bytes(2, "big") * 40
            spoken += piece
            await session.send_audio(piece)
            await session.send_text(str(number))
            await asyncio.sleep(0.005)
        items, others = await items_until(session, "59")
        assert items == [str(number) for number in range(60)]
        assert names_of(others).count("Resumed") >= 2
        await until(lambda: len(long.audio) == len(spoken))
    assert bytes(long.audio) == spoken
    assert long.ahead == []


async def test_an_application_that_does_not_read_is_moved_and_misses_nothing(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, _):
        for number in range(12):
            long.say(ConverseResponse(item_done=ItemDone(item_id=str(number), text="x" * 4000)), numbered=True)
            if number == 2:
                long.go_away()
        # Not claimed alone: the second stream is spoken on, too.
        await until(lambda: any(each.HasField("ack") for each in long.current.received) and len(long.resumes) == 1)
        items, others = await items_until(session, "11")
        assert items == [str(number) for number in range(12)]
        assert names_of(others) == ["GoAway", "Resumed"]
