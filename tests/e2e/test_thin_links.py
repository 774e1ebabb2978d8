"""Links on which bytes come one by one, or by fits: slow is all that they make a conversation."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import event_pb2 as event

from tests.support.calls import Caller
from tests.support.ports import free_port
from tests.support.stack import channel_to, gateway_on, pool, simulator

TEXT: Final = control.SessionOverrides(output_modality=control.OUTPUT_MODALITY_TEXT)
POOLS: Final = {"default": pool(floor=1, ceiling=4, demand={"enabled": False})}
QUESTION: Final = "Tell me about the history of the telephone."
SECONDS: Final = 30.0


@asynccontextmanager
async def sliced(backend: str, size: int) -> AsyncIterator[str]:
    """Carry connections to `backend`, no more than `size` bytes in a packet."""
    host, _, port = backend.rpartition(":")
    tasks = set[asyncio.Task[None]]()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := await reader.read(65_536):
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                await asyncio.sleep(0)  # what is written in one turn would go out together
        writer.write_eof()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        try:
            await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))
        except OSError:
            pass  # the other side has gone first
        finally:
            for each in (writer, far_writer):
                each.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.ensure_future(connected(reader, writer)))
        task.add_done_callback(tasks.discard)

    address = f"127.0.0.1:{free_port()}"
    server = await asyncio.start_server(accept, "127.0.0.1", int(address.rpartition(":")[2]))
    try:
        yield address
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answer(caller: Caller, overrides: control.SessionOverrides | None) -> tuple[str, bytes]:
    """Ask; return the answer's words and its audio."""
    await (caller.open(overrides=overrides) if overrides else caller.open())
    await caller.say(QUESTION)
    await caller.answer_please()
    done = await caller.until("response_done")
    assert done.status == event.RESPONSE_STATUS_COMPLETED
    (words,) = [each.text for each in caller.all("item_done") if each.role == "assistant"]
    await caller.bye()
    await caller.rest()
    numbers = [each.seq for each in caller.seen if each.seq]
    assert numbers == list(range(1, len(numbers) + 1))
    assert not caller.all("state_changed")
    return words, caller.audio()


@pytest.mark.parametrize(
    ("size", "overrides"), [(1, TEXT), (97, None)], ids=["byte by byte, words", "97 bytes, speech"]
)
async def test_an_answer_over_links_that_carry_a_few_bytes_at_a_time_is_the_answer(
    size: int, overrides: control.SessionOverrides | None
) -> None:
    async with simulator() as sim:
        backend, _, path = sim.url.removeprefix("ws://").partition("/")
        async with sliced(backend, size) as upstream, gateway_on(f"ws://{upstream}/{path}", pools=POOLS) as running:
            await running.until_warm(1)
            async with sliced(running.address, size) as door, channel_to(door) as channel, asyncio.timeout(SECONDS):
                thin = Caller(channel)
                thin.patience_seconds = SECONDS
                words, audio = await answer(thin, overrides)
        async with gateway_on(sim.url, pools=POOLS) as running:
            await running.until_warm(1)
            assert await answer(running.caller(), overrides) == (words, audio)
    assert words
    assert bool(audio) is (overrides is None)
