"""What comes back after a connection was lost: each event once, in order, and what is missing by name."""

from trunkline.v1.event_pb2 import ItemDone, SpeechStarted, Token
from trunkline.v1.session_pb2 import ConverseResponse, Resumed, SeqRange

from .long_session import LongSession
from .resuming import audio_of, items_until, talking, told, until
from .shells import Connect, names_of


async def test_the_newest_token_is_shown_and_is_no_event(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        for number in range(2):
            await session.send_text(f"ready {number}")
            assert names_of((await items_until(session, f"ready {number}"))[1]) == ["Resumed"] * (number > 0)
            long.token = f"rotated {number}"
            long.say(ConverseResponse(token=Token(resume_token=long.token)))
            await session.send_text(f"before {number}")
            assert await items_until(session, f"before {number}") == ([f"before {number}"], [])
            cutter.cut()
        await session.send_text("last")
        await items_until(session, "last")
    assert [resume.token for resume in long.resumes] == ["rotated 0", "rotated 1"]


async def test_what_was_missed_is_replayed_and_what_comes_twice_is_dropped(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        cutter.cut(lets_in=False)
        for name in "abc":
            long.say(ConverseResponse(item_done=ItemDone(item_id=name)), numbered=True)
        cutter.lets_in.set()
        assert (await items_until(session, "c"))[0] == ["a", "b", "c"]
        for response in long.log[1:]:
            long.say(response)
        long.say(ConverseResponse(item_done=ItemDone(item_id="d")), numbered=True)
        assert (await items_until(session, "d"))[0] == ["d"]
        assert session.resumed_count == 1


async def test_a_jump_is_a_loss_and_nothing_is_missing_afterwards(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, _):
        long.log.append(ConverseResponse(item_done=ItemDone(item_id="a"), seq=2))
        long.say(ConverseResponse(item_done=ItemDone(item_id="b")), numbered=True)
        items, others = await items_until(session, "b")
        assert (items, names_of(others)) == (["a", "b"], ["Resumed"])


async def test_a_gap_that_is_announced_is_told_and_passed_over(connect: Connect) -> None:
    long = LongSession(more=Resumed(gap=SeqRange(**{"from": 2, "to": 3}), unrestored_items=["i7"]))
    async with talking(connect, long) as (session, cutter):
        cutter.cut(lets_in=False)
        for name in ("lost", "lost", "a"):
            long.say(ConverseResponse(item_done=ItemDone(item_id=name)), numbered=True)
        cutter.lets_in.set()
        items, others = await items_until(session, "a")
        assert items == ["a"]
        (resumed,) = others
        assert isinstance(resumed, Resumed)
        assert (resumed.gap.to, list(resumed.unrestored_items)) == (3, ["i7"])


async def test_an_owner_that_was_replaced_is_not_heard(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        long.say(ConverseResponse(item_done=ItemDone(item_id="new"), epoch=2), numbered=True)
        long.say(ConverseResponse(speech_started=SpeechStarted(item_id="old"), epoch=1))
        await session.send_text("1")
        items, others = await items_until(session, "1")
        assert (items, others) == (["new", "1"], [])
        cutter.cut()
        await session.send_text("2")
        await items_until(session, "2")
    assert [(each.epoch, each.first_seq) for each in long.resumes[0].epochs] == [(0, 1), (2, 2)]


async def test_each_sample_is_handed_out_once_and_what_was_played_is_told(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, cutter):
        long.speak("i1", 0, b"aabbcc")
        assert [event.data for event in await audio_of(session, 1)] == [b"aabbcc"]
        await until(lambda: any(ack.output.received_samples == 3 for ack in long.acks))
        assert long.acks[-1].output.played_samples == 3
        await told(session.played("i1", 2))  # type: ignore[func-returns-value]
        await until(lambda: long.acks[-1].output.played_samples == 2)
        cutter.cut()
        await until(lambda: len(long.conversations) == 2)
        long.speak("i1", 1, b"bbcc")
        long.speak("i1", 2, b"ccdd")
        long.speak("i1", 4, b"ee")
        assert [(event.position, event.data) for event in await audio_of(session, 2)] == [(3, b"dd"), (4, b"ee")]
    (resume,) = long.resumes
    output = resume.output
    assert (output.item_id, output.received_samples, output.played_samples) == ("i1", 3, 2)
