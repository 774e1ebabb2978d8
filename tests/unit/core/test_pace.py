"""A caller's allowance: a burst, then a lasting pace, and nothing saved beyond the burst."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.pace import (
    MESSAGE_BYTES_PER_SECOND,
    MESSAGES_BURST_SECONDS,
    MESSAGES_PER_SECOND,
    SPEECH_BURST_SECONDS,
    Pace,
)

SECOND = 48_000  # bytes of 24 kHz audio
# Sums of floats.
DUST = 1e-9


def test_five_seconds_of_speech_may_come_at_once() -> None:
    pace = Pace(100.0)
    assert pace.audio(5 * SECOND, SECOND, 100.0) == 0.0
    assert pace.audio(SECOND, SECOND, 100.0) == 0.5


def test_audio_at_twice_the_pace_of_speech_is_never_held() -> None:
    pace = Pace(0.0)
    assert {pace.audio(SECOND // 10, SECOND, number * 0.05) for number in range(1000)} == {0.0}


def test_audio_that_comes_faster_is_held_until_it_is_due() -> None:
    pace = Pace(0.0)
    pace.audio(5 * SECOND, SECOND, 0.0)
    held = pace.audio(2 * SECOND, SECOND, 0.0)
    assert held == 1.0
    assert pace.audio(0, SECOND, held) > 0.0  # exactly used up
    assert pace.audio(SECOND // 10, SECOND, held + 1.0) == 0.0


def test_two_hundred_messages_may_come_at_once() -> None:
    pace = Pace(7.0)
    taken = [pace.message(7.0) for _ in range(510)]
    assert 199 <= taken.count(True) <= 200


def test_messages_at_the_lasting_pace_are_never_too_many() -> None:
    pace = Pace(0.0)
    assert all(pace.message(number / MESSAGES_PER_SECOND) for number in range(2000))


def test_after_too_many_messages_a_pause_gives_the_allowance_back() -> None:
    pace = Pace(0.0)
    while pace.message(0.0):
        pass
    assert not pace.message(0.0)
    assert pace.message(1.0)


def test_nothing_is_saved_beyond_the_burst() -> None:
    pace = Pace(0.0)
    assert pace.audio(7 * SECOND, SECOND, 3600.0) == pytest.approx(1.0)


def test_a_small_piece_of_audio_costs_as_much_as_a_message() -> None:
    pace = Pace(0.0)
    held = [pace.audio(1, SECOND, 0.0) for _ in range(510)]
    assert held[498] == 0.0
    assert held[-1] > 0.0


@given(sizes=st.lists(st.integers(1, 10 * SECOND), min_size=1, max_size=30))
def test_who_waits_as_told_sends_no_faster_than_twice_the_pace_of_speech_after_the_burst(sizes: list[int]) -> None:
    pace, now = Pace(0.0), 0.0
    for size in sizes:
        now += pace.audio(size, SECOND, now)
    assert sum(sizes) / SECOND / 2.0 <= now + SPEECH_BURST_SECONDS + DUST


def test_large_messages_count_by_their_size() -> None:
    pace = Pace(0.0)
    burst = int(MESSAGES_BURST_SECONDS * MESSAGE_BYTES_PER_SECOND)
    assert pace.message(0.0, burst)
    assert not pace.message(0.0, 1)
