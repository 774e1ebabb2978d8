"""Resumable sessions over a wire that can be cut: what their tests share."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from grpc import StatusCode

from trunkline_client import AsyncSession, ConnectionOptions
from trunkline_client.events import Event, ItemDone, OutputAudio

from . import scripts
from .cutting import Cutter, cuttable
from .long_session import LongSession
from .scripted_gateway import Conversation, serving
from .shells import Connect

QUICK = ConnectionOptions(
    close_timeout_seconds=0.4,
    ack_interval_seconds=0.05,
    owner_timeout_seconds=0.2,
    initial_reconnect_backoff_ms=20,
    max_reconnect_backoff_ms=50,
    resume_backoff_first_seconds=0.01,
    resume_backoff_max_seconds=0.05,
)


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Wait for what happens in a gateway's threads."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - threads signal nothing to this loop
            await asyncio.sleep(0.005)


async def items_until(session: AsyncSession, name: str) -> tuple[list[str], list[Event]]:
    """Read until the item of this name; return all items' names and all other events."""
    items: list[str] = []
    others: list[Event] = []
    async with asyncio.timeout(10):
        async for event in session:
            if not isinstance(event, ItemDone):
                others.append(event)
                continue
            items.append(event.item_id)
            if event.item_id == name:
                break
    return items, others


@contextmanager
def wired(long: LongSession) -> Iterator[Cutter]:
    with serving(long.script) as gateway, cuttable(gateway.address) as cutter:
        yield cutter


@asynccontextmanager
async def talking(
    connect: Connect, long: LongSession, options: ConnectionOptions = QUICK
) -> AsyncIterator[tuple[AsyncSession, Cutter]]:
    """Open a resumable session over a wire that can be cut."""
    with wired(long) as cutter:
        async with connect(cutter.address, options=options) as client, client.open(resumable=True) as session:
            yield session, cutter


async def audio_of(session: AsyncSession, pieces: int) -> list[OutputAudio]:
    """Read so many pieces of audio, past all other events."""
    found: list[OutputAudio] = []
    async with asyncio.timeout(10):
        while len(found) < pieces:
            event = await anext(session)
            if isinstance(event, OutputAudio):
                found.append(event)
    return found


async def told(answer: object) -> None:
    """Await what is a coroutine for blocking sessions alone."""
    if inspect.isawaitable(answer):
        await answer


def refusing(reason: str) -> Callable[[Conversation], None]:
    def refuse(conversation: Conversation) -> None:
        scripts.refuse(conversation.context, reason, StatusCode.UNAVAILABLE, retry_after_seconds=0.01)

    return refuse
