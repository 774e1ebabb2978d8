"""Waiting for what has no event, within bounds."""

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

SECONDS = 10.0
_PAUSE_SECONDS = 0.005


async def eventually(holds: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Return as soon as `holds()` is true; fail with `what` after `seconds`."""
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at, f"not within {seconds} s: {what}"
        await asyncio.sleep(_PAUSE_SECONDS)


def eventually_sync(
    holds: Callable[[], object], what: str, seconds: float = SECONDS, pause_seconds: float = _PAUSE_SECONDS
) -> None:
    """Do the same without an event loop."""
    ends_at = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends_at, f"not within {seconds} s: {what}"
        time.sleep(pause_seconds)


def takes_calls(path: Path) -> bool:
    """Whether somebody listens at a Unix socket: its file is there a moment before that."""
    with socket.socket(socket.AF_UNIX) as end:
        return end.connect_ex(str(path)) == 0
