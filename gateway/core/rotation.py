"""When a line is left before its provider ends it: pure, in seconds of its life."""

from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

# Of a life shorter than this, the times below are parts, so that a short life is not all moving.
LONG_LIFE_SECONDS: Final = 1800.0
BEFORE_RATIO: Final = 0.1
JITTER_RATIO: Final = 0.025
HARD_RATIO: Final = 0.0125


@dataclass(frozen=True, slots=True)
class RotationOptions:
    """How long before the end of a line."""

    # From here on a quiet moment is waited for; drawn within the jitter, so that not all lines move at once.
    before_seconds: float = 120.0
    jitter_seconds: float = 30.0
    # Here it moves, whoever speaks.
    hard_seconds: float = 15.0


class Due(NamedTuple):
    """When a line is to be left: at a quiet moment from `soft` on, in any case at `hard`."""

    soft: float
    hard: float


def due(life_seconds: float | None, options: RotationOptions, rng: Random) -> Due | None:
    """Return when, in seconds of the line's life; None = its end is not known."""
    if life_seconds is None:
        return None
    before, jitter, hard = options.before_seconds, options.jitter_seconds, options.hard_seconds
    if life_seconds < LONG_LIFE_SECONDS:
        before = min(before, life_seconds * BEFORE_RATIO)
        jitter = min(jitter, life_seconds * JITTER_RATIO)
        hard = min(hard, life_seconds * HARD_RATIO)
    last = life_seconds - hard
    return Due(min(life_seconds - before + rng.uniform(-jitter, jitter), last), last)
