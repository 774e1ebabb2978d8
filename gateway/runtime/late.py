"""What comes from a caller while a fresh line is being told what was said before."""

import asyncio
from collections import deque
from typing import Final

from gateway.runtime.ports import Upstream

# More than this waits where the transport can tell the caller.
LATE_MAX_BYTES: Final = 1 << 20
LOOK_SECONDS: Final = 0.02


class Late:
    """Frames that go up behind what the line is told, in order."""

    def __init__(self, *, is_over: bool = False) -> None:
        """Begin with none."""
        self._frames = deque[bytes]()
        self._bytes = 0
        # Whether no line is being told: then nothing is to be done.
        self.is_over = is_over

    async def add(self, frame: bytes) -> None:
        """Keep a frame; returns when there is room for the next one."""
        if self.is_over:
            return
        self._frames.append(frame)
        self._bytes += len(frame)
        while not self.is_over and self._bytes > LATE_MAX_BYTES:  # noqa: ASYNC110 nobody tells
            await asyncio.sleep(LOOK_SECONDS)

    async def send(self, upstream: Upstream) -> None:
        """Send all of them, and what comes meanwhile. Raises `UpstreamClosedError`."""
        while self._frames:
            frame = self._frames.popleft()
            self._bytes -= len(frame)
            await upstream.send(frame)
