"""The machine of a line, cell by cell. There is no way from LEASED back to READY."""

from itertools import product

import pytest

from gateway.core.connection import TABLE, Connection, ConnectionEvent, ConnectionState
from gateway.core.ids import ConnectionId
from gateway.core.transitions import IllegalTransitionError, step

S, E = ConnectionState, ConnectionEvent

# Written out a second time on purpose: the picture in the module's docstring.
ARROWS = {
    (S.CONNECTING, E.DIAL_SUCCEEDED): S.READY,
    (S.CONNECTING, E.DIAL_FAILED): S.CLOSED,
    (S.CONNECTING, E.RETIRED): S.DRAINING,
    (S.READY, E.GRANTED): S.LEASED,
    (S.READY, E.RETIRED): S.DRAINING,
    (S.READY, E.LOST): S.CLOSED,
    (S.LEASED, E.LEASE_ENDED): S.DRAINING,
    (S.LEASED, E.LOST): S.CLOSED,
    (S.DRAINING, E.LOST): S.CLOSED,
    (S.DRAINING, E.CLOSE_FINISHED): S.CLOSED,
}


def reachable(start: ConnectionState) -> set[ConnectionState]:
    found = {start}
    while more := {after for (before, _), after in TABLE.items() if before in found} - found:
        found |= more
    return found


@pytest.mark.parametrize(("state", "event"), list(product(S, E)))
def test_every_cell_is_an_arrow_or_raises(state: ConnectionState, event: ConnectionEvent) -> None:
    if (after := ARROWS.get((state, event))) is not None:
        assert step(TABLE, state, event) is after
    else:
        with pytest.raises(IllegalTransitionError):
            step(TABLE, state, event)


def test_a_used_line_never_becomes_ready_again() -> None:
    assert S.READY not in reachable(S.LEASED)


def test_every_line_can_come_to_its_end() -> None:
    assert all(S.CLOSED in reachable(state) for state in S)


def test_closed_is_final() -> None:
    assert reachable(S.CLOSED) == {S.CLOSED}


def test_every_state_can_be_reached() -> None:
    assert reachable(S.CONNECTING) == set(S)


def test_a_line_begins_by_connecting() -> None:
    assert Connection(ConnectionId(1), "a", "v1", decided_at=5.0).state is S.CONNECTING
