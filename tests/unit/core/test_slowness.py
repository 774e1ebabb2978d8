"""Whether a line's answers have become slow: against its own first ones, and never for one bad answer."""

import pytest

from gateway.core.slowness import ANSWERS, Slowness, SlownessOptions

OPTIONS = SlownessOptions()
OLD = OPTIONS.line_seconds


def of(*seconds: float, since: str = "speech_stopped") -> Slowness:
    made = Slowness()
    for each in seconds:
        made.heard(since, each)
    return made


@pytest.mark.parametrize(
    ("seconds", "grown"),
    [
        ([1.0] * 5 + [6.0] * 5, True),
        ([1.0] * 5 + [2.5] * 5, True),
        ([1.0] * 5 + [2.4] * 5, False),
        ([0.2] * 5 + [1.1] * 5, False),
        ([1.0] * 5 + [6.0] * 4, False),
        ([1.0] * 5 + [1.0] * 3 + [30.0] * 2, False),
        ([9.0] + [1.0] * 4 + [6.0] * 5, True),
        ([6.0] * 5 + [6.0] * 20, False),
        ([1.0] * 5 + [6.0] * 5 + [1.0] * 3, False),
    ],
    ids=["grown", "just", "not quite", "nobody notices", "too few", "two bad ones", "a bad first", "always", "healed"],
)
def test_the_latest_answers_are_held_against_the_first_ones(seconds: list[float], grown: bool) -> None:  # noqa: FBT001 a table
    assert of(*seconds).has_grown(OLD, OPTIONS) is grown


def test_a_young_line_is_not_left() -> None:
    assert not of(*[1.0] * 5, *[6.0] * 5).has_grown(OLD - 1, OPTIONS)


def test_it_can_be_switched_off() -> None:
    assert not of(*[1.0] * 5, *[60.0] * 5).has_grown(OLD, SlownessOptions(ratio=0))


def test_times_of_different_beginnings_are_not_mixed() -> None:
    made = of(*[0.2] * ANSWERS, since="response_created")
    for _ in range(ANSWERS):
        made.heard("speech_stopped", 3.0)
    assert not made.has_grown(OLD, OPTIONS)


def test_another_line_begins_anew() -> None:
    made = of(*[1.0] * 5, *[6.0] * 5)
    made.begin()
    assert not made.has_grown(OLD, OPTIONS)
