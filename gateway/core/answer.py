"""One answer under way: when it was asked for, when it was first heard, how much of it has come."""

from dataclasses import dataclass
from typing import Final

from gateway.core.audio import AudioFormat
from gateway.core.loudness import first_audible

# One that has been silent for so long has no audible beginning.
LISTEN_SECONDS: Final = 5.0


@dataclass(slots=True)
class Answer:
    """Times are of the monotonic clock, in seconds."""

    id: str
    created_at: float
    # When the caller had stopped speaking; None = it was asked for otherwise.
    speech_stopped_at: float | None
    first_audio_at: float | None = None
    # Whether something was audible, or nobody listens any more.
    is_heard: bool = False
    item_id: str = ""
    size_bytes: int = 0
    tool_calls: int = 0

    def listen(self, data: bytes, before_bytes: int, fmt: AudioFormat, now: float) -> float | None:
        """Look for the first audible sample in a piece; None = it is not there.

        `before_bytes` of the item have come before; a piece may begin in the middle of a sample. Return how long its
        listener has waited for it: it is heard when it is played, not when it comes.
        """
        skipped = -before_bytes % fmt.sample_bytes
        position = (before_bytes + skipped) // fmt.sample_bytes
        found = first_audible(data[skipped : skipped + int(LISTEN_SECONDS * fmt.bytes_per_second)], fmt)
        self.is_heard = found is not None or position > LISTEN_SECONDS * fmt.rate_hz
        if found is None or self.first_audio_at is None:
            return None
        played_at = self.first_audio_at + (position + found) / fmt.rate_hz
        return max(now, played_at) - (self.created_at if self.speech_stopped_at is None else self.speech_stopped_at)
