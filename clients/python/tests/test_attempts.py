"""When a session whose stream was lost looks for a gateway, with how much patience, and what ends that."""

import pytest

from trunkline_client import ConnectionOptions, TrunklineError
from trunkline_client._resume import Attempt, Attempts, may_go_on
from trunkline_client.errors import ADVICE_FOREIGN, REASONS, GatewayError, refusal

LOST = refusal("CONNECTION_LOST", "cut")
OPTIONS = ConnectionOptions()
SILENT = refusal("TIMED_OUT", "silent")


def rounds(attempts: Attempts, failure: TrunklineError, count: int) -> list[Attempt]:
    """Return so many rounds that fail as soon as they begin: nobody is reached."""
    found, now = list[Attempt](), 0.0
    for _ in range(count):
        found.append(attempts.next(now, chance=1.0))
        now += found[-1].pause_seconds
        attempts.fail(failure)
    return found


def test_every_round_asks_the_owner_and_the_own_address_with_growing_pauses() -> None:
    attempts = Attempts(LOST, "owner:1", 120, OPTIONS, now=0.0)
    found = rounds(attempts, LOST, 9)
    assert {each.owner for each in found} == {"owner:1"}
    assert [each.dials for each in found] == [1] + [2] * 8
    assert [each.pause_seconds for each in found] == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert [(each.patience_seconds, each.dial_seconds) for each in found] == [(0.25, 1.0)] * 9


def test_a_round_that_took_long_is_followed_at_once() -> None:
    attempts = Attempts(LOST, "", 120, OPTIONS, now=0.0)
    attempts.next(10.0, 1.0)
    attempts.fail(LOST)
    assert attempts.next(10.01, 1.0).pause_seconds == pytest.approx(0.04)
    attempts.fail(LOST)
    assert attempts.next(11.0, 1.0).pause_seconds == 0.0


def test_chance_shortens_a_pause() -> None:
    attempts = Attempts(LOST, "", 120, OPTIONS, now=0.0)
    rounds(attempts, LOST, 1)
    assert attempts.next(0.0, chance=0.25).pause_seconds == pytest.approx(0.0125)


def test_after_a_silence_more_are_dialled_and_a_slow_network_gets_more_time_each_round() -> None:
    found = rounds(Attempts(SILENT, "owner:1", 120, OPTIONS, now=0.0), SILENT, 8)
    assert {each.dials for each in found} == {3}
    assert [each.patience_seconds for each in found] == [0.25, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert [each.dial_seconds for each in found] == [0.25, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0]


def test_the_link_is_in_doubt_after_a_silence_and_where_nobody_was_reached() -> None:
    assert Attempts(SILENT, "owner:1", 120, OPTIONS, now=0.0).next(0.0, 1.0).is_link_doubtful
    attempts = Attempts(LOST, "owner:1", 120, OPTIONS, now=0.0)
    assert [each.is_link_doubtful for each in rounds(attempts, LOST, 2)] == [False, True]
    attempts.next(0.0, 1.0)
    attempts.reach(is_owner=False)
    attempts.fail(LOST)
    assert not attempts.next(0.0, 1.0).is_link_doubtful


def test_an_owner_that_was_reached_and_did_not_answer_is_passed_over_once() -> None:
    attempts = Attempts(LOST, "owner:1", 120, OPTIONS, now=0.0)
    attempts.next(0.0, 1.0)
    attempts.reach(is_owner=True)
    attempts.fail(SILENT)
    assert [each.owner for each in rounds(attempts, LOST, 2)] == ["", "owner:1"]


@pytest.mark.parametrize("is_owner", [True, False])
@pytest.mark.parametrize("reason", ["DRAINING", "OVERLOADED", "STORE_UNAVAILABLE", "RATE_LIMITED"])
def test_the_owner_is_given_up_once_a_gateway_has_spoken(reason: str, is_owner: bool) -> None:  # noqa: FBT001
    attempts = Attempts(LOST, "owner:1", 120, OPTIONS, now=0.0)
    attempts.next(0.0, 1.0)
    attempts.reach(is_owner=is_owner)
    attempts.fail(refusal(reason, "not now"))
    assert {each.owner for each in rounds(attempts, LOST, 4)} == {""}


def test_one_that_is_reached_is_given_time_to_answer() -> None:
    attempts = Attempts(SILENT, "", 120, OPTIONS, now=0.0)
    found = []
    for _ in range(8):
        found.append(attempts.next(0.0, 0.0).answer_seconds)
        attempts.reach(is_owner=False)
        attempts.fail(SILENT)
    assert found == [1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_all_of_it_is_over_with_the_window_and_the_last_cause_is_told() -> None:
    attempts = Attempts(LOST, "owner:1", 2, OPTIONS, now=10.0)
    last = attempts.next(11.875, 0.0)
    assert {last.patience_seconds, last.dial_seconds, last.answer_seconds} == {0.125}
    attempts.reach(is_owner=True)
    attempts.fail(refusal("TIMED_OUT", "no answer"))
    with pytest.raises(TrunklineError, match=r"CONNECTION_LOST: not resumed within 2 s; .*TIMED_OUT: no answer"):
        attempts.next(12.0, 0.0)


def test_that_the_window_ended_while_it_dialled_is_no_cause() -> None:
    attempts = Attempts(LOST, "owner:1", 2, OPTIONS, now=10.0)
    attempts.next(11.9, 0.0)
    attempts.fail(SILENT)
    with pytest.raises(TrunklineError, match=r"the last cause: CONNECTION_LOST: cut"):
        attempts.next(12.0, 0.0)


def test_a_gateway_that_says_later_is_asked_later() -> None:
    draining = refusal("DRAINING", "going")
    draining.retry_after_seconds = 0.75
    attempts = Attempts(draining, "", 120, OPTIONS, now=0.0)
    assert attempts.next(0.0, 0.0).pause_seconds == 0.75
    attempts.fail(LOST)
    assert attempts.next(0.75, 0.0).pause_seconds == 0.0


GOES_ON = {"CONNECTION_LOST", "TIMED_OUT", "CANCELLED", "DRAINING", "OVERLOADED", "STORE_UNAVAILABLE", "RATE_LIMITED"}


@pytest.mark.parametrize("reason", REASONS)
def test_what_a_gateway_says_is_final_but_for_four_words(reason: str) -> None:
    assert may_go_on(refusal(reason, "")) == (reason in GOES_ON)
    attempts = Attempts(LOST, "", 120, OPTIONS, now=0.0)
    if reason in GOES_ON:
        attempts.fail(refusal(reason, ""))
    else:
        with pytest.raises(TrunklineError, match=reason):
            attempts.fail(refusal(reason, ""))


def test_an_internal_error_of_the_transport_is_a_loss() -> None:
    assert may_go_on(GatewayError("INTERNAL", "", advice=ADVICE_FOREIGN))
