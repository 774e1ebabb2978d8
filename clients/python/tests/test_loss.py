"""What both clients do when a peer dies, hangs or is left: no call, task or thread stays behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import grpc
import pytest
from grpc import StatusCode
from trunkline.v1.session_pb2 import ConverseRequest, ConverseResponse, Open

from trunkline_client import AsyncClient, AsyncSession, Client, ConnectionLost, ConnectionOptions, Session
from trunkline_client._outbox import Outbox
from trunkline_client._sync_dialling import Dialler
from trunkline_client.events import OutputAudio

from . import scripts
from .scripted_gateway import Conversation, free_port, serving
from .shells import Connect, events_of

IMPATIENT = ConnectionOptions(close_timeout_seconds=0.2, write_timeout_seconds=0.5)
# Kept short for the test; the ratio of the three is the default's.
WATCHFUL = ConnectionOptions(keepalive_time_ms=1000, ping_timeout_ms=500, close_timeout_seconds=0.2)


@contextmanager
def process(script: str) -> Iterator[tuple[str, int]]:
    """Serve a script from a process of its own; yield its address and process id."""
    port = free_port()
    root = Path(__file__).parents[len(str(__package__).split("."))]
    command = [sys.executable, "-m", f"{__package__}.scripted_gateway", script, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"ready\n"
            yield f"127.0.0.1:{port}", running.pid
        finally:
            running.kill()


async def test_a_killed_gateway_is_a_lost_connection(connect: Connect) -> None:
    with process("echo") as (address, pid):
        async with connect(address) as client:
            with pytest.raises(ConnectionLost) as lost:
                async with client.open(resumable=False) as session:
                    await session.send_audio(b"1")
                    async for event in session:
                        assert isinstance(event, OutputAudio)
                        os.kill(pid, signal.SIGKILL)
            assert (lost.value.reason, lost.value.retryable) == ("CONNECTION_LOST", True)


async def test_a_frozen_gateway_is_noticed_by_pings(connect: Connect) -> None:
    with process("echo") as (address, pid):
        async with connect(address, options=WATCHFUL) as client, client.open(resumable=False) as session:
            os.kill(pid, signal.SIGSTOP)
            begun = time.monotonic()
            with pytest.raises(ConnectionLost):
                await anext(session)
            # Without `ping_timeout_ms` it would take a minute.
            assert time.monotonic() - begun < 4
            os.kill(pid, signal.SIGCONT)


async def test_an_exception_in_the_block_cancels_the_session_at_the_gateway(
    connect: Connect,
) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            with pytest.raises(ZeroDivisionError):
                async with client.open(resumable=False):
                    raise ZeroDivisionError
            conversation = gateway.conversation()
            assert conversation.over.wait(5)
            assert conversation.kinds() == ["open"]


async def test_a_gateway_that_does_not_close_is_not_waited_for(connect: Connect) -> None:
    with serving(scripts.ignores_bye) as gateway:
        async with connect(gateway.address, options=IMPATIENT) as client:
            begun = time.monotonic()
            async with client.open(resumable=False) as session:
                pass
            assert time.monotonic() - begun < 2
            assert session.closed is None
            assert gateway.conversation().over.wait(5)


async def test_a_stream_that_stays_after_closed_is_not_waited_for(connect: Connect) -> None:
    with serving(scripts.stubborn) as gateway:
        async with connect(gateway.address, options=IMPATIENT) as client, client.open(resumable=False) as session:
            await session.end_input()
            assert [type(event).__name__ for event in await events_of(session)] == ["Closed"]
            assert gateway.conversation().over.wait(5)


async def test_a_gateway_that_takes_nothing_ends_the_session(connect: Connect) -> None:
    with serving(scripts.deaf) as gateway:
        async with connect(gateway.address, options=IMPATIENT) as client, client.open(resumable=False) as session:
            with pytest.raises(ConnectionLost, match="TIMED_OUT"):
                while True:
                    await session.send_audio(bytes(65_536))
            with pytest.raises(ConnectionLost, match="TIMED_OUT"):
                await anext(session)
            assert gateway.conversation().over.wait(5)


async def test_closing_the_session_ends_the_iteration_of_another(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            reading = asyncio.create_task(events_of(session))
            await _sent(gateway.conversation(), session)
            await session.close()
            await session.close()
            assert all(type(event).__name__ != "OutputAudio" for event in await reading)


async def test_cutting_the_session_ends_the_iteration_of_another(connect: Connect) -> None:
    with serving(scripts.ignores_bye) as gateway:
        async with connect(gateway.address, options=IMPATIENT) as client, client.open(resumable=False) as session:
            reading = asyncio.create_task(events_of(session))
            await _sent(gateway.conversation(), session)
            await session.close()
            assert await reading == []


async def test_closing_the_client_cuts_its_sessions(connect: Connect) -> None:
    with serving(scripts.ignores_bye) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            await client.close()
            with pytest.raises(ConnectionLost, match="CANCELLED"):
                await anext(session)
            assert gateway.conversation().over.wait(5)
            with pytest.raises(ConnectionLost):
                await session.send_audio(b"x")


async def test_closing_a_session_that_still_opens_gives_it_up(connect: Connect) -> None:
    with serving(scripts.silent) as gateway:
        async with connect(gateway.address) as client:
            session = client.open(resumable=False)
            opening = asyncio.create_task(session.__aenter__())
            conversation = await asyncio.to_thread(gateway.conversation)
            await session.close()
            with pytest.raises(ConnectionLost, match="CANCELLED"):
                await opening
            assert conversation.over.wait(5)


async def test_closing_the_client_gives_up_what_it_asks(connect: Connect) -> None:
    with serving(scripts.silent) as gateway:
        async with connect(gateway.address) as client:
            asking = asyncio.create_task(client.capabilities())
            assert await asyncio.to_thread(gateway.asked.wait, 5)
            await client.close()
            with pytest.raises(ConnectionLost, match="CANCELLED"):
                await asking


async def _sent(conversation: Conversation, session: AsyncSession) -> None:
    """Return when the gateway has read something sent just now: readers wait by then."""
    await session.clear()
    while len(conversation.received) < 2:  # noqa: ASYNC110 - the gateway lives in threads
        await asyncio.sleep(0)


# On asyncio alone: cancellation.


async def test_a_cancelled_open_leaves_no_call() -> None:
    with serving(scripts.silent) as gateway:
        async with AsyncClient(gateway.address) as client:
            opening = asyncio.create_task(client.open(resumable=False).__aenter__())
            conversation = await asyncio.to_thread(gateway.conversation)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            assert conversation.over.wait(5)


async def test_a_cancelled_wait_for_an_event_loses_nothing() -> None:
    with serving(scripts.echo) as gateway:
        async with AsyncClient(gateway.address) as client, client.open(resumable=False) as session:
            heard = []
            for number in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await anext(session)
                await session.send_audio(bytes([number]))
                event = await anext(session)
                assert isinstance(event, OutputAudio)
                heard.append(event.data[0])
    assert heard == list(range(20))


async def test_a_cancelled_send_ends_the_session() -> None:
    with serving(scripts.deaf) as gateway:
        async with AsyncClient(gateway.address) as client, client.open(resumable=False) as session:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    while True:
                        await session.send_audio(bytes(65_536))
            with pytest.raises(ConnectionLost, match="CANCELLED"):
                await anext(session)
            with pytest.raises(ConnectionLost, match="CANCELLED"):
                await session.send_audio(b"x")


@pytest.mark.parametrize("passes", range(12))
async def test_cancelled_anywhere_nothing_is_left(passes: int) -> None:
    """Cancel a whole conversation after each of its first steps of the event loop."""

    async def talk(address: str) -> None:
        async with AsyncClient(address) as client, client.open(resumable=False) as session:
            await session.create_response()
            await events_of(session)

    with serving(scripts.text_turn) as gateway:
        before = asyncio.all_tasks()
        talking = asyncio.create_task(talk(gateway.address))
        for _ in range(passes * 3):
            await asyncio.sleep(0)
        talking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await talking
        await _settled(before)


async def test_leaving_by_an_exception_leaves_no_task() -> None:
    with serving(scripts.flood) as gateway:
        before = asyncio.all_tasks()
        with pytest.raises(ZeroDivisionError):
            async with AsyncClient(gateway.address) as client, client.open(resumable=False):
                raise ZeroDivisionError
        await _settled(before)


async def _settled(before: set["asyncio.Task[None]"]) -> None:
    """Return when only the tasks of `before` are left: gRPC's own need a few steps."""
    async with asyncio.timeout(2):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110 - tasks signal nothing
            await asyncio.sleep(0)


