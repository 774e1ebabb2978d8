"""Who this gateway is to the others, and whether it still is: a process that stood still is somebody new."""

import secrets
from collections.abc import Callable

import structlog

ID_BYTES = 8

log = structlog.get_logger()


def _nothing() -> None:
    """Stand for a callback that nobody set."""


class Presence:
    """The gateway's name, and the watch over gaps between turns of its loop."""

    def __init__(self, frozen_seconds: float) -> None:
        """Take a name that no process had before."""
        self._frozen_seconds = frozen_seconds
        self._seen_at: float | None = None
        self.gateway_id = secrets.token_hex(ID_BYTES)
        self.on_fenced: Callable[[], None] = _nothing

    def look(self, now: float) -> bool:
        """Take note of a turn of the loop; return whether the last one was too long ago.

        Then others may have our places: `on_fenced` was called before anything else, and what is
        still held is held under a new name. No wait on the loop is as long as the gap that counts,
        so a silent Redis is never taken for it.
        """
        before, self._seen_at = self._seen_at, now
        if before is None or now - before <= self._frozen_seconds:
            return False
        self.on_fenced()
        self.gateway_id = secrets.token_hex(ID_BYTES)
        log.warning("slots_fenced", seconds=round(now - before, 3))
        return True
