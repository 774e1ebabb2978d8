"""The machine of a lease: HELD, then one of four ends, all final."""

from itertools import product

import pytest

from gateway.core.ids import ConnectionId, LeaseId
from gateway.core.lease import TABLE, Lease, LeaseEvent, LeaseState
from gateway.core.transitions import IllegalTransitionError, step

S, E = LeaseState, LeaseEvent

ARROWS = {
    (S.HELD, E.RENEWED): S.HELD,
    (S.HELD, E.RELEASED): S.RELEASED,
    (S.HELD, E.EXPIRED): S.EXPIRED,
    (S.HELD, E.REVOKED): S.REVOKED,
    (S.HELD, E.CONNECTION_LOST): S.LOST,
}


@pytest.mark.parametrize(("state", "event"), list(product(S, E)))
def test_every_cell_is_an_arrow_or_raises(state: LeaseState, event: LeaseEvent) -> None:
    if (after := ARROWS.get((state, event))) is not None:
        assert step(TABLE, state, event) is after
    else:
        with pytest.raises(IllegalTransitionError):
            step(TABLE, state, event)


@pytest.mark.parametrize("state", [state for state in S if state is not S.HELD])
def test_an_ended_lease_never_does_anything(state: LeaseState) -> None:
    assert not [cell for cell in TABLE if cell[0] is state]


def test_a_lease_begins_held() -> None:
    assert Lease(LeaseId("l"), ConnectionId(1), granted_at=0.0, renewed_at=0.0).state is S.HELD
