"""The machine of a session against the table as it is documented."""

from itertools import product

import pytest

from gateway.core.session import TABLE, SessionEvent, SessionState
from gateway.core.transitions import IllegalTransitionError, step

S, E = SessionState, SessionEvent

DOCUMENTED = """
| state      | UPSTREAM_READY | UPSTREAM_LOST | CALLER_LOST | CALLER_RESUMED | CLOSE_REQUESTED | CLAIM_LOST | WINDOW_ELAPSED | GAVE_UP | UPSTREAM_CLOSED |
| OPENING    | ACTIVE         | OPENING       | CLOSING     |                | CLOSING         | CLOSING    |                | CLOSED  |                 |
| ACTIVE     |                | RECOVERING    | DETACHED    | RECOVERING     | CLOSING         | CLOSING    |                |         |                 |
| RECOVERING | ACTIVE         | RECOVERING    | DETACHED    | RECOVERING     | CLOSING         | CLOSING    |                | CLOSED  |                 |
| DETACHED   | DETACHED       | DETACHED      |             | RECOVERING     | CLOSING         | CLOSING    | CLOSING        |         |                 |
| CLOSING    | CLOSING        | CLOSED        | CLOSING     |                | CLOSING         | CLOSING    |                | CLOSED  | CLOSED          |
| CLOSED     |                |               |             |                |                 |            |                |         |                 |
"""  # noqa: E501 a table is read across


def documented() -> dict[tuple[SessionState, SessionEvent], SessionState | None]:
    head, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in DOCUMENTED.strip().splitlines()]
    return {
        (S[row[0]], E[event]): S[cell] if cell else None
        for row in rows
        for event, cell in zip(head[1:], row[1:], strict=True)
    }


@pytest.mark.parametrize(("state", "event"), list(product(S, E)))
def test_every_cell_is_as_documented_and_an_empty_one_raises(state: SessionState, event: SessionEvent) -> None:
    after = documented()[state, event]
    if after is not None:
        assert step(TABLE, state, event) is after
    else:
        with pytest.raises(IllegalTransitionError):
            step(TABLE, state, event)


def test_closed_is_final() -> None:
    assert not [cell for cell in TABLE if cell[0] is S.CLOSED]


def test_a_closing_session_never_lives_again() -> None:
    assert {TABLE[cell] for cell in TABLE if cell[0] is S.CLOSING} == {S.CLOSING, S.CLOSED}


def test_a_resumed_session_always_goes_through_recovering() -> None:
    resumed = {TABLE[cell] for cell in TABLE if cell[1] is E.CALLER_RESUMED}
    assert resumed == {S.RECOVERING}


def test_every_session_can_be_closed_on_request() -> None:
    for state in S:
        if state is not S.CLOSED:
            assert step(TABLE, state, E.CLOSE_REQUESTED) is S.CLOSING
