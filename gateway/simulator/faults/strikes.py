"""The faults of one socket, one behind the other, between what the session says and what is written."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from gateway.simulator.events import Event, Script
from gateway.simulator.faults.active import Drawn
from gateway.simulator.faults.fault import Line, Strike


class Strikes:
    """What has struck one socket. Faults work in the order in which they were set."""

    def __init__(self, drawn: Sequence[Drawn], line: Line, put: Callable[[Event], None]) -> None:
        """`put` writes an event; nothing happens before `begin`."""
        self._put = put
        self._line = line
        self._struck = [(each, each.fault.strike(line)) for each in drawn]

    @property
    def kinds(self) -> list[str]:
        """Which faults are at work."""
        return [drawn.fault.kind for drawn, _ in self._struck]

    def begin(self) -> None:
        """Start every fault, and set the end of those that last only for a time."""
        for drawn, strike in tuple(self._struck):
            if drawn.ends_at is not None:
                self._line.later(max(0.0, drawn.ends_at - time.monotonic()), partial(self._lift, drawn, strike))
            strike.begin()

    def put(self, event: Event) -> None:
        """Send an event, or what the faults leave of it."""
        going: list[Event] = [event]
        for _, strike in self._struck:
            going = [out for each in going for out in strike.sends(each)]
        for each in going:
            self._put(each)
        for _, strike in self._struck:
            strike.told(event)

    def heard(self) -> None:
        """Record that a client event has come."""
        for _, strike in self._struck:
            strike.heard()

    def plays(self, script: Script) -> Script:
        """Return how a script is played."""
        for _, strike in self._struck:
            script = strike.plays(script)
        return script

    def lift(self) -> None:
        """End every fault: others take their place."""
        for drawn, strike in tuple(self._struck):
            self._lift(drawn, strike)

    def _lift(self, drawn: Drawn, strike: Strike) -> None:
        if (drawn, strike) in self._struck:
            self._struck.remove((drawn, strike))
            strike.lift()
