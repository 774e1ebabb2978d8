"""How fast a caller may send: a bucket of time that fills as fast as time passes."""

from typing import Final

# Audio is taken at so many times the pace of speech, and so many messages in a second.
SPEECH_TIMES_MAX: Final = 2.0
MESSAGES_PER_SECOND: Final = 200.0
MESSAGE_BYTES_PER_SECOND: Final = 4 << 20
# So much may come at once: five seconds of speech, and two hundred messages, each of which may cost a store and
# several answers.
SPEECH_BURST_SECONDS: Final = 2.5
MESSAGES_BURST_SECONDS: Final = 1.0
MESSAGE_SECONDS: Final = 1.0 / MESSAGES_PER_SECOND
# A caller keeps so many controls while it has no stream.
CATCH_UP_MESSAGES: Final = 256


class Pace:
    """One caller's allowance: for audio, and for everything else."""

    __slots__ = ("_audio", "_messages")

    def __init__(self, now: float) -> None:
        """Begin with the whole burst."""
        self._audio = _Bucket(SPEECH_BURST_SECONDS, now)
        self._messages = _Bucket(MESSAGES_BURST_SECONDS, now)

    def audio(self, size_bytes: int, bytes_per_second: int, now: float) -> float:
        """Take a piece of audio; return for how long nothing more should be read, in seconds."""
        return self._audio.take(max(size_bytes / (bytes_per_second * SPEECH_TIMES_MAX), MESSAGE_SECONDS), now)

    def catch_up(self, seconds: float) -> None:
        """Let so much speech, and some messages, come as fast as they can, once: what there was no stream for."""
        self._audio.extra, self._messages.extra = seconds / SPEECH_TIMES_MAX, CATCH_UP_MESSAGES * MESSAGE_SECONDS

    def message(self, now: float, size_bytes: int = 0) -> bool:
        """Take any other message, refused ones too; False = there were too many, or they were too large."""
        return self._messages.take(max(MESSAGE_SECONDS, size_bytes / MESSAGE_BYTES_PER_SECOND), now) <= 0.0


class _Bucket:
    """Seconds of sending at the fastest lasting pace."""

    __slots__ = ("_at", "_burst", "_left", "extra")

    def __init__(self, burst_seconds: float, now: float) -> None:
        self._burst = self._left = burst_seconds
        self._at = now
        self.extra = 0.0

    def take(self, seconds: float, now: float) -> float:
        self._left = min(self._burst, self._left + now - self._at) - seconds
        self._at = now
        if self._left < 0 < self.extra:
            given = min(self.extra, -self._left)
            self._left, self.extra = self._left + given, self.extra - given
        return -self._left if self._left < 0 else 0.0
