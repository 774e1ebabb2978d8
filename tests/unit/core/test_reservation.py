"""The machine of a reservation: HELD, then one of three ends, all final."""

from itertools import product

import pytest

from gateway.core.ids import LeaseId
from gateway.core.reservation import (
    TABLE,
    TTL_MAX_SECONDS,
    TTL_SECONDS,
    Reservation,
    ReservationEvent,
    ReservationState,
)
from gateway.core.transitions import IllegalTransitionError, step

S, E = ReservationState, ReservationEvent

ARROWS = {
    (S.HELD, E.RENEWED): S.HELD,
    (S.HELD, E.RELEASED): S.RELEASED,
    (S.HELD, E.EXPIRED): S.EXPIRED,
    (S.HELD, E.USED): S.USED,
}


@pytest.mark.parametrize(("state", "event"), list(product(S, E)))
def test_every_cell_is_an_arrow_or_raises(state: ReservationState, event: ReservationEvent) -> None:
    if (after := ARROWS.get((state, event))) is not None:
        assert step(TABLE, state, event) is after
    else:
        with pytest.raises(IllegalTransitionError):
            step(TABLE, state, event)


@pytest.mark.parametrize("state", [state for state in S if state is not S.HELD])
def test_an_ended_reservation_never_does_anything(state: ReservationState) -> None:
    assert not [cell for cell in TABLE if cell[0] is state]


def test_a_reservation_begins_held() -> None:
    assert Reservation(LeaseId("r"), "a", granted_at=0.0, expires_at=30.0).state is S.HELD


def test_a_reservation_lives_for_half_a_minute_and_at_most_five() -> None:
    assert (TTL_SECONDS, TTL_MAX_SECONDS) == (30, 300)
