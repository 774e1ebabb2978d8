"""Whether a session's answers take clearly longer to begin than when its line was young: pure.

A provider's session gets slower while it grows, and nothing that is deleted from it heals that; a fresh one that is
told the words is quick again.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Final

# So many answers say how long one takes.
ANSWERS: Final = 5


@dataclass(frozen=True, slots=True)
class SlownessOptions:
    """What is clearly longer."""

    # Of the median of a line's first answers; 0 = a line is never left for it.
    ratio: float = 2.5
    # And by so much at least, that somebody notices.
    least_seconds: float = 1.0
    # A line is not left sooner, so that a provider that is slow for everybody is not dialled for it again and again.
    line_seconds: float = 300.0
    # Whether the next line is told a summary in place of what is old.
    sums_up: bool = False


class Slowness:
    """One line's answers: the first ones, and the latest."""

    def __init__(self) -> None:
        """Begin with none."""
        # By what the time is counted from, in seconds.
        self._first: dict[str, list[float]] = {}
        self._last: dict[str, deque[float]] = {}

    def heard(self, since: str, seconds: float) -> None:
        """Record how long an answer took until its first audio."""
        first = self._first.setdefault(since, [])
        if len(first) < ANSWERS:
            first.append(seconds)
        else:
            self._last.setdefault(since, deque(maxlen=ANSWERS)).append(seconds)

    def begin(self) -> None:
        """Forget all of it: another line answers."""
        self._first.clear()
        self._last.clear()

    def has_grown(self, line_seconds: float, options: SlownessOptions) -> bool:
        """Whether a line of this age is to be left for it."""
        if not options.ratio or line_seconds < options.line_seconds:
            return False
        for since, latest in self._last.items():
            before, now = median(self._first[since]), median(latest)
            if len(latest) == ANSWERS and now >= options.ratio * before and now - before >= options.least_seconds:
                return True
        return False
