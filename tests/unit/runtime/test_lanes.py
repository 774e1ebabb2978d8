"""Two lanes: the control lane in order and stored first, the live lane never held."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core import events as out
from gateway.core.errors import Reason, StoreError
from gateway.core.events import Outgoing
from gateway.core.session import SessionState
from gateway.runtime import lane_parts
from gateway.runtime.lane_parts import LaneOptions, LaneParts
from gateway.runtime.lanes import Lanes
from gateway.runtime.outbox import Outbox, OutboxOptions
from gateway.runtime.ports import SessionKey
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import Store
from tests.unit.runtime.stage import Form

HOLD_SECONDS = 0.25
KEY = SessionKey("acme", "sess_1")
TEXT = out.TextDelta("a", "r", "i")
OPENED = out.Opened(
    "s", "u", "", out.Durability.PROCESS, 1, 1, 1, 1, 1, out.ConfigState.APPLIED, out.LineSource.WARM, 0, 0,
    "default", "v", "m", "audio/pcm", "audio/pcm", "",
)  # fmt: skip
INTERRUPTED = out.Interrupted("r", "i", out.InterruptionCause.SPEECH, 0, had_tool_calls=False)


class Bench:
    """Two lanes, the store behind them, and what has come out."""

    def __init__(self, **options: int) -> None:
        self.store = Store()
        self.outbox = Outbox(OutboxOptions())
        self.lanes = Lanes(KEY, 3, self.outbox, LaneParts(self.store, Form(), LaneOptions(**options)))
        self.came: list[tuple[float, Outgoing]] = []
        loop = asyncio.get_running_loop()
        self.storing = loop.create_task(self.lanes.run(), name="lanes")
        self._taking = loop.create_task(self._take(), name="writer")

    async def _take(self) -> None:
        while True:
            outgoing = await self.outbox.get()
            self.came.append((now(), outgoing))
            self.outbox.sent()

    def say(self, text: str = "") -> None:
        self.lanes.control(out.InputCommitted(text))

    def numbers(self) -> list[int]:
        return [each.seq for _, each in self.came if each.seq]

    def durable(self) -> list[bool | None]:
        return [each.durable for _, each in self.came if each.seq]

    async def end(self) -> None:
        self.storing.cancel()
        self._taking.cancel()
        await asyncio.gather(self.storing, self._taking, return_exceptions=True)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    built = Bench()
    yield built
    await built.end()


# The control lane.


async def test_control_events_are_numbered_from_one_and_stored_before_they_are_sent(bench: Bench) -> None:
    bench.store.may_store.clear()
    bench.say("a")
    await turns(10)
    assert bench.came == []
    bench.store.may_store.set()
    await turns(10)
    assert [each for _, each in bench.came] == [
        Outgoing(out.InputCommitted("a"), seq=1, after_seq=0, epoch=3, durable=True)
    ]
    assert bench.store.numbers() == [1]
    assert bench.store.log[KEY][0].payload == b"1:InputCommitted:3"


async def test_control_events_keep_their_order(bench: Bench) -> None:
    for at in range(20):
        bench.say(str(at))
        await turns(at % 3)
    await turns(10)
    assert bench.numbers() == list(range(1, 21))
    assert bench.store.numbers() == list(range(1, 21))
    assert all(bench.durable())


async def test_what_comes_while_the_store_works_is_stored_together_next(bench: Bench) -> None:
    bench.store.may_store.clear()
    bench.say()
    await turns(5)
    bench.say()
    bench.say()
    await turns(5)
    bench.store.may_store.set()
    await turns(10)
    assert bench.store.appends == [(1,), (2, 3)]
    assert bench.numbers() == [1, 2, 3]


async def test_an_event_is_held_no_longer_than_the_hold(bench: Bench) -> None:
    bench.store.may_store.clear()
    began = now()
    bench.say()
    await asyncio.sleep(1.0)
    assert [at - began for at, _ in bench.came] == [HOLD_SECONDS]
    assert bench.durable() == [False]


async def test_an_event_behind_a_stuck_one_is_held_no_longer_either(bench: Bench) -> None:
    bench.store.may_store.clear()
    bench.say()
    await asyncio.sleep(0.1)
    began = now()
    bench.say()
    await asyncio.sleep(1.0)
    assert bench.numbers() == [1, 2]
    assert bench.came[1][0] - began <= HOLD_SECONDS


async def test_what_could_not_be_stored_is_stored_with_the_next(bench: Bench) -> None:
    bench.store.may_store.clear()
    bench.say()
    await asyncio.sleep(1.0)
    bench.store.may_store.set()
    bench.say()
    await turns(10)
    assert bench.store.numbers() == [1, 2]
    assert bench.durable() == [False, True]


async def test_a_store_that_is_slower_than_the_hold_still_stores(bench: Bench) -> None:
    """The hold bounds what a caller waits for, not what the store may take: nothing is sent twice."""
    for _ in range(20):
        bench.store.may_store.clear()
        bench.say()
        await asyncio.sleep(HOLD_SECONDS + 0.05)
        bench.store.may_store.set()
        await turns(10)
    assert bench.store.numbers() == list(range(1, 21))
    assert sum(map(len, bench.store.appends)) == 20
    assert bench.durable() == [False] * 20


async def test_a_refused_append_is_tried_again_now_and_then(bench: Bench) -> None:
    bench.store.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    bench.say()
    await asyncio.sleep(10.0)
    assert 5 <= len(bench.store.appends) <= 11
    bench.store.failure = None
    await asyncio.sleep(2.0)
    assert bench.store.numbers() == [1]  # without another event


async def test_a_store_that_refuses_holds_nobody_and_is_not_pestered(bench: Bench) -> None:
    bench.store.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    began = now()
    for _ in range(50):
        bench.say()
        await turns(10)
    assert (bench.numbers(), set(bench.durable()), now()) == (list(range(1, 51)), {False}, began)
    assert len(bench.store.appends) == 1
    bench.store.failure = None
    bench.say()
    await asyncio.sleep(2.0)
    assert bench.store.numbers() == list(range(1, 52))


async def test_an_append_that_was_cut_and_carried_out_is_not_stored_twice(bench: Bench) -> None:
    bench.store.may_store.clear()
    bench.say()
    await asyncio.sleep(1.0)
    bench.store.may_store.set()
    await bench.store.append(KEY, 3, list(bench.lanes._backlog))  # it had reached the server
    bench.say()
    await turns(10)
    assert bench.store.numbers() == [1, 2]


async def test_a_newer_owner_ends_the_lane(bench: Bench) -> None:
    bench.store.failure = StoreError(Reason.SUPERSEDED, "epoch 4")
    bench.say()
    with pytest.raises(StoreError) as caught:
        await bench.storing
    assert caught.value.reason is Reason.SUPERSEDED
    assert bench.came == []


@pytest.mark.parametrize("options", [{"backlog_max_bytes": 100}, {"backlog_max_entries": 6}])
async def test_what_waits_to_be_stored_is_bounded(options: dict[str, int]) -> None:
    bench = Bench(**options)
    bench.store.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    for _ in range(50):
        bench.say()
        await turns(5)
    assert bench.numbers() == list(range(1, 52))
    assert max(map(len, bench.store.appends)) <= 8
    await bench.end()


async def test_once_a_number_is_lost_the_caller_is_told_and_the_rest_goes_without_the_store() -> None:
    bench = Bench(backlog_max_entries=2)
    bench.store.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    for _ in range(3):
        bench.say()
        await turns(5)
    bench.store.failure = None
    appends = len(bench.store.appends)
    bench.say()
    await turns(5)
    (told,) = [each for _, each in bench.came if isinstance(each.event, out.StateChanged)]
    assert told.event == out.StateChanged(SessionState.ACTIVE, out.Durability.NONE, "store_lost")
    assert bench.numbers() == [1, 2, 3, 4, 5]
    assert not any(bench.durable())
    assert len(bench.store.appends) == appends, "there would be a gap in the record"
    await bench.end()


async def test_nothing_comes_behind_closed_when_the_record_is_lost_with_it() -> None:
    bench = Bench(backlog_max_entries=1)
    try:
        await lose_the_record_with_closed(bench)
    finally:
        await bench.end()


async def lose_the_record_with_closed(bench: Bench) -> None:
    bench.store.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    bench.say()
    await turns(5)
    bench.lanes.control(out.Closed(out.ClosedReason.BYE, out.Usage(), 0))
    await turns(10)
    assert isinstance(bench.came[-1][1].event, out.Closed)


# What is not held.


@pytest.mark.parametrize("event", [OPENED, INTERRUPTED], ids=["opened", "interrupted"])
async def test_some_control_events_are_stored_and_not_held(bench: Bench, event: out.ControlEvent) -> None:
    bench.store.may_store.clear()
    bench.lanes.control(event)
    await turns(3)
    assert [(each.event, each.seq, each.durable) for _, each in bench.came] == [(event, 1, False)]
    bench.store.may_store.set()
    await turns(5)
    assert bench.store.numbers() == [1]


async def test_an_interruption_does_not_overtake_what_is_held(bench: Bench) -> None:
    bench.store.may_store.clear()
    bench.say()
    bench.lanes.control(INTERRUPTED)
    await turns(5)
    assert bench.numbers() == [1, 2], "it takes along what is held: an interruption cannot wait"
    assert bench.durable() == [False, False]
    bench.store.may_store.set()
    await turns(10)
    assert bench.numbers() == bench.store.numbers() == [1, 2]


async def test_an_interruption_does_not_overtake_what_is_just_being_stored(bench: Bench) -> None:
    bench.store.may_store.clear()
    bench.say()
    await turns(5)
    bench.lanes.control(INTERRUPTED)
    bench.store.may_store.set()
    await turns(10)
    assert bench.numbers() == [1, 2]


async def test_what_follows_an_interruption_stays_behind_it(bench: Bench) -> None:
    bench.lanes.control(INTERRUPTED)
    bench.say()
    await turns(10)
    assert bench.numbers() == [1, 2]
    assert bench.store.numbers() == [1, 2]


# The live lane.


async def test_the_live_lane_is_never_held(bench: Bench) -> None:
    bench.store.may_store.clear()
    bench.say()
    await turns(5)
    bench.lanes.live(TEXT)
    await turns(2)
    assert [each for _, each in bench.came] == [Outgoing(TEXT, seq=0, after_seq=1, epoch=3)]


async def test_a_live_event_names_the_last_number_that_was_given(bench: Bench) -> None:
    for _ in range(3):
        bench.lanes.live(TEXT)
        bench.say()
    bench.lanes.live(TEXT)
    await turns(10)
    assert [each.after_seq for _, each in bench.came if not each.seq] == [0, 1, 2, 3]


# Settled.


async def test_a_lane_without_events_is_settled(bench: Bench) -> None:
    began = now()
    await bench.lanes.settled()
    assert now() == began


async def test_a_lane_is_settled_when_everything_is_out(bench: Bench) -> None:
    bench.store.may_store.clear()
    bench.say()
    settling = asyncio.get_running_loop().create_task(bench.lanes.settled())
    await turns(5)
    assert not settling.done()
    bench.store.may_store.set()
    await settling
    assert bench.numbers() == [1]


# A store that has lost what it had.


async def stored(bench: Bench, *texts: str) -> None:
    for text in texts:
        bench.say(text)
        await turns(10)


async def test_what_the_store_has_lost_is_stored_again(bench: Bench) -> None:
    await stored(bench, "a", "b", "c")
    bench.store.log.clear()
    await stored(bench, "d")
    assert bench.store.numbers() == [1, 2, 3, 4]
    assert bench.numbers() == [1, 2, 3, 4]  # nothing to tell: nothing is missing
    await stored(bench, "e")
    assert bench.store.appends[-1] == (5,)


async def test_the_end_of_a_log_is_stored_again_where_a_fail_over_has_lost_it(bench: Bench) -> None:
    await stored(bench, "a", "b", "c")
    bench.store.log[KEY][1:] = []
    await stored(bench, "d")
    assert bench.store.numbers() == [1, 2, 3, 4]


async def test_what_is_not_kept_any_more_is_named() -> None:
    bench = Bench(kept_max_bytes=1)
    await stored(bench, "a", "b", "c")
    bench.store.log.clear()
    await stored(bench, "d")
    await turns(10)
    last = bench.came[-1][1].event
    assert isinstance(last, out.StateChanged)
    assert (last.cause, last.lost_from, last.lost_to) == ("store_gap", 1, 3)
    assert bench.store.numbers() == [4, 5]
    await bench.end()


async def test_sessions_store_again_what_was_lost_in_turns_and_in_pieces() -> None:
    """A server loses it of all of them at the same time."""
    bench = Bench(again_max_bytes=1)
    await stored(bench, "a", "b", "c")
    bench.store.log.clear()
    for _ in range(lane_parts.TURNS):
        await bench.lanes._turns.acquire()
    bench.say("d")
    await asyncio.sleep(20.0)
    assert bench.numbers() == [1, 2, 3, 4]
    assert bench.durable()[-1] is False, "nobody is held for it"
    assert bench.store.numbers() == []
    for _ in range(lane_parts.TURNS):
        bench.lanes._turns.release()
    await asyncio.sleep(3.0)
    assert bench.store.numbers() == [1, 2, 3, 4]
    assert bench.store.appends[-4:] == [(1,), (2,), (3,), (4,)]
    assert not bench.lanes._turns.locked()
    await bench.end()


async def test_one_append_is_bounded() -> None:
    bench = Bench(append_max_bytes=1)
    for _ in range(4):
        bench.say()
    await asyncio.sleep(1.0)
    assert bench.store.appends == [(1,), (2,), (3,), (4,)]
    await bench.end()


async def test_what_is_stored_again_does_not_count_as_backlog() -> None:
    bench = Bench(backlog_max_entries=3)
    await stored(bench, *"abcdef")
    bench.store.log.clear()
    bench.store.may_store.clear()
    bench.say("g")
    await asyncio.sleep(1.0)  # a slow server: the backlog is looked at
    bench.store.may_store.set()
    await turns(10)
    assert bench.store.numbers() == [1, 2, 3, 4, 5, 6, 7]
    await bench.end()


async def test_a_second_loss_is_made_good_too(bench: Bench) -> None:
    await stored(bench, *"abcd")
    bench.store.log[KEY][2:] = []
    await stored(bench, "e")
    bench.store.log.clear()
    await stored(bench, "f")
    assert bench.store.numbers() == [1, 2, 3, 4, 5, 6]
