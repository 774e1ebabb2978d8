"""`idle_timeout_ms`: speaks up when nobody has said a word for so long after an answer was heard to its end."""

from collections.abc import Callable

from gateway.simulator.events import Beat, Event
from gateway.simulator.responses import Perform, Stop

TimedOut = Callable[[float, float], None]
"""Called with the silent piece of the audio clock, in milliseconds."""


class IdleTimeout:
    """Waits for the caller, one wait at a time."""

    def __init__(self, perform: Perform, clock_ms: Callable[[], float], timed_out: TimedOut) -> None:
        """`clock_ms` counts the audio that was written."""
        self._perform = perform
        self._clock_ms = clock_ms
        self._timed_out = timed_out
        self._silent_from_ms = 0.0
        self._stop: Stop | None = None

    def start(self, unheard_ms: float, timeout_ms: float) -> None:
        """Begin to wait: `unheard_ms` of the answer are still to be heard."""
        self.stop()
        self._silent_from_ms = self._clock_ms()
        beats = (Beat(unheard_ms, self._listen), Beat(unheard_ms + timeout_ms, self._end))
        self._stop = self._perform(iter(beats))

    def stop(self) -> None:
        """Stop waiting: something happens. Harmless if nothing waits."""
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def _listen(self) -> list[Event]:
        self._silent_from_ms = self._clock_ms()
        return []

    def _end(self) -> list[Event]:
        self._stop = None  # this is the script that would be stopped
        self._timed_out(self._silent_from_ms, self._clock_ms())
        return []
