"""What waits for the caller: in order, bounded in bytes, and gone when it is said to be."""

import asyncio

import pytest

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason
from gateway.core.events import Outgoing
from gateway.runtime.outbox import Outbox
from tests.support.virtual_time import now, turns


def audio(size: int = 100) -> Outgoing:
    return Outgoing(out.OutputAudio(bytes(size), "r", "i", 0))


def text(words: str) -> Outgoing:
    return Outgoing(out.TextDelta(words, "r", "i"))


async def drained(outbox: Outbox) -> list[Outgoing]:
    taken = []
    while len(outbox):
        taken.append(await outbox.get())
        outbox.sent()
    return taken


async def test_first_in_first_out() -> None:
    outbox = Outbox(10_000)
    put = [text("a"), audio(), text("b")]
    for each in put:
        outbox.put(each)
    assert await drained(outbox) == put


async def test_a_taker_waits_for_the_next() -> None:
    outbox = Outbox(10_000)
    taker = asyncio.get_running_loop().create_task(outbox.get())
    await turns(2)
    assert not taker.done()
    outbox.put(text("a"))
    outbox.put(text("b"))
    assert await taker == text("a")


async def test_a_taker_that_was_cancelled_takes_nothing_along() -> None:
    outbox = Outbox(10_000)
    taker = asyncio.get_running_loop().create_task(outbox.get())
    await turns(2)
    outbox.put(text("a"))
    taker.cancel()
    await turns(2)
    assert await outbox.get() == text("a")


async def test_bytes_are_bounded() -> None:
    outbox = Outbox(1000)
    outbox.put(audio(700))
    with pytest.raises(CallerError, match="read faster") as caught:
        outbox.put(audio(100))
    assert caught.value.reason is Reason.SLOW_CALLER
    assert len(outbox) == 1


@pytest.mark.parametrize("event", [out.Raw(bytes(2000)), out.OutputAudio(bytes(2000), "r", "i", 0)])
async def test_large_events_weigh_what_they_hold(event: out.LiveEvent) -> None:
    with pytest.raises(CallerError):
        Outbox(2000).put(Outgoing(event))


async def test_small_events_are_not_free() -> None:
    outbox = Outbox(10_000)
    with pytest.raises(CallerError):
        for _ in range(1000):
            outbox.put(text(""))


@pytest.mark.parametrize(
    "event",
    [
        out.TextDelta("x" * 5000, "r", "i"),
        out.SessionUpdated("x" * 5000),
        out.ItemDone("i", "message", "user", "x" * 5000),
        out.ToolCall("c", "f", "x" * 5000, "r", "i"),
        out.UserTranscript("x" * 5000, "i"),
    ],
    ids=lambda event: type(event).__name__,
)
async def test_long_words_weigh_what_they_hold(event: out.SessionEvent) -> None:
    with pytest.raises(CallerError):
        Outbox(4000).put(Outgoing(event))


async def test_what_was_taken_makes_room() -> None:
    outbox = Outbox(1000)
    for _ in range(10):
        outbox.put(audio(700))
        await outbox.get()
        outbox.sent()


async def test_what_was_refused_takes_no_room() -> None:
    outbox = Outbox(1000)
    with pytest.raises(CallerError):
        outbox.put(audio(5000))
    outbox.put(audio(700))
    assert len(outbox) == 1


async def test_flushed_audio_makes_room_and_words_stay() -> None:
    outbox = Outbox(2000)
    outbox.put(text("a"))
    outbox.put(audio(700))
    outbox.put(text("b"))
    outbox.flush_audio()
    outbox.put(audio(700))
    assert [type(each.event) for each in await drained(outbox)] == [out.TextDelta, out.TextDelta, out.OutputAudio]


# Emptied.


async def test_an_unused_box_is_empty() -> None:
    assert await Outbox(1000).emptied(1.0)


async def test_a_box_is_emptied_when_the_last_has_gone_out() -> None:
    outbox = Outbox(10_000)
    outbox.put(text("a"))
    outbox.put(text("b"))
    waiting = asyncio.get_running_loop().create_task(outbox.emptied(5.0))
    for _ in range(2):
        await outbox.get()
        await turns(3)
        assert not waiting.done()
        outbox.sent()
    assert await waiting


async def test_a_box_that_is_not_emptied_in_time_says_so() -> None:
    outbox = Outbox(10_000)
    outbox.put(text("a"))
    began = now()
    assert not await outbox.emptied(2.0)
    assert now() - began == 2.0


async def test_an_event_under_way_has_not_gone_out() -> None:
    outbox = Outbox(10_000)
    outbox.put(text("a"))
    await outbox.get()
    assert not await outbox.emptied(2.0)


async def test_the_wait_is_bounded_however_much_is_added() -> None:
    outbox = Outbox(10_000)
    outbox.put(text("a"))
    waiting = asyncio.get_running_loop().create_task(outbox.emptied(2.0))
    began = now()
    while not waiting.done() and now() - began < 10.0:
        await outbox.get()
        outbox.sent()
        outbox.put(text("more"))  # before the one who waits has had its turn
        await asyncio.sleep(0.5)
    assert now() - began <= 2.5
    assert not await waiting


async def test_a_flush_can_empty_the_box() -> None:
    outbox = Outbox(10_000)
    outbox.put(audio())
    waiting = asyncio.get_running_loop().create_task(outbox.emptied(2.0))
    await turns(2)
    outbox.flush_audio()
    assert await waiting
