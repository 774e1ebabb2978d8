"""Back-pressure, in bytes: nobody's haste fills anybody's memory, and nothing is lost by waiting."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from trunkline.v1.event_pb2 import OutputAudio
from trunkline.v1.session_pb2 import ConverseRequest, ConverseResponse

from trunkline_client import AsyncClient, AsyncSession, Client, ConnectionLost, ConnectionOptions
from trunkline_client.events import Event

from . import scripts
from .scripted_gateway import Conversation, serving
from .shells import Connect

KIBIBYTE = 1024
CHUNK = bytes(4 * KIBIBYTE)
# One window of HTTP/2 at the gateway, as the scripts serve it.
GATEWAY_WINDOW = 64 * KIBIBYTE
IMPATIENT = ConnectionOptions(write_timeout_seconds=0.5, close_timeout_seconds=0.2)
PLENTY = 40
MEBIBYTE_OF_CHUNKS = 256
FAR_TOO_MUCH = 8 * MEBIBYTE_OF_CHUNKS * len(CHUNK)


async def settled(value: Callable[[], int], seconds: float = 10) -> int:
    """Return a count once it has stood still for a while."""
    async with asyncio.timeout(seconds):
        before, same = value(), 0
        while same < 20:
            await asyncio.sleep(0.02)
            before, same = (before, same + 1) if value() == before else (value(), 0)
    return before


# A caller that is faster than the gateway.


async def taken_until_it_waits(session: AsyncSession) -> int:
    """Return how many bytes of audio were taken before a send waited in vain."""
    taken = 0
    with pytest.raises(ConnectionLost, match="TIMED_OUT"):
        while taken < FAR_TOO_MUCH:
            await session.send_audio(CHUNK)
            taken += len(CHUNK)
    return taken


async def test_on_asyncio_a_send_waits_as_soon_as_the_gateways_window_is_full() -> None:
    with serving(scripts.deaf) as gateway:
        async with AsyncClient(gateway.address, options=IMPATIENT) as client, client.open(resumable=False) as session:
            taken = await taken_until_it_waits(session)
    assert GATEWAY_WINDOW // 2 <= taken <= GATEWAY_WINDOW + 64 * KIBIBYTE


@pytest.mark.parametrize("queue_bytes", [32 * KIBIBYTE, 512 * KIBIBYTE])
def test_a_blocking_send_waits_once_its_queue_is_full(queue_bytes: int) -> None:
    options = ConnectionOptions(write_timeout_seconds=0.5, close_timeout_seconds=0.2, send_queue_max_bytes=queue_bytes)
    taken = 0
    with (
        serving(scripts.deaf) as gateway,
        Client(gateway.address, options=options) as client,
        client.open(resumable=False) as session,
        pytest.raises(ConnectionLost, match="TIMED_OUT"),
    ):
        while taken < FAR_TOO_MUCH:
            session.send_audio(CHUNK)
            taken += len(CHUNK)
    assert queue_bytes <= taken <= queue_bytes + GATEWAY_WINDOW + 64 * KIBIBYTE


class HesitantGateway:
    """Reads nothing until it is told to, and then everything."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.received_bytes = 0

    def script(self, conversation: Conversation) -> scripts.Answers:
        requests: Iterator[ConverseRequest] = iter(conversation)
        next(requests)
        yield scripts.opened()
        self.told.wait(10)
        for request in requests:
            self.received_bytes += len(request.audio)
            if request.HasField("bye"):
                yield scripts.goodbye(request, 2)
                return


async def test_a_sender_that_waited_goes_on_and_nothing_is_lost(connect: Connect) -> None:
    hesitant = HesitantGateway()
    messages = 2 * MEBIBYTE_OF_CHUNKS
    sent = 0
    with serving(hesitant.script) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:

            async def speak() -> None:
                nonlocal sent
                for _ in range(messages):
                    await session.send_audio(CHUNK)
                    sent += 1
                await session.end_input()

            speaking = asyncio.create_task(speak())
            waits_at = await settled(lambda: sent)
            assert waits_at * len(CHUNK) <= 512 * KIBIBYTE
            hesitant.told.set()
            async with asyncio.timeout(10):
                await speaking
                assert [type(event).__name__ async for event in session] == ["Closed"]
    assert hesitant.received_bytes == messages * len(CHUNK)


# A gateway that is faster than the application.


class TalkativeGateway:
    """Sends 4 MiB as fast as it can."""

    def __init__(self) -> None:
        self.sent_bytes = 0

    def script(self, conversation: Conversation) -> scripts.Answers:
        next(iter(conversation))
        yield scripts.opened()
        for position in range(4 * MEBIBYTE_OF_CHUNKS):
            if conversation.over.is_set():
                return
            yield ConverseResponse(audio=OutputAudio(data=CHUNK, position=position))
            # Counted once gRPC has asked for the next.
            self.sent_bytes += len(CHUNK)
        conversation.over.wait(10)


async def test_an_application_that_does_not_read_holds_the_gateway_up(connect: Connect) -> None:
    talkative = TalkativeGateway()
    options = ConnectionOptions(close_timeout_seconds=0.2)
    with serving(talkative.script) as gateway:
        async with connect(gateway.address, options=options) as client, client.open(resumable=False) as session:
            held_at = await settled(lambda: talkative.sent_bytes)
            assert 0 < held_at <= 64 * KIBIBYTE
            # Two seconds of speech at most are on the way, and all of them come in order.
            positions = [position_of(await anext(session)) for _ in range(PLENTY)]
            assert positions == list(range(PLENTY))
            went_on = await settled(lambda: talkative.sent_bytes)
    assert went_on > held_at
    assert went_on <= PLENTY * len(CHUNK) + 64 * KIBIBYTE


def position_of(event: Event) -> int:
    assert isinstance(event, OutputAudio)
    return event.position


@pytest.mark.parametrize("buffer_bytes", [8 * KIBIBYTE, 512 * KIBIBYTE])
async def test_the_buffer_before_the_application_is_as_large_as_asked(buffer_bytes: int) -> None:
    talkative = TalkativeGateway()
    options = ConnectionOptions(close_timeout_seconds=0.2, receive_buffer_max_bytes=buffer_bytes)
    with serving(talkative.script) as gateway:
        async with AsyncClient(gateway.address, options=options) as client, client.open(resumable=False):
            held_at = await settled(lambda: talkative.sent_bytes)
    assert buffer_bytes <= held_at <= buffer_bytes + 64 * KIBIBYTE


@pytest.mark.parametrize("lookahead_bytes", [16 * KIBIBYTE, 1024 * KIBIBYTE])
async def test_what_grpc_holds_beside_it_is_as_large_as_asked(connect: Connect, lookahead_bytes: int) -> None:
    talkative = TalkativeGateway()
    options = ConnectionOptions(close_timeout_seconds=0.2, lookahead_bytes=lookahead_bytes)
    with serving(talkative.script) as gateway:
        async with connect(gateway.address, options=options) as client, client.open(resumable=False):
            held_at = await settled(lambda: talkative.sent_bytes)
    assert lookahead_bytes // 2 <= held_at <= 2 * lookahead_bytes + 64 * KIBIBYTE
