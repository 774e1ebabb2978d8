"""The time of a simulation, which jumps from event to event, and the core's chance. Knows nothing of pools."""

import heapq
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Final

Event = Callable[[], None]

# A timer that comes so often without time passing would come for ever.
TICKS_AT_ONCE_MAX: Final = 100


class ForesightRandom(Random):
    """Remembers the delay that a back-off has drawn last, to hold the core to it."""

    drawn = 0.0

    def uniform(self, a: float, b: float) -> float:
        """Draw as ever."""
        self.drawn = super().uniform(a, b)
        return self.drawn


class StuckError(AssertionError):
    """The core asks to be called again and again at the same moment."""


class Clock:
    """What happens when. Events of one moment come in the order in which they were entered."""

    def __init__(self) -> None:
        """Begin at 0, with nothing to come."""
        self.now = 0.0
        self._events: list[tuple[float, int, Event]] = []
        self._numbers = count()
        self._ticks = 0

    def at(self, moment: float, event: Event) -> None:
        """Enter an event."""
        heapq.heappush(self._events, (moment, next(self._numbers), event))

    def after(self, seconds: float, event: Event) -> None:
        """Enter an event that comes so much later than now."""
        self.at(self.now + seconds, event)

    def next(self, due: float | None, tick: Event) -> Event:
        """Go on to the next event and return it; `tick` is one, at `due`, and comes first. Raises `StuckError`."""
        if due is not None and due <= self._events[0][0]:
            self._ticks = self._ticks + 1 if due == self.now else 0
            if self._ticks > TICKS_AT_ONCE_MAX:
                raise StuckError(f"{self._ticks} ticks at {self.now}")
            self.now = due
            return tick
        self.now, _, event = heapq.heappop(self._events)
        return event
