"""A gateway that goes away sends its sessions on a few at a time, and so many that its time is enough for all."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.core.events import GoAway
from gateway.runtime.moving import LOOK_SECONDS, MOVE_SECONDS, MOVES_A_LOOK, Moves
from gateway.runtime.session import LiveSession


@dataclass
class Callers:
    can_move: bool = True
    told: list[GoAway] = field(default_factory=list)

    def tell(self, event: GoAway) -> None:
        self.told.append(event)


@dataclass
class Request:
    moves: bool


@dataclass
class Conversation:
    is_busy: bool = False

    def is_due(self, _now: float) -> bool:
        return self.is_busy


@dataclass(eq=False)
class Session:
    """What of a session is looked at."""

    request: Request
    callers: Callers = field(default_factory=Callers)
    conversation: Conversation = field(default_factory=Conversation)
    ended_at: float | None = None
    now: float = 0.0

    @property
    def is_ending(self) -> bool:
        return self.ended_at is not None

    def end(self, ending: Any) -> bool:
        assert ending.moves
        self.ended_at = self.now
        return True


def drained(sessions: list[Session], seconds: float, *, by_themselves: bool) -> list[int]:
    """Look as often as a drain does; return how many were told, or let go, at each look."""
    moves, counts, now = Moves(), list[int](), 0.0
    while now < seconds:
        before = sum(bool(each.callers.told) if by_themselves else each.is_ending for each in sessions)
        for each in sessions:
            each.now = now
        moves.look(cast("list[LiveSession]", sessions), now, seconds)
        counts.append(sum(bool(each.callers.told) if by_themselves else each.is_ending for each in sessions) - before)
        now += LOOK_SECONDS
    return counts


@pytest.mark.parametrize("seconds", [5.0, 20.0, 45.0])
@pytest.mark.parametrize("count", [1, 40, 450, 1000])
def test_all_are_told_while_there_is_time_to_move(count: int, seconds: float) -> None:
    sessions = [Session(Request(moves=True)) for _ in range(count)]
    counts = drained(sessions, seconds, by_themselves=True)
    assert sum(counts) == count
    in_time = seconds - min(MOVE_SECONDS, seconds / 2)
    assert sum(counts[: round(in_time / LOOK_SECONDS)]) == count


def test_few_are_told_at_a_time_and_no_more_at_one_look_than_at_another() -> None:
    counts = drained([Session(Request(moves=True)) for _ in range(1000)], 45.0, by_themselves=True)
    told = [each for each in counts if each]
    assert max(told) <= 15
    assert len(told) >= 65
    few = drained([Session(Request(moves=True)) for _ in range(40)], 45.0, by_themselves=True)
    assert [each for each in few if each] == [MOVES_A_LOOK] * 8


@pytest.mark.parametrize("count", [1, 40, 1000])
def test_who_does_not_move_by_itself_is_let_go_in_time_too(count: int) -> None:
    sessions = [Session(Request(moves=False)) for _ in range(count)]
    counts = drained(sessions, 45.0, by_themselves=False)
    assert sum(counts) == count
    assert max(counts) <= max(MOVES_A_LOOK, 15)


def test_who_is_in_the_middle_of_something_is_left_in_peace() -> None:
    busy, quiet = Session(Request(moves=False)), Session(Request(moves=False))
    busy.conversation.is_busy = True
    drained([busy, quiet], 10.0, by_themselves=False)
    assert (busy.is_ending, quiet.is_ending) == (False, True)
