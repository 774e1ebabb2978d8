"""Who of a gateway that goes away is sent to another one, and when: a few at a time, for the others' sake.

Pure but for the words to the sessions: whoever drains calls `look` now and then.
"""

from collections.abc import Iterable
from itertools import islice
from math import ceil, inf
from typing import Final
from weakref import WeakKeyDictionary

from gateway.core import events as out
from gateway.core.events import ClosedReason
from gateway.runtime.refusals import going_away
from gateway.runtime.session import LiveSession
from gateway.runtime.session_options import Ending

# How often it is looked, and how many sessions are sent to another gateway at each look, at least.
LOOK_SECONDS: Final = 0.5
MOVES_A_LOOK: Final = 5
# How long a caller that moves by itself may take before it is sent away as the others are.
MOVE_SECONDS: Final = 10.0


class Moves:
    """The sessions of one gateway on their way to others."""

    def __init__(self) -> None:
        """Begin with nobody asked."""
        # When each was told that the gateway goes away.
        self._told: WeakKeyDictionary[LiveSession, float] = WeakKeyDictionary()
        self._began_at = inf

    def look(self, sessions: Iterable[LiveSession], now: float, ends_at: float) -> None:
        """Ask a few to move, and let a few go in which nothing is due now: so many that the time is enough for all."""
        movable = [each for each in sessions if can_move(each) and not each.is_ending]
        untold = [each for each in movable if each not in self._told]
        by_themselves = sorted(
            (each for each in untold if each.request.moves), key=lambda each: each.conversation.is_due(now)
        )
        self._began_at = min(self._began_at, now)
        # The last to be told needs time to move, too.
        few = _of(len(by_themselves), ends_at - now - min(MOVE_SECONDS, (ends_at - self._began_at) / 2))
        for session in (*by_themselves[:few], *(each for each in untold if not each.request.moves)):
            assert session.callers is not None, "who can move has callers"  # noqa: S101
            self._told[session] = now
            session.callers.tell(out.GoAway("draining", round(max(0.0, ends_at - now) * 1000)))
        late = [each for each in movable if self._is_late(each, now)]
        quiet = (each for each in late if not each.conversation.is_due(now))
        for session in islice(quiet, _of(len(late), ends_at - now)):
            session.end(Ending(ClosedReason.DRAINING, going_away(), moves=True))

    def under_way(self) -> list[LiveSession]:
        """Those that another gateway may have by now."""
        return [each for each in self._told if each.request.moves and not each.is_ending]

    def _is_late(self, session: LiveSession, now: float) -> bool:
        """Whether a session was told, and its caller does not move by itself, or has not in time."""
        told_at = self._told.get(session)
        return told_at is not None and (not session.request.moves or now - told_at >= MOVE_SECONDS)


def _of(count: int, seconds: float) -> int:
    """Return how many of so many are due at this look, so that the last comes within the time."""
    return max(MOVES_A_LOOK, ceil(count / max(1.0, seconds / LOOK_SECONDS)))


def can_move(session: LiveSession) -> bool:
    """Whether another gateway can go on with it."""
    return session.callers is not None and session.callers.can_move
