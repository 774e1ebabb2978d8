"""Values in few characters."""

import pytest

from gateway.cli.words import amount, duration, printable, ratio

EVIL = ["\x1b[2J", "\x9b31m", "\r", "\n", "\x07", "\x00", "\u202e", "\u200b", "\u2028", "\ud800", "\x7f"]


@pytest.mark.parametrize("evil", EVIL, ids=ascii)
def test_nothing_that_steers_a_terminal_is_left(evil: str) -> None:
    shown = printable(f"a{evil}b")
    assert shown.isprintable()
    assert len(shown) == len(evil) + 2
    assert (shown[0], shown[1], shown[-1]) == ("a", "?", "b")


def test_words_of_all_languages_stay() -> None:
    assert printable("Zürich 東京 [red] ~") == "Zürich 東京 [red] ~"


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (0, "0.0s"),
        (999, "0.9s"),
        (9_999, "9.9s"),
        (10_000, "10s"),
        (59_999, "59s"),
        (60_000, "1m00"),
        (3_599_999, "59m59"),
        (3_600_000, "1h00"),
        (86_399_999, "23h59"),
        (86_400_000, "1d00h"),
        (9 * 86_400_000, "9d00h"),
    ],
)
def test_a_time_takes_five_characters_at_most(milliseconds: int, shown: str) -> None:
    assert duration(milliseconds) == shown
    assert len(shown) <= 5


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.0k"),
        (9_999, "9.9k"),
        (10_000, "10k"),
        (999_999, "999k"),
        (3_100_000, "3.1M"),
        (48_000 * 7200 * 10, "3.4G"),
        (2**64, "18E"),
    ],
)
def test_an_amount_is_short(number: int, shown: str) -> None:
    assert amount(number) == shown


@pytest.mark.parametrize(
    ("part", "shown"), [(None, "-"), (0, "0%"), (0.29, "29%"), (0.999, "99%"), (1, "100%"), (2 / 3, "66%")]
)
def test_a_ratio_says_a_hundred_only_when_it_is(part: float | None, shown: str) -> None:
    assert ratio(part) == shown
