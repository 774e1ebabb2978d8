"""An `open` that nobody waits for any more: the session may have begun, and must not wait for its caller."""

import asyncio
import time

import pytest

from trunkline_client import AsyncClient, ConnectionLost

from . import scripts
from .resuming import QUICK, until
from .scripted_gateway import Conversation, Script, serving
from .shells import Connect


async def given_up(connect: Connect, script: Script, seconds: float | None) -> tuple[Conversation, float]:
    """Give up an `open` after so long, None = by closing the session; return what its gateway saw, and the time."""
    with serving(script) as gateway:
        async with connect(gateway.address, options=QUICK) as client:
            session = client.open(open_timeout_seconds=seconds or 15.0)
            entering = asyncio.create_task(session.__aenter__())
            conversation = await asyncio.to_thread(gateway.conversation)
            await until(lambda: conversation.received != [])
            begun = time.monotonic()
            if seconds is None:
                await session.close()
            with pytest.raises(ConnectionLost):
                await entering
            assert conversation.over.wait(5)
    return conversation, time.monotonic() - begun


def opens_late(conversation: Conversation) -> scripts.Answers:
    """Takes its time, and would park whoever is gone then without a word."""
    requests = iter(conversation)
    next(requests)
    for request in requests:
        yield scripts.opened()
        yield scripts.goodbye(request, 2)
        return


@pytest.mark.parametrize("seconds", [None, 0.1])
async def test_an_open_that_is_given_up_says_bye_for_it_may_have_begun(connect: Connect, seconds: float | None) -> None:
    conversation, _ = await given_up(connect, opens_late, seconds)
    assert conversation.kinds() == ["open", "bye"]
    assert conversation.received[1].bye.now
    assert conversation.finished


@pytest.mark.parametrize("seconds", [None, 0.1])
async def test_giving_up_an_open_is_bounded_where_nobody_answers(connect: Connect, seconds: float | None) -> None:
    _, took = await given_up(connect, scripts.silent, seconds)
    assert took < 2


async def test_a_cancelled_open_says_bye_for_it_may_have_begun() -> None:
    before = asyncio.all_tasks()
    with serving(opens_late) as gateway:
        async with AsyncClient(gateway.address, options=QUICK) as client:
            entering = asyncio.create_task(client.open().__aenter__())
            conversation = await asyncio.to_thread(gateway.conversation)
            await until(lambda: conversation.received != [])
            entering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await entering
            assert conversation.over.wait(5)
    assert (conversation.kinds(), conversation.finished) == (["open", "bye"], True)
    await until(lambda: asyncio.all_tasks() <= before)
