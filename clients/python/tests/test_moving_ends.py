"""How a session ends that is about to move: nothing of the move is left behind."""

import asyncio
import threading
import time

import pytest

from trunkline_client.events import GoAway

from .long_session import LongSession
from .moving import answered, says_nothing
from .resuming import QUICK, talking, until
from .scripted_gateway import Conversation
from .shells import Connect


@pytest.mark.parametrize("is_prepared", [False, True])
async def test_leaving_while_it_is_prepared_leaves_nothing(connect: Connect, is_prepared: bool) -> None:  # noqa: FBT001
    before = asyncio.all_tasks()
    begun = list[Conversation]()

    def hook(conversation: Conversation) -> None:
        begun.append(conversation)
        if not is_prepared:
            says_nothing(conversation)

    long = LongSession()
    (long.after_prepared if is_prepared else long.before_prepared).append(hook)
    async with talking(connect, long) as (session, _):
        await answered(long, session)
        long.go_away()
        await until(lambda: len(begun) == 1)
        left_at = time.monotonic()
        await session.close()
        assert time.monotonic() - left_at < 1
        await until(begun[0].over.is_set)
        assert not [each for each in asyncio.all_tasks() if each.get_name() == "trunkline moves"]
        assert not [each for each in threading.enumerate() if each.name == "trunkline moves"]
    await until(lambda: asyncio.all_tasks() <= before)
    assert (long.resumes, long.byes) == ([], [True])


async def test_the_end_of_the_input_ends_a_move_too(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, _):
        await answered(long, session)
        long.go_away()
        await until(lambda: len(long.prepared) == 1)
        await session.end_input()
        assert [type(event) async for event in session][-1].__name__ == "Closed"
        await until(long.prepared[0].over.is_set)
    assert (long.resumes, long.byes) == ([], [False])


async def test_closing_the_client_ends_a_move(connect: Connect) -> None:
    long = LongSession(before_prepared=[says_nothing])
    async with talking(connect, long, QUICK) as (session, _):
        long.go_away()
        await until(lambda: len(long.prepares) == 1)
        assert isinstance(await anext(session), GoAway)
        await session.close()
    assert long.byes == [True]
