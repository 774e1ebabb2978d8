"""Everybody's part of an account without asking: nobody loses a place, and together they never exceed the cap."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.store.share import allowed_total, fair_level

caps = st.integers(1, 200)
held_by_all = st.lists(st.integers(0, 60), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("cap", "own", "others", "allowed"),
    [
        # Alone.
        (40, 0, [], 40),
        # Even parts; what does not divide stays free.
        (40, 0, [0, 0, 0], 10),
        (40, 3, [10, 2], 13),
        (3, 0, [0, 0, 0], 0),
        # One above its part keeps what it has, the others share what it leaves.
        (40, 25, [0, 0, 0], 25),
        (40, 0, [25, 0, 0], 5),
        (40, 4, [25, 5, 0], 5),
        # Somebody above the level that the excess leaves keeps theirs too, and the level sinks again.
        (30, 9, [14, 0], 9),
        (30, 0, [14, 9], 7),
        # Full, and more than full.
        (30, 10, [10, 10], 10),
        (30, 12, [12, 12], 12),
        (30, 0, [20, 20], 0),
    ],
)
def test_what_a_gateway_may_hold_without_asking(cap: int, own: int, others: list[int], allowed: int) -> None:
    assert allowed_total(cap, own, others) == allowed


@given(caps, held_by_all)
@example(30, [14, 9, 0])
def test_together_they_never_exceed_the_cap_nor_lose_a_place(cap: int, totals: list[int]) -> None:
    parts = [allowed_total(cap, own, totals[:at] + totals[at + 1 :]) for at, own in enumerate(totals)]
    assert sum(parts) <= max(cap, sum(totals))
    assert all(part >= own for part, own in zip(parts, totals, strict=True))


@given(caps, held_by_all)
def test_with_nobody_above_an_equal_part_each_may_have_it(cap: int, totals: list[int]) -> None:
    part = cap // len(totals)
    held = [min(total, part) for total in totals]
    assert fair_level(cap, held) >= part


@given(caps, held_by_all)
def test_the_level_is_the_highest_that_fits(cap: int, totals: list[int]) -> None:
    level = fair_level(cap, totals)
    if sum(totals) <= cap:
        assert sum(max(total, level) for total in totals) <= cap
    assert sum(max(total, level + 1) for total in totals) > cap
