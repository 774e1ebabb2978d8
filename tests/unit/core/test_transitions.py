"""One engine for every machine: a cell gives the next state, an empty cell raises."""

from enum import Enum, auto

import pytest

from gateway.core.transitions import IllegalTransitionError, Table, step


class Door(Enum):
    OPEN = auto()
    SHUT = auto()


class Hand(Enum):
    PUSH = auto()
    PULL = auto()


TABLE: Table[Door, Hand] = {(Door.OPEN, Hand.PUSH): Door.SHUT}


def test_a_cell_gives_the_next_state() -> None:
    assert step(TABLE, Door.OPEN, Hand.PUSH) is Door.SHUT


@pytest.mark.parametrize(
    ("state", "event"),
    [(Door.OPEN, Hand.PULL), (Door.SHUT, Hand.PUSH), (Door.SHUT, Hand.PULL)],
)
def test_an_empty_cell_raises_and_names_itself(state: Door, event: Hand) -> None:
    with pytest.raises(IllegalTransitionError, match=f"{event.name} in state {state.name}") as caught:
        step(TABLE, state, event)
    assert caught.value.__cause__ is None


def test_an_illegal_transition_is_a_bug_and_not_an_error_to_catch() -> None:
    assert issubclass(IllegalTransitionError, AssertionError)
