"""What this side acknowledges, and when. Pure: time is an argument, in seconds that only rise."""

from typing import Final

from trunkline.v1.types_pb2 import CallerAck, OutputPosition

# So many numbered messages, or this part of the window, are acknowledged at once.
NUMBERED_MAX: Final = 32
_WINDOW_PARTS: Final = 4
# Audio goes so often that an acknowledgement need not ride on each: from this part of the interval on.
_AUDIO_FROM: Final = 0.5


class Acks:
    """The acknowledgements of one stream. They ride on what goes anyway, else a message of their own is due."""

    def __init__(self, interval_seconds: float, heartbeat_seconds: float, window_bytes: int, now: float) -> None:
        """Begin with a stream, on which nothing was read."""
        self._interval_seconds = interval_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._at_once_bytes = window_bytes // _WINDOW_PARTS or None
        self._read_bytes = 0
        self._sent_at = now
        # What is new since the last acknowledgement, and since when.
        self._new_bytes = 0
        self._new_numbered = 0
        self._new_since: float | None = None

    def note_read(self, size_bytes: int, now: float, *, has_content: bool, numbered: bool) -> None:
        """Note that a message was taken. One without content is no reason to answer soon."""
        self._read_bytes += size_bytes
        self._new_bytes += size_bytes
        self._new_numbered += numbered
        if has_content or numbered or self._is_urgent():
            self.note_new(now)

    def note_new(self, now: float) -> None:
        """Note that something else is new, such as what was played."""
        if self._new_since is None:
            self._new_since = now

    def _is_urgent(self) -> bool:
        too_many_bytes = self._at_once_bytes is not None and self._new_bytes >= self._at_once_bytes
        return too_many_bytes or self._new_numbered >= NUMBERED_MAX

    def due_at(self) -> float:
        """Return when a message must go, with an acknowledgement alone if nothing else goes."""
        heartbeat_at = self._sent_at + self._heartbeat_seconds
        if self._new_since is None:
            return heartbeat_at
        wait_seconds = 0.0 if self._is_urgent() else self._interval_seconds
        return min(heartbeat_at, self._new_since + wait_seconds)

    def rides(self, now: float, *, on_audio: bool) -> bool:
        """Tell whether an acknowledgement goes with a message that goes now."""
        if self._new_since is None:
            return False
        wait_seconds = self._interval_seconds * _AUDIO_FROM if on_audio else 0.0
        return self._is_urgent() or now >= self._new_since + wait_seconds

    def note_sent(self, now: float) -> None:
        """Note that a message went without one."""
        self._sent_at = now

    def take(self, seq: int, output: OutputPosition | None, now: float) -> CallerAck:
        """Return the acknowledgement that goes now."""
        self._sent_at = now
        self._new_bytes = self._new_numbered = 0
        self._new_since = None
        return CallerAck(seq=seq, read_bytes=self._read_bytes, output=output)
