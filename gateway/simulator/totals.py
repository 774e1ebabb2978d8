"""What a simulator has counted since it started."""

import time
from collections import deque
from typing import Final

_HANDSHAKES_KEPT: Final = 20_000


class Totals:
    """Upgrade requests and what became of them."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._handshakes = deque[float](maxlen=_HANDSHAKES_KEPT)
        self._accepted = self._refused = self._open = self._open_max = 0

    def asked(self) -> None:
        """Count an upgrade request, whatever becomes of it."""
        self._handshakes.append(round(time.time(), 3))

    def refused(self) -> None:
        """Count one that was not accepted, also because its caller hung up."""
        self._refused += 1

    def accepted(self) -> None:
        """Count a socket that opens."""
        self._accepted += 1
        self._open += 1
        self._open_max = max(self._open_max, self._open)

    def closed(self) -> None:
        """Count a socket that has ended."""
        self._open -= 1

    def describe(self) -> dict[str, object]:
        """Return the counts and the times of the last handshakes."""
        counts = {
            "accepted": self._accepted,
            "refused": self._refused,
            "open": self._open,
            "open_max": self._open_max,
        }
        return {"totals": counts, "handshakes": list(self._handshakes)}
