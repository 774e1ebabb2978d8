"""Whether the gateway has fallen silent. Pure: time is an argument, in seconds that only rise."""

import math
from typing import Final

BEATS_MAX: Final = 3
# Who was not asked in time by more than this stood still; the gateway may have spoken meanwhile.
STALL_SECONDS: Final = 0.25


class Silence:
    """How long a read has waited. Without a read nobody listens, and silence means nothing."""

    def __init__(self, heartbeat_seconds: float) -> None:
        """Begin without a read."""
        self.limit_seconds = heartbeat_seconds * BEATS_MAX
        self._since = math.inf
        self._expected_at = math.inf

    def listen(self, now: float) -> None:
        """Note that a read begins."""
        self._since = now

    def hear(self) -> None:
        """Note that a read has ended."""
        self._since = math.inf

    def due_at(self) -> float:
        """Return when it will have been silent for too long."""
        return self._since + self.limit_seconds

    def expect(self, at: float) -> None:
        """Note when `is_over` will be asked next."""
        self._expected_at = at

    def is_over(self, now: float) -> bool:
        """Tell whether it was silent for too long, but for the time in which this side stood still."""
        late_seconds = now - self._expected_at
        if late_seconds > STALL_SECONDS:
            self._since += late_seconds
        return now >= self.due_at()
