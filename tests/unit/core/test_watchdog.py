"""A line that pings but does not work is asked first, and given up when it does not answer that either."""

import pytest

from gateway.core import events as out
from gateway.core.tally import Tally
from gateway.core.watchdog import Debt, Step, Watchdog, WatchdogOptions

OPTIONS = WatchdogOptions()


def steps(debts: list[Debt], heard: list[int], seconds: float = 1.0) -> list[tuple[int, Step]]:
    """Look once a second; return what was to be done, and at which look."""
    watchdog = Watchdog(OPTIONS)
    told = [watchdog.look(debt, count, seconds) for debt, count in zip(debts, heard, strict=True)]
    return [(number, step) for number, step in enumerate(told) if step is not Step.WAIT]


@pytest.mark.parametrize(
    ("debt", "asked_at", "remedy"), [(Debt.BEGINNING, 10, Step.PROBE), (Debt.REST, 20, Step.CANCEL)]
)
def test_a_silent_line_is_asked_and_then_replaced(debt: Debt, asked_at: int, remedy: Step) -> None:
    assert steps([debt] * 30, [5] * 30)[:2] == [(asked_at, remedy), (asked_at + 3, Step.REPLACE)]


def test_who_owes_nothing_may_be_silent_for_ever() -> None:
    assert steps([Debt.NOTHING] * 10_000, [5] * 10_000) == []


def test_any_word_of_the_line_is_good_for_another_while() -> None:
    assert steps([Debt.REST] * 200, [number // 19 for number in range(200)]) == []
    assert steps([Debt.BEGINNING] * 100, [number // 9 for number in range(100)]) == []


def test_a_line_that_answers_the_probe_is_kept_and_probed_again() -> None:
    heard = [0] * 12 + [1] * 11 + [2] * 7
    assert steps([Debt.BEGINNING] * 30, heard) == [(10, Step.PROBE), (22, Step.PROBE)]


def test_looks_that_count_for_nothing_are_no_silence() -> None:
    assert steps([Debt.REST] * 1000, [5] * 1000, seconds=0.0) == []


def test_three_failed_answers_in_a_row_are_a_poisoned_line() -> None:
    watchdog, tally = Watchdog(OPTIONS), Tally()
    for status in ("failed", "failed", "completed", "failed", "failed"):
        tally.answered(status, "server_error", out.Usage())
        assert not watchdog.is_poisoned(tally.failures)
    tally.answered("failed", "", out.Usage())
    assert watchdog.is_poisoned(tally.failures)
    assert tally.responses == 6


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "insufficient_quota"])
def test_what_another_line_would_refuse_as_well_is_not_the_lines_fault(code: str) -> None:
    tally = Tally()
    for _ in range(9):
        tally.answered("failed", code, out.Usage())
    assert tally.failures == 0
