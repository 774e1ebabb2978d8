"""The engine under every state machine: a table and one step. An empty cell is a bug and raises."""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)

Table = Mapping[tuple[S, E], S]


class IllegalTransitionError(AssertionError):
    """An event came in a state that has no cell for it: a fault of the gateway, never of a caller."""


def step(table: Table[S, E], state: S, event: E) -> S:
    """Return the state after `event`; raise `IllegalTransitionError` on an empty cell."""
    try:
        return table[state, event]
    except KeyError:
        message = f"{event.name} in state {state.name}"
        raise IllegalTransitionError(message) from None
