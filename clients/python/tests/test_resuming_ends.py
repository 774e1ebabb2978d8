"""How a session that outlives its streams ends, and what holds it up: nothing waits for a caller that is gone."""

import asyncio
import dataclasses
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from trunkline.v1.event_pb2 import ItemDone
from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client import AsyncClient, ConnectionLost, ConnectionOptions
from trunkline_client.events import Closed, Event

from .long_session import LongSession
from .resuming import QUICK, audio_of, items_until, talking, until, wired
from .scripted_gateway import serving
from .shells import Connect, events_of, names_of

HASTY = dataclasses.replace(QUICK, close_timeout_seconds=0.1)


async def test_leaving_by_an_exception_says_bye_so_that_nothing_is_parked(connect: Connect) -> None:
    long = LongSession()
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        async with talking(connect, long):
            raise ZeroDivisionError
    assert long.byes == [True]
    assert time.monotonic() - begun < 2


async def test_a_plain_answer_to_a_resumable_open_is_cut_by_an_exception(connect: Connect) -> None:
    long = LongSession(in_force=False)
    with pytest.raises(ZeroDivisionError):
        async with talking(connect, long):
            raise ZeroDivisionError
    await until(long.current.over.is_set)
    assert long.byes == []


async def test_leaving_while_no_stream_is_there_is_bounded(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long, HASTY) as (session, cutter):
        cutter.cut(lets_in=False)
        await session.send_text("1")
        begun = time.monotonic()
    assert time.monotonic() - begun < 2
    assert session.closed is None


