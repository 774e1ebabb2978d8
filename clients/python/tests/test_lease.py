"""The core of a reservation alone: every cell of its table, and the times of its renewals."""

import itertools

import pytest
from trunkline.v1.lease_pb2 import AcquireResponse, KeepAliveResponse

from trunkline_client import TrunklineError
from trunkline_client._lease import TABLE, LeaseCore, LeaseMove, LeaseState
from trunkline_client.errors import refusal

ACQUIRED = AcquireResponse(lease_token="secret", lease_id="l1", ttl_seconds=30)
ENDED = KeepAliveResponse(ttl_seconds=0)
GONE = refusal("CONNECTION_LOST", "nobody there")
_S = LeaseState


def core_in(state: LeaseState) -> LeaseCore:
    """Return a core that came to `state` the usual way, acquired at 100."""
    core = LeaseCore()
    if state is not _S.NOT_ACQUIRED:
        core.acquire(ACQUIRED, 100.0)
    match state:
        case _S.OPENING:
            core._move(LeaseMove.BEGIN_OPEN)
        case _S.USED:
            with core.opening():
                pass
        case _S.RELEASED:
            core.release()
        case _S.LOST:
            core.renewed(ENDED, 110.0)
    assert core.state is state
    return core


@pytest.mark.parametrize(("state", "move"), list(itertools.product(LeaseState, LeaseMove)))
def test_each_cell_moves_and_each_empty_cell_changes_nothing(state: LeaseState, move: LeaseMove) -> None:
    core = core_in(state)
    moved = core._move(move)
    assert core.state is TABLE.get((state, move), state)
    assert moved is ((state, move) in TABLE)


@pytest.mark.parametrize("state", list(LeaseState))
def test_only_one_that_is_held_can_be_used_and_only_once(state: LeaseState) -> None:
    core = core_in(state)
    if state is _S.HELD:
        with core.opening():
            assert core.state.name == "OPENING"
        assert core.state.name == "USED"
        return
    reason = "NOT_OPEN" if state is _S.NOT_ACQUIRED else "LEASE_ENDED"
    with pytest.raises(TrunklineError, match=reason), core.opening():
        raise AssertionError
    assert core.state is state


@pytest.mark.parametrize("state", list(LeaseState))
def test_it_is_renewed_only_while_it_is_held(state: LeaseState) -> None:
    assert core_in(state).alive is (state in {_S.HELD, _S.OPENING})


@pytest.mark.parametrize("state", list(LeaseState))
def test_it_is_made_once(state: LeaseState) -> None:
    core = core_in(state)
    if state is _S.NOT_ACQUIRED:
        core.check_new()
        return
    with pytest.raises(TrunklineError):
        core.check_new()


def test_it_is_renewed_every_third_of_its_life() -> None:
    core = core_in(_S.HELD)
    assert core.due_seconds(100.0) == 10.0
    assert core.due_seconds(109.0) == 1.0
    assert core.due_seconds(111.0) == 0.0
    core.renewed(KeepAliveResponse(ttl_seconds=60), 111.0)
    assert core.due_seconds(111.5) == 19.5


def test_its_life_begins_when_the_wait_for_it_is_over() -> None:
    core = LeaseCore()
    core.acquire(AcquireResponse(ttl_seconds=30, waited_ms=2000), 100.0)
    assert core.due_seconds(100.0) == 12.0


def test_an_answer_is_waited_for_as_long_as_another_attempt_fits_into_its_life() -> None:
    core = core_in(_S.HELD)
    assert core.patience_seconds(110.0) == 10.0
    assert core.patience_seconds(125.0) == 5.0
    assert core.patience_seconds(131.0) == 0.1


def test_a_failed_renewal_is_repeated_soon_until_its_life_is_over() -> None:
    core = core_in(_S.HELD)
    core.renewal_failed(GONE, 110.0)
    assert (core.state, core.due_seconds(110.0)) == (_S.HELD, 1.0)
    core.renewal_failed(GONE, 129.9)
    assert core.state is _S.HELD
    core.renewal_failed(GONE, 130.0)
    assert (core.state, core.failure) == (_S.LOST, GONE)
    with pytest.raises(TrunklineError, match="nobody there"), core.opening():
        pass


@pytest.mark.parametrize(("ttl_seconds", "pause_seconds"), [(1, 0.1), (9, 0.3), (300, 1.0)])
def test_the_pause_before_the_next_attempt_is_in_proportion(ttl_seconds: int, pause_seconds: float) -> None:
    core = LeaseCore()
    core.acquire(AcquireResponse(ttl_seconds=ttl_seconds), 100.0)
    core.renewal_failed(GONE, 100.2)
    assert core.due_seconds(100.2) == pytest.approx(pause_seconds)


def test_the_gateways_advice_to_wait_is_followed() -> None:
    core = core_in(_S.HELD)
    busy = refusal("STORE_UNAVAILABLE", "busy")
    busy.retry_after_seconds = 4.0
    core.renewal_failed(busy, 110.0)
    assert core.due_seconds(110.0) == 4.0


def test_what_no_repetition_mends_ends_it_at_once() -> None:
    core = core_in(_S.HELD)
    refused = refusal("UNAUTHENTICATED", "the token was taken away")
    core.renewal_failed(refused, 110.0)
    assert (core.state, core.failure) == (_S.LOST, refused)


def test_the_gateways_word_that_it_has_ended_is_final() -> None:
    core = core_in(_S.HELD)
    core.renewed(ENDED, 110.0)
    assert core.state is _S.LOST
    assert core.failure is not None
    assert core.failure.reason == "LEASE_ENDED"
    core.renewed(KeepAliveResponse(ttl_seconds=30), 111.0)
    assert core.state is _S.LOST


def test_while_a_session_opens_with_it_its_end_may_be_its_use() -> None:
    core = core_in(_S.HELD)
    with core.opening():
        core.renewed(ENDED, 110.0)
        core.renewal_failed(refusal("UNAUTHENTICATED", "no"), 110.0)
        assert not core.release()
        assert core.due_seconds(110.0) == 1.0
    assert (core.state, core.failure) == (_S.USED, None)


def test_a_session_that_was_not_opened_leaves_it_held() -> None:
    core = core_in(_S.HELD)
    with pytest.raises(ZeroDivisionError), core.opening():
        raise ZeroDivisionError
    assert core.state.name == "HELD"
    with core.opening():
        pass
    assert core.state.name == "USED"
