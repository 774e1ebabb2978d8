"""How long to wait between dials that fail: full jitter, so that many gateways do not come together."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class BackoffOptions:
    """The widening window that a delay is drawn from, in seconds."""

    first_seconds: float = 0.25
    max_seconds: float = 8.0
    # A refused key does not heal by asking: one probe now and then is enough.
    refused_key_seconds: float = 30.0


def full_jitter_seconds(failures: int, options: BackoffOptions, rng: Random) -> float:
    """Draw the delay after `failures` (≥ 1) in a row: uniform in [0, min(max, first · 2ⁿ⁻¹)]."""
    # The exponent is bounded before the power, which would overflow after a long outage.
    ceiling = min(options.max_seconds, options.first_seconds * 2.0 ** min(failures - 1, 32))
    return rng.uniform(0.0, ceiling)
