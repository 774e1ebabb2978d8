"""What is stored of a session, kept in memory as far as it fits, for a server that loses it."""

from collections import deque
from collections.abc import Sequence
from itertools import accumulate, takewhile

from gateway.runtime.ports import LogEntry


class Kept:
    """The newest entries, oldest first, bounded in bytes."""

    def __init__(self, max_bytes: int) -> None:
        """Begin empty."""
        self._max_bytes = max_bytes
        self._entries: deque[LogEntry] = deque()
        self._size_bytes = 0

    def add(self, entry: LogEntry) -> None:
        """Keep one more; the oldest make room."""
        self._entries.append(entry)
        self._size_bytes += len(entry.payload)
        while self._size_bytes > self._max_bytes:
            self._size_bytes -= len(self._entries.popleft().payload)

    def take_after(self, seq: int) -> list[LogEntry]:
        """Give up what follows that number; they are not stored any more."""
        taken = [entry for entry in self._entries if entry.seq > seq]
        for entry in taken:
            self._entries.pop()
            self._size_bytes -= len(entry.payload)
        return taken


def fitting(entries: Sequence[LogEntry], max_bytes: int) -> list[LogEntry]:
    """Return as many of the first entries as fit; one always does."""
    sizes = accumulate(len(entry.payload) for entry in entries)
    count = sum(1 for _ in takewhile(lambda size_bytes: size_bytes <= max_bytes, sizes))
    return list(entries[: max(count, 1)])
