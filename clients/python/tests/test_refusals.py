"""What both clients raise when the gateway, or nobody, answers."""

import asyncio

import pytest
from grpc import StatusCode

from trunkline_client import (
    AsyncClient,
    AsyncSession,
    CallerError,
    CapacityError,
    ConnectionLost,
    ConnectionOptions,
    GatewayError,
    TrunklineError,
    UpstreamError,
)
from trunkline_client.events import OutputAudio

from . import scripts
from .scripted_gateway import Script, free_port, serving
from .shells import Connect, events_of, names_of

TOKEN = "secret-token-of-the-test"


async def test_a_full_gateway_says_how_full_and_when_to_come_back(connect: Connect) -> None:
    with serving(scripts.full) as gateway:
        async with connect(gateway.address) as client:
            with pytest.raises(CapacityError) as refused:
                async with client.open(resumable=False):
                    pass
    error = refused.value
    assert (error.reason, error.message, error.retryable) == ("QUEUE_FULL", "a sentence", True)
    assert (error.status, error.retry_after_seconds) == (StatusCode.RESOURCE_EXHAUSTED, 0.25)
    assert error.numbers == scripts.NUMBERS


async def test_a_refusal_before_anything_was_read_is_typed_too(connect: Connect) -> None:
    with serving(scripts.refuses_at_once) as gateway:
        async with connect(gateway.address, token=TOKEN) as client:
            for _ in range(50):
                with pytest.raises(CallerError) as refused:
                    async with client.open(resumable=False):
                        pass
                assert (refused.value.reason, refused.value.retryable) == ("UNAUTHENTICATED", False)


async def test_a_status_in_the_middle_comes_after_the_events_before_it(connect: Connect) -> None:
    with serving(scripts.fails_midway) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            await session.send_audio(b"1")
            await session.send_audio(b"2")
            assert isinstance(await anext(session), OutputAudio)
            with pytest.raises(UpstreamError) as lost:
                await anext(session)
    assert (lost.value.reason, lost.value.retryable) == ("UPSTREAM_CLOSED", True)
    assert session.closed is None


async def test_one_who_sends_into_an_ended_stream_hears_what_ended_it(connect: Connect) -> None:
    with serving(scripts.fails_midway) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            reading = asyncio.create_task(events_of(session))
            with pytest.raises(UpstreamError) as told_to_sender:
                while True:
                    await session.send_audio(bytes(1000))
            with pytest.raises(UpstreamError) as told_to_reader:
                await reading
    assert told_to_sender.value.reason == told_to_reader.value.reason == "UPSTREAM_CLOSED"


async def test_a_session_that_ends_while_its_caller_speaks_loses_nothing(connect: Connect) -> None:
    with serving(scripts.last_words) as gateway:
        async with connect(gateway.address) as client:
            for _ in range(20):
                async with client.open(resumable=False) as session:
                    speaking = asyncio.create_task(_speak(session))
                    events = await events_of(session)
                    await speaking
                assert names_of(events) == [*["OutputAudio"] * 20, "Closed"]


async def _speak(session: AsyncSession) -> None:
    with pytest.raises(CallerError, match="NOT_OPEN"):
        while True:
            await session.send_audio(bytes(1000))


@pytest.mark.parametrize("script", [scripts.fails_midway, scripts.fails_behind_events])
async def test_a_failure_reaches_a_caller_who_only_speaks(script: Script) -> None:
    with serving(script) as gateway:
        async with AsyncClient(gateway.address) as client:
            for _ in range(20):
                async with client.open(resumable=False) as session:
                    with pytest.raises(UpstreamError):
                        while True:
                            await session.send_audio(bytes(1000))


async def test_a_stream_that_ends_without_closed_is_lost(connect: Connect) -> None:
    with serving(scripts.ends_unannounced) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            with pytest.raises(ConnectionLost, match="without `closed`"):
                await anext(session)


async def test_nobody_there_is_a_lost_connection_that_may_be_tried_again(connect: Connect) -> None:
    async with connect(f"127.0.0.1:{free_port()}") as client:
        with pytest.raises(ConnectionLost) as lost:
            async with client.open(resumable=False):
                pass
        with pytest.raises(ConnectionLost):
            await client.pools()
    assert (lost.value.reason, lost.value.retryable) == ("CONNECTION_LOST", True)


async def test_open_has_a_deadline_and_leaves_nothing_at_the_gateway(connect: Connect) -> None:
    with serving(scripts.silent) as gateway:
        async with connect(gateway.address) as client:
            with pytest.raises(ConnectionLost) as late:
                async with client.open(resumable=False, open_timeout_seconds=0.2):
                    pass
            assert gateway.conversation().over.wait(5)
    assert (late.value.reason, late.value.retryable) == ("TIMED_OUT", True)


async def test_each_other_call_has_a_deadline(connect: Connect) -> None:
    options = ConnectionOptions(call_timeout_seconds=0.2)
    with serving(scripts.silent) as gateway:
        async with connect(gateway.address, options=options) as client:
            with pytest.raises(ConnectionLost, match="TIMED_OUT"):
                await client.capabilities()
            assert gateway.stalled.wait(5)


@pytest.mark.parametrize("script", [scripts.speaks_first, scripts.counts_backwards])
async def test_a_gateway_that_breaks_the_order_is_left(connect: Connect, script: Script) -> None:
    with serving(script) as gateway:
        async with connect(gateway.address) as client:
            with pytest.raises(GatewayError, match="INTERNAL"):
                async with client.open(resumable=False) as session:
                    await anext(session)
            assert gateway.conversation().over.wait(5)


async def test_an_error_raised_once_is_raised_again(connect: Connect) -> None:
    with serving(scripts.ends_unannounced) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            for _ in range(2):
                with pytest.raises(ConnectionLost):
                    await anext(session)
            with pytest.raises(TrunklineError):
                await session.commit()
