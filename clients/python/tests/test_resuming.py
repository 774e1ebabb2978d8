"""What both clients do when a session's connection is lost: the conversation goes on as if nothing had been."""

import asyncio

import pytest
from grpc import StatusCode
from trunkline.v1.types_pb2 import FEATURE_PLANNED_MOVE, FEATURE_PLAYED_POSITION, FEATURE_RESUMABLE

from trunkline_client import ConnectionOptions

from .long_session import LongSession
from .resuming import items_until, talking, until
from .scripted_gateway import serving
from .shells import Connect, names_of


async def test_it_asks_for_what_it_can_do_and_a_plain_session_for_nothing(connect: Connect) -> None:
    long = LongSession()
    with serving(long.script) as gateway:
        async with connect(gateway.address) as client:
            async with client.open(resumable=True) as session:
                assert session.resumed_count == 0
            async with client.open(resumable=False):
                pass
    asked = [next(iter(each.received)).open.features for each in long.conversations]
    assert asked == [[FEATURE_RESUMABLE, FEATURE_PLAYED_POSITION, FEATURE_PLANNED_MOVE], []]


CUTS = ["reset", *(code.name for code in (StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.INTERNAL))]


@pytest.mark.parametrize("cut", CUTS)
async def test_it_goes_on_after_each_kind_of_loss(connect: Connect, cut: str) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        await session.send_text("1")
        assert await items_until(session, "1") == (["1"], [])
        if cut == "reset":
            cutter.cut()
        else:
            long.cut(StatusCode[cut])
        await session.send_text("2")
        items, others = await items_until(session, "2")
        assert items == ["2"]
        assert names_of(others) == ["Resumed"]
        assert session.resumed_count == 1
    assert long.texts() == ["1", "2"]
    assert (long.twice, long.ahead, long.byes) == ([], [], [True])
    (resume,) = long.resumes
    assert (resume.token, resume.last_seq) == ("token 0", 2)
    assert resume.last_cseq in {1, 2}


async def test_an_end_that_nobody_announced_is_a_loss(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, _):
        long.finish()
        await session.send_text("1")
        items, others = await items_until(session, "1")
        assert (items, names_of(others)) == (["1"], ["Resumed"])


async def test_nothing_is_lost_or_doubled_when_the_wire_is_cut_again_and_again(connect: Connect) -> None:
    long = LongSession()
    spoken = b""
    async with talking(connect, long) as (session, cutter):
        counted = 0

        def count(_: object) -> None:
            nonlocal counted
            counted += 1
            if counted % 40 == 0:
                cutter.cut()

        long.on_request = count

        async def speak() -> None:
            nonlocal spoken
            for number in range(100):
                piece = number.to_bytes(2, "big") * 40
                spoken += piece
                await session.send_audio(piece)
                if number % 5 == 0:
                    await session.send_text(f"text {number}")
                await asyncio.sleep(0.002)
            await session.send_text("last")

        speaking = asyncio.create_task(speak())
        items, others = await items_until(session, "last")
        await speaking
        await until(lambda: len(long.audio) == len(spoken))
        expected = [f"text {number}" for number in range(0, 100, 5)] + ["last"]
        assert items == long.texts() == expected
        assert session.resumed_count == len(others) >= 2
    assert bytes(long.audio) == spoken
    assert long.ahead == []


async def test_a_gateway_that_falls_silent_is_left(connect: Connect) -> None:
    long = LongSession(heartbeat_ms=60)
    async with talking(connect, long) as (session, cutter):
        await session.send_text("1")
        await items_until(session, "1")
        # Nothing is reset, nothing passes: the beats alone tell.
        cutter.freeze()
        await session.send_text("2")
        items, others = await items_until(session, "2")
        assert (items, names_of(others)) == (["2"], ["Resumed"])
    assert cutter.connections >= 1


async def test_beats_keep_an_idle_session(connect: Connect) -> None:
    long = LongSession(heartbeat_ms=200)  # three of them are also what a busy machine may take
    async with talking(connect, long) as (session, _):
        with_beats = len(long.acks) + 6
        await until(lambda: len(long.acks) >= with_beats)
        assert session.resumed_count == 0
    assert len(long.conversations) == 1


async def test_what_is_sent_while_no_stream_is_there_returns_at_once_and_goes_later(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        await session.send_text("0")
        await items_until(session, "0")
        cutter.cut(lets_in=False)
        async with asyncio.timeout(3):
            for number in range(1, 21):
                await session.send_audio(bytes([number]) * 4800)
                await session.send_text(str(number))
        cutter.lets_in.set()
        items, _ = await items_until(session, "20")
    assert items == [str(number) for number in range(1, 21)]
    assert bytes(long.audio) == b"".join(bytes([number]) * 4800 for number in range(1, 21))


async def test_more_controls_than_can_be_kept_are_refused_and_none_is_lost(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        cutter.cut(lets_in=False)
        with pytest.raises(Exception, match="OVERLOADED"):
            for _ in range(300):
                await session.send_text("x")
        cutter.lets_in.set()
        await until(lambda: len(long.controls) == 256)
        assert await session.send_text("last") == 257
        items, _ = await items_until(session, "last")
        assert len(items) == 257


async def test_more_audio_than_is_kept_falls_out_at_its_old_end(connect: Connect) -> None:
    long = LongSession()
    options = ConnectionOptions(close_timeout_seconds=0.5, input_kept_seconds=0.5, max_reconnect_backoff_ms=50)
    async with talking(connect, long, options) as (session, cutter):
        cutter.cut(lets_in=False)
        await until(lambda: session.resumed_count == 0)
        for number in range(20):
            await session.send_audio(bytes([number]) * 4800)
        cutter.lets_in.set()
        await session.send_text("last")
        await items_until(session, "last")
    (resume,) = long.resumes
    assert resume.input_kept_from >= 0
    assert bytes(long.audio).endswith(b"".join(bytes([number]) * 4800 for number in range(15, 20)))
