"""The moments of a session at which a fault can happen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from gateway.simulator.events import Event
from gateway.simulator.faults.fault import Line, Strike
from gateway.simulator.faults.keys import SECONDS, Reader

NOW: Final = "now"
CREATED: Final = "created"
AFTER_SECONDS: Final = "after-seconds"

# A moment is right behind the first event of its type.
EVENTS: Final = {
    CREATED: "session.created",
    "updated": "session.updated",
    "first-audio": "response.output_audio.delta",
    "speech-started": "input_audio_buffer.speech_started",
    "response-created": "response.created",
    "response-done": "response.done",
}


@dataclass(frozen=True, slots=True)
class Point:
    """A moment. `seconds` counts from when the socket got the fault, for `after-seconds` alone."""

    name: str
    seconds: float = 0.0

    def __str__(self) -> str:
        """Return it as it is written."""
        return f"{self.name}:{self.seconds:g}" if self.name == AFTER_SECONDS else self.name


def _point(value: Any) -> Point:
    if isinstance(value, Point):
        return value
    name, colon, seconds = str(value).partition(":")
    if name == AFTER_SECONDS and colon:
        return Point(name, float(SECONDS.convert(seconds)))  # type: ignore[arg-type]
    if colon or name not in (NOW, *EVENTS):
        raise ValueError
    return Point(name)


POINT: Final = Reader(f"one of {', '.join((NOW, *EVENTS))}, {AFTER_SECONDS}:N", _point)


class AtPoint(Strike):
    """Does one thing once, at a moment."""

    def __init__(self, line: Line, point: Point, act: Callable[[], None]) -> None:
        """`act` is called when the moment comes, behind the event that makes it."""
        self._line = line
        self._point = point
        self._act = act
        self._waits = True

    def begin(self) -> None:
        """See whether the moment is there already, or set the clock."""
        if self._point.name == AFTER_SECONDS:
            self._line.later(self._point.seconds, self._reach)
        elif self._point.name == NOW or (self._point.name == CREATED and self._line.created):
            self._reach()

    def told(self, event: Event) -> None:
        """See whether this event makes the moment."""
        if self._waits and event["type"] == EVENTS.get(self._point.name):
            self._reach()

    def lift(self) -> None:
        """Let the moment pass."""
        self._waits = False

    def _reach(self) -> None:
        if self._waits:
            self._waits = False
            self._act()