# Blocking alone: threads.


class RecordedCall(Iterator[ConverseResponse]):
    """A call that opens at once, and notes whether its input had ended when it was cancelled."""

    def __init__(self, outbox: Iterator[ConverseRequest]) -> None:
        self.outbox = cast("Outbox", outbox)
        self.ended_at_cancel: bool | None = None

    def __next__(self) -> ConverseResponse:
        return scripts.opened()

    def cancel(self) -> None:
        self.ended_at_cancel = self.outbox.ended

    def add_callback(self, callback: Callable[[], None]) -> bool:
        del callback
        return True

    def code(self) -> StatusCode:
        return StatusCode.CANCELLED

    def details(self) -> str:
        return ""

    def trailing_metadata(self) -> None:
        return None


def test_a_cut_session_is_cancelled_before_its_input_ends() -> None:
    """Otherwise gRPC would half-close, and the gateway take the loss for a polite end."""
    calls: list[RecordedCall] = []

    def start(outbox: Iterator[ConverseRequest], _: grpc.Channel | None) -> RecordedCall:
        calls.append(RecordedCall(outbox))
        return calls[0]

    dialler = Dialler("localhost:1", lambda *_: grpc.insecure_channel("localhost:1"), start)
    with pytest.raises(ZeroDivisionError), Session(dialler, Open(), IMPATIENT, 1.0, None):
        raise ZeroDivisionError
    assert calls[0].ended_at_cancel is False
    assert calls[0].outbox.ended


def test_another_thread_may_close_while_one_reads() -> None:
    with (
        serving(scripts.text_turn) as gateway,
        Client(gateway.address) as client,
        client.open(resumable=False) as session,
    ):
        session.create_response()
        for event in session:
            if type(event).__name__ == "ResponseDone":
                session.close()
        assert session.closed is not None
