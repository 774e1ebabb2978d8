"""The caller's audio that no turn has taken yet: what a fresh line must hear again.

Positions are bytes since the session began. Bounded: while nobody speaks, a little more than what comes before a
turn; from the start of speech on, half a minute. The oldest makes room.
"""

from collections import deque
from typing import Final

from gateway.core.audio import AudioFormat

# Beside the padding in front of a turn.
QUIET_SECONDS: Final = 2.0
SPEECH_SECONDS: Final = 30.0


class InputRing:
    """Pieces of audio in the order in which they came."""

    __slots__ = (
        "_pieces",
        "_quiet_bytes",
        "_sample_bytes",
        "_speech_bytes",
        "_speech_from",
        "end",
        "is_manual",
        "start",
    )

    def __init__(self, fmt: AudioFormat, padding_ms: int) -> None:
        """Begin empty, at the beginning of the session."""
        self.start = self.end = 0
        # Whether the caller says where a turn ends: then all that comes is part of one.
        self.is_manual = False
        self._pieces: deque[bytes] = deque()
        self._sample_bytes = fmt.sample_bytes
        self._quiet_bytes = int((QUIET_SECONDS + padding_ms / 1000) * fmt.bytes_per_second)
        self._speech_bytes = int(SPEECH_SECONDS * fmt.bytes_per_second)
        self._speech_from: int | None = None

    def append(self, data: bytes) -> None:
        """Keep one more piece. The path of every audio frame up."""
        if not data:
            return
        self._pieces.append(data)
        self.end += len(data)
        is_quiet = self._speech_from is None and not self.is_manual
        limit = self._quiet_bytes if is_quiet else self._speech_bytes
        while self.end - self.start - len(self._pieces[0]) >= limit:
            self.start += len(self._pieces.popleft())

    def speech_started(self, position: int) -> None:
        """Keep what comes from there on for longer: it becomes a turn."""
        self._speech_from = max(position, self.start)

    def turn_ended(self, position: int | None = None) -> bytes:
        """Give up what became a turn, up to `position` (None = all); return it from the start of its speech."""
        end = self.end if position is None else min(max(position, self.start), self.end)
        begin = min(self._begin(), end)
        whole = b"".join(self._pieces)
        turn, rest = whole[begin - self.start : end - self.start], whole[end - self.start :]
        self._pieces = deque([rest] if rest else [])
        self.start, self._speech_from = end, None
        return turn

    def clear(self) -> None:
        """Give up everything: the caller has taken it back."""
        self._pieces.clear()
        self.start, self._speech_from = self.end, None

    def rest(self) -> bytes:
        """Return what a fresh line must hear: the turn that has begun, or what could be the beginning of one."""
        return b"".join(self._pieces)[self._begin() - self.start :]

    def _begin(self) -> int:
        begin = self.start if self._speech_from is None else max(self.start, self._speech_from)
        return begin + -begin % self._sample_bytes  # a piece may have ended in the middle of a sample