async def test_leaving_while_no_stream_is_there_says_bye_if_it_comes_back_in_time(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        await session.send_text("1")
        await items_until(session, "1")
        cutter.cut()
    assert long.byes == [True]


async def test_closed_is_acknowledged_and_the_stream_half_closed(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        await session.send_text("1")
        await session.end_input()
        assert names_of(await events_of(session)) == ["ItemDone", "Closed"]
        await until(long.half_closed.is_set)
        # What is lost behind `closed` is no matter.
        cutter.cut()
        assert await events_of(session) == []
    assert long.acks[-1].seq == 3
    assert long.byes == [False]
    assert long.resumes == []


async def test_a_bye_on_a_lost_stream_is_said_on_the_next(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        cutter.cut(lets_in=False)
        await session.send_text("1")
        await session.end_input()
        cutter.lets_in.set()
        assert names_of(await events_of(session)) == ["Resumed", "ItemDone", "Closed"]
        assert isinstance(session.closed, Closed)
    assert long.byes == [False]


async def test_where_it_is_not_in_force_a_loss_is_the_end(connect: Connect) -> None:
    long = LongSession(in_force=False)
    async with talking(connect, long) as (session, cutter):
        await session.send_audio(b"abc")
        await session.send_text("1")
        assert await items_until(session, "1") == (["1"], [])
        assert bytes(long.audio) == b"abc"
        cutter.cut()
        with pytest.raises(ConnectionLost):
            await items_until(session, "never")
        with pytest.raises(ConnectionLost):
            await session.send_text("2")
        assert session.resumed_count == 0
    assert (long.resumes, long.acks) == ([], [])


async def test_closing_the_client_ends_its_sessions(connect: Connect) -> None:
    long = LongSession()
    with wired(long) as cutter:
        async with connect(cutter.address, options=QUICK) as client, client.open(resumable=True) as session:
            await client.close()
            with pytest.raises(Exception, match="NOT_OPEN"):
                await items_until(session, "never")
    assert long.resumes == []


async def test_a_token_that_cannot_be_had_for_a_while_is_asked_for_again(connect: Connect) -> None:
    answers: Iterator[str | OSError] = iter(["t", OSError("secret"), "u"])

    def token() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    long = LongSession()
    with wired(long) as cutter:
        async with (
            connect(cutter.address, token=token, options=QUICK) as client,
            client.open(resumable=True) as session,
        ):
            cutter.cut()
            await session.send_text("1")
            assert (await items_until(session, "1"))[0] == ["1"]
    assert long.current.header("authorization") == "Bearer u"


# What holds a session up.


async def test_an_application_that_does_not_read_holds_the_stream_up_and_keeps_it(connect: Connect) -> None:
    long = LongSession(heartbeat_ms=100)
    async with talking(connect, long) as (session, _):
        for position in range(40):
            long.speak("i1", position * 2048, bytes(4096))
        # Ten beats of this side are more than three of the other that it does not read.
        heard = len(long.acks)
        await until(lambda: len(long.acks) >= heard + 10)
        assert long.acks[-1].read_bytes <= QUICK.receive_buffer_max_bytes + 2 * 4096
        assert session.resumed_count == 0
        assert [event.position for event in await audio_of(session, 40)] == list(range(0, 40 * 2048, 2048))
        await until(lambda: long.acks[-1].output.received_samples == 40 * 2048)
        assert session.resumed_count == 0


async def test_an_application_that_does_not_read_may_send_while_no_stream_is_there(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        for position in range(20):
            long.speak("i1", position * 2048, bytes(4096))
        await until(lambda: long.acks[-1:] != [] and long.acks[-1].read_bytes > QUICK.receive_buffer_max_bytes)
        cutter.cut(lets_in=False)
        async with asyncio.timeout(3):
            for number in range(1, 41):
                await session.send_audio(bytes([number]) * 4800)
            await session.send_text("last")
        cutter.lets_in.set()
        items, others = await items_until(session, "last")
    assert items == ["last"]
    assert names_of(others).count("Resumed") == 1
    assert bytes(long.audio) == b"".join(bytes([number]) * 4800 for number in range(1, 41))


async def test_the_bytes_of_each_stream_are_told_apart(connect: Connect) -> None:
    long = LongSession(heartbeat_ms=100)
    async with talking(connect, long) as (session, cutter):
        long.speak("i1", 0, bytes(1000))
        await audio_of(session, 1)
        await until(lambda: long.acks[-1:] != [] and long.acks[-1].read_bytes > 1000)
        cutter.cut()
        await until(lambda: len(long.conversations) == 2)
        long.speak("i1", 500, bytes(100))
        await audio_of(session, 1)
        long.beats = False
        await until(lambda: long.acks[-1].read_bytes == long.sent_bytes[-1])
        assert long.sent_bytes[-1] < 1000


async def test_many_messages_are_acknowledged_at_once(connect: Connect) -> None:
    long = LongSession(heartbeat_ms=10_000)
    options = ConnectionOptions(ack_interval_seconds=9.0, close_timeout_seconds=0.5)
    async with talking(connect, long, options) as (session, _):
        for number in range(40):
            long.say(ConverseResponse(item_done=ItemDone(item_id=str(number))), numbered=True)
        await items_until(session, "39")
        await until(lambda: long.acks != [] and long.acks[-1].seq >= 32, seconds=3)


# On asyncio alone.


async def test_a_cancelled_send_or_wait_loses_nothing_and_breaks_nothing() -> None:
    long = LongSession()
    with serving(long.script) as gateway:
        async with AsyncClient(gateway.address) as client, client.open(resumable=True) as session:
            events: list[Event] = []
            for number in range(30):
                sending = asyncio.create_task(session.send_text(str(number)))
                await asyncio.sleep(0)
                sending.cancel()
                with suppress(TimeoutError):
                    async with asyncio.timeout(number % 3 / 1000):
                        events.append(await anext(session))
            await session.send_text("last")
            items, _ = await items_until(session, "last")
            assert session.resumed_count == 0
    assert [event.item_id for event in events if isinstance(event, ItemDone)] + items == long.texts()
    assert long.ahead == []


async def test_a_loop_that_stood_still_does_not_take_the_gateway_for_dead() -> None:
    long = LongSession(heartbeat_ms=150)
    with serving(long.script) as gateway:
        async with AsyncClient(gateway.address) as client, client.open(resumable=True) as session:
            await until(lambda: long.acks != [])
            time.sleep(0.5)  # noqa: ASYNC251 - that is what is tried
            heard = len(long.acks)
            await until(lambda: len(long.acks) > heard + 3)
            assert session.resumed_count == 0
    assert len(long.conversations) == 1


@pytest.mark.parametrize("passes", range(2))
async def test_cancelled_anywhere_while_it_is_lost_nothing_is_left(passes: int) -> None:
    long = LongSession()
    before = asyncio.all_tasks()

    async def talk(address: str, cut: asyncio.Event) -> None:
        async with AsyncClient(address, options=HASTY) as client, client.open(resumable=True) as session:
            cut.set()
            await events_of(session)

    with wired(long) as cutter:
        opened = asyncio.Event()
        talking_task = asyncio.create_task(talk(cutter.address, opened))
        await opened.wait()
        cutter.cut(lets_in=passes % 2 == 0)
        for _ in range(passes * 10):
            await asyncio.sleep(0.001)
        talking_task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await talking_task
        await until(lambda: asyncio.all_tasks() == before)
