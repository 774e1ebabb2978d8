"""What waits for the caller: in order, bounded in bytes, and gone when it is said to be."""

import asyncio

import pytest

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason
from gateway.core.events import Outgoing
from gateway.runtime.outbox import Outbox, OutboxOptions
from tests.support.virtual_time import now, turns


def box(max_bytes: int = 10_000) -> Outbox:
    return Outbox(OutboxOptions(audio_max_bytes=max_bytes, other_max_bytes=max_bytes))


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
    outbox = box()
    put = [text("a"), audio(), text("b")]
    for each in put:
        outbox.put(each)
    assert await drained(outbox) == put


async def test_a_taker_waits_for_the_next() -> None:
    outbox = box()
    taker = asyncio.get_running_loop().create_task(outbox.get())
    await turns(2)
    assert not taker.done()
    outbox.put(text("a"))
    outbox.put(text("b"))
    assert await taker == text("a")


async def test_a_taker_that_was_cancelled_takes_nothing_along() -> None:
    outbox = box()
    taker = asyncio.get_running_loop().create_task(outbox.get())
    await turns(2)
    outbox.put(text("a"))
    taker.cancel()
    await turns(2)
    assert await outbox.get() == text("a")


async def test_bytes_are_bounded() -> None:
    outbox = box(1000)
    outbox.put(audio(700))
    with pytest.raises(CallerError, match="read faster") as caught:
        outbox.put(audio(100))
    assert caught.value.reason is Reason.SLOW_CALLER
    assert len(outbox) == 1


@pytest.mark.parametrize("event", [out.Raw(bytes(2000)), out.OutputAudio(bytes(2000), "r", "i", 0)])
async def test_large_events_weigh_what_they_hold(event: out.LiveEvent) -> None:
    with pytest.raises(CallerError):
        box(2000).put(Outgoing(event))


async def test_small_events_are_not_free() -> None:
    outbox = box(1000)
    outbox.put(text(""))
    outbox.put(text(""))
    outbox.put(text(""))
    with pytest.raises(CallerError):
        outbox.put(text(""))


async def test_control_events_weigh_what_they_carry() -> None:
    with pytest.raises(CallerError):
        box(4000).put(Outgoing(out.ItemDone("i", "message", "user", "x" * 5000), seq=1), size_bytes=5020)


async def test_speech_does_not_push_words_out_nor_words_speech() -> None:
    outbox = Outbox(OutboxOptions(audio_max_bytes=1000, other_max_bytes=1000))
    outbox.put(audio(700))
    outbox.put(text("a"))
    outbox.put(text("b"))
    assert len(outbox) == 3


async def test_the_largest_event_of_the_provider_fits() -> None:
    outbox = Outbox(OutboxOptions())
    outbox.put(Outgoing(out.Raw(bytes(16 << 20))))
    assert len(outbox) == 1


async def test_what_was_taken_makes_room() -> None:
    outbox = box(1000)
    for _ in range(10):
        outbox.put(audio(700))
        await outbox.get()
        outbox.sent()


async def test_what_was_refused_takes_no_room() -> None:
    outbox = box(1000)
    with pytest.raises(CallerError):
        outbox.put(audio(5000))
    outbox.put(audio(700))
    assert len(outbox) == 1


async def test_flushed_audio_makes_room_and_words_stay() -> None:
    outbox = box(2000)
    outbox.put(text("a"))
    outbox.put(audio(700))
    outbox.put(text("b"))
    outbox.flush_audio()
    outbox.put(audio(700))
    assert [type(each.event) for each in await drained(outbox)] == [out.TextDelta, out.TextDelta, out.OutputAudio]


# Emptied.


def emptying(outbox: Outbox) -> "asyncio.Task[None]":
    return asyncio.get_running_loop().create_task(outbox.emptied())


async def test_an_unused_box_is_empty() -> None:
    began = now()
    await box().emptied()
    assert now() == began


async def test_a_box_is_emptied_when_the_last_has_gone_out() -> None:
    outbox = box()
    outbox.put(text("a"))
    outbox.put(text("b"))
    waiting = emptying(outbox)
    for _ in range(2):
        await outbox.get()
        await turns(3)
        assert not waiting.done()
        outbox.sent()
    await waiting


async def test_an_event_under_way_has_not_gone_out() -> None:
    outbox = box()
    outbox.put(text("a"))
    await outbox.get()
    waiting = emptying(outbox)
    await asyncio.sleep(1.0)
    assert not waiting.done()
    outbox.sent()
    await waiting


async def test_a_box_that_is_filled_again_is_not_empty() -> None:
    outbox = box()
    outbox.put(text("a"))
    waiting = emptying(outbox)
    await turns(2)
    await outbox.get()
    outbox.sent()
    outbox.put(text("b"))  # before the one who waits has had its turn
    await turns(3)
    assert not waiting.done()
    await outbox.get()
    outbox.sent()
    await waiting


async def test_a_flush_can_empty_the_box() -> None:
    outbox = box()
    outbox.put(audio())
    waiting = emptying(outbox)
    await turns(2)
    outbox.flush_audio()
    await asyncio.wait({waiting}, timeout=1.0)
    assert waiting.done()
