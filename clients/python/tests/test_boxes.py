"""The two bounded boxes between gRPC and the caller."""

import asyncio
import threading

import pytest
from trunkline.v1.session_pb2 import ConverseRequest

from trunkline_client._inbox import Inbox
from trunkline_client._outbox import Outbox
from trunkline_client.events import Event, OutputAudio


def event(number: int) -> Event:
    return OutputAudio(position=number)


async def test_the_inbox_keeps_the_order_and_ends_after_the_last() -> None:
    inbox = Inbox(max_bytes=100)
    for number in range(3):
        await inbox.put(event(number), 10)
    inbox.end()
    assert [await inbox.get() for _ in range(3)] == [event(0), event(1), event(2)]
    assert await inbox.get() is None
    await inbox.put(event(3), 10)
    assert await inbox.get() is None


async def test_the_writer_waits_while_the_bound_is_reached() -> None:
    inbox = Inbox(max_bytes=20)
    await inbox.put(event(0), 10)
    putting = asyncio.create_task(inbox.put(event(1), 10))
    await asyncio.sleep(0)
    assert not putting.done()
    await inbox.get()
    async with asyncio.timeout(1):
        await putting


@pytest.mark.parametrize("release", ["end", "discard", "lift_bound"])
async def test_the_writer_is_let_go(release: str) -> None:
    inbox = Inbox(max_bytes=1)
    putting = asyncio.create_task(inbox.put(event(0), 10))
    await asyncio.sleep(0)
    getattr(inbox, release)()
    async with asyncio.timeout(1):
        await putting


async def test_several_readers_share_what_comes_and_all_hear_the_end() -> None:
    inbox = Inbox(max_bytes=100)
    reading = [asyncio.create_task(inbox.get()) for _ in range(3)]
    await asyncio.sleep(0)
    await inbox.put(event(0), 10)
    inbox.end()
    async with asyncio.timeout(1):
        found = await asyncio.gather(*reading)
    assert sorted(found, key=str) == [None, None, event(0)] or found.count(None) == 2


def outbox(max_bytes: int) -> tuple[threading.Condition, Outbox]:
    changed = threading.Condition()
    return changed, Outbox(changed, max_bytes)


def test_the_outbox_hands_out_in_order_and_ends() -> None:
    changed, box = outbox(100)
    requests = [ConverseRequest(audio=bytes([number])) for number in range(3)]
    with changed:
        for request in requests:
            box.put(request)
        box.end()
    assert list(box) == requests


def test_a_full_outbox_has_no_room_until_something_is_taken() -> None:
    changed, box = outbox(10)
    with changed:
        box.put(ConverseRequest(audio=bytes(20)))
        assert not box.await_room(0.01)
    next(box)
    with changed:
        assert box.await_room(0.01)


def test_the_end_lets_everyone_go() -> None:
    changed, box = outbox(10)
    taken: list[list[ConverseRequest]] = []
    taking = threading.Thread(target=lambda: taken.append(list(box)))
    taking.start()
    with changed:
        box.put(ConverseRequest(audio=bytes(20)))
        box.end()
        assert box.await_room(0)
    taking.join(5)
    assert not taking.is_alive()
    assert len(taken[0]) == 1
