"""Whether a line that is alive still works: it answers pings, but not what it was asked for.

Pure. Time is counted in looks, of which each says how long it was: what our own standstill has cost is no silence
of the provider's.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

# What fails an answer on every line alike: a fresh one is no better.
NOT_MENDED: Final = frozenset(
    {
        "rate_limit_exceeded",
        "insufficient_quota",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
        "content_filter",
    }
)


class Debt(Enum):
    """What the provider owes at this moment."""

    NOTHING = auto()
    # It was asked for something and has not begun with it.
    BEGINNING = auto()
    # An answer is under way.
    REST = auto()


class Step(Enum):
    """What is to be done."""

    WAIT = auto()
    # Ask for something that is always answered.
    PROBE = auto()
    # Ask it to end the answer.
    CANCEL = auto()
    # Give the line up.
    REPLACE = auto()


@dataclass(frozen=True, slots=True)
class WatchdogOptions:
    """How long a line that owes something may say nothing, in seconds, and how often it may fail."""

    beginning_seconds: float = 10.0
    probe_seconds: float = 3.0
    # A model may think for long before it goes on.
    rest_seconds: float = 20.0
    cancel_seconds: float = 3.0
    # Answers in a row that come to nothing.
    failures_max: int = 3


class Watchdog:
    """Watches one line."""

    def __init__(self, options: WatchdogOptions) -> None:
        """Begin with a line of which nothing is known."""
        self._options = options
        self._heard = -1
        self._silent_seconds = 0.0
        self._asked = Step.WAIT

    def look(self, debt: Debt, heard: int, seconds: float) -> Step:
        """Return what is to be done, `seconds` after the last look; `heard` counts the line's messages."""
        if heard != self._heard or debt is Debt.NOTHING:
            self._heard, self._silent_seconds, self._asked = heard, 0.0, Step.WAIT
            return Step.WAIT
        options = self._options
        self._silent_seconds += seconds
        patience, remedy, more = (
            (options.beginning_seconds, Step.PROBE, options.probe_seconds)
            if debt is Debt.BEGINNING
            else (options.rest_seconds, Step.CANCEL, options.cancel_seconds)
        )
        if self._asked is not Step.WAIT:
            return Step.REPLACE if self._silent_seconds >= more else Step.WAIT
        if self._silent_seconds < patience:
            return Step.WAIT
        self._asked, self._silent_seconds = remedy, 0.0
        return remedy

    def is_poisoned(self, failures: int) -> bool:
        """Whether a line has failed so many answers, one after the other, that another one may do better."""
        return failures >= self._options.failures_max
