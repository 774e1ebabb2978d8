"""The end of a gateway: who asks for it, and how long its sessions may go on."""

import asyncio

from gateway.runtime.directory import Directory


class Drain:
    """Whether this gateway is to end, and how long its sessions may go on."""

    def __init__(self, stop: asyncio.Event, seconds: float, directory: Directory) -> None:
        """Take `seconds` unless somebody asks for another time; whoever sets `stop` asks for none."""
        self._stop = stop
        self._directory = directory
        self.seconds = seconds
        self.emptied = asyncio.Event()

    def ask(self, seconds: float) -> None:
        """End, and let sessions go on for so long at most; who asks again can only make it sooner."""
        if self._stop.is_set():
            self._directory.hurry(seconds)
        self.seconds = seconds
        self._stop.set()
