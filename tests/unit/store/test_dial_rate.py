"""A gateway's own turns to dial: its part of the rate, recovery before callers before refill."""

from random import Random

import pytest

from gateway.runtime.ports import SlotKind
from gateway.store.dial_rate import LocalTurns, interval_us, reach_turns
from gateway.store.options import AccountSlots, SlotsOptions

LEASED, WARM, SPARE = SlotKind.LEASED, SlotKind.WARM, SlotKind.SPARE
OPTIONS = SlotsOptions()


@pytest.mark.parametrize(
    ("burst", "spare", "leased", "warm"),
    [(1, 0, 0, 0), (2, 1, 0, 0), (5, 4, 3, 1), (10, 9, 7, 4), (20, 19, 15, 9)],
)
def test_each_kind_leaves_a_part_of_the_burst_to_those_before_it(
    burst: int, spare: int, leased: int, warm: int
) -> None:
    assert [reach_turns(burst, kind) for kind in (SPARE, LEASED, WARM)] == [spare, leased, warm]


def test_the_rate_is_rounded_to_the_safe_side() -> None:
    assert interval_us(AccountSlots(10, 3, 1)) == 333_334


@pytest.mark.parametrize("live", [1, 3])
def test_starts_in_any_second_stay_within_this_gateway_s_part(live: int) -> None:
    rng, now, starts = Random(7), 100.0, list[float]()
    turns = LocalTurns(AccountSlots(100, 30, 12), OPTIONS)
    for _ in range(4000):
        now += rng.expovariate(400 if rng.random() < 0.9 else 2)
        has_turn, seconds = turns.book(rng.choice(list(SlotKind)), now, live)
        if has_turn:
            starts.append(now + seconds)
    starts.sort()
    most = max(sum(start <= other < start + 1 for other in starts) for start in starts)
    assert most <= 30 / live + 12 // live
    assert len(starts) > 100


def test_recovery_is_served_while_refill_is_refused() -> None:
    turns = LocalTurns(AccountSlots(100, 10, 10), OPTIONS)
    while turns.book(WARM, 0.0, 1)[0]:
        pass
    refused, again = turns.book(WARM, 0.0, 1)
    assert (refused, again > 0) == (False, True)
    leased, leased_delay = turns.book(LEASED, 0.0, 1)
    spare, spare_delay = turns.book(SPARE, 0.0, 1)
    assert leased
    assert spare
    # Refill books a second ahead of its half of the burst; recovery has the other half before it.
    assert spare_delay <= leased_delay <= OPTIONS.warm_delay_max_seconds
    assert turns.book(WARM, again + 0.3, 1)[0]


def test_nobody_books_beyond_the_longest_delay() -> None:
    turns = LocalTurns(AccountSlots(100, 10, 10), OPTIONS)
    delays = [turns.book(SPARE, 0.0, 1) for _ in range(200)]
    booked = [seconds for has_turn, seconds in delays if has_turn]
    assert 1.8 < max(booked) <= 2.0
    # The burst, and what the rate brings in two seconds; the last one may fall to a rounding.
    assert 10 + 19 <= len(booked) <= 10 + 20


def test_alone_a_gateway_goes_on_where_redis_stopped() -> None:
    turns = LocalTurns(AccountSlots(100, 10, 10), OPTIONS)
    turns.learn(5.0, 1.0)
    assert turns.debt_seconds(5.5) == pytest.approx(0.5)
    assert list(turns.book(SPARE, 5.0, 1)) == pytest.approx([True, 0.1])


def test_beside_others_an_outage_does_not_begin_with_a_second_burst() -> None:
    each = [LocalTurns(AccountSlots(100, 10, 10), OPTIONS) for _ in range(5)]
    for turns in each:
        turns.learn(0.0, 0.0)
        turns.part_from(0.0)
    # Each has two turns a second: the first of them when that brings it.
    assert [list(turns.book(SPARE, 0.0, 5)) for turns in each] == [pytest.approx([True, 0.5])] * 5


def test_what_redis_had_booked_ahead_is_not_booked_again() -> None:
    turns = LocalTurns(AccountSlots(100, 10, 10), OPTIONS)
    turns.learn(0.0, 2.5)
    turns.part_from(0.0)
    assert list(turns.book(SPARE, 0.0, 5)) == pytest.approx([True, 2.0])
    assert turns.debt_seconds(0.0) == pytest.approx(3.0)
