"""One answer under way: when it was asked for, when it was first heard, how much of it has come."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.core import events as out
from gateway.core.audio import AudioFormat
from gateway.core.loudness import first_audible
from gateway.core.tally import elapsed_ms

# One that has been silent for so long has no audible beginning.
LISTEN_SECONDS: Final = 5.0
_NO_MARKS: Final[Mapping[str, str]] = MappingProxyType({})


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
    # Whether the caller was told that it is cut.
    is_cut: bool = False

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

    def interrupted(self, cause: out.InterruptionCause, fmt: AudioFormat) -> out.Interrupted:
        """Say that it was cut, and after how much."""
        self.is_cut = True
        sent_samples = self.size_bytes // fmt.sample_bytes
        return out.Interrupted(self.id, self.item_id, cause, sent_samples, had_tool_calls=self.tool_calls > 0)

    def done(
        self,
        now: float,
        status: str,
        status_reason: str,
        error_code: str = "",
        usage: out.Usage | None = None,
        metadata: Mapping[str, str] = _NO_MARKS,
    ) -> out.ResponseDone:
        """Say how it ended, and how long it took."""
        return out.ResponseDone(
            response_id=self.id,
            status=status,
            status_reason=status_reason,
            error_code=error_code,
            usage=usage or out.Usage(),
            speech_stopped_to_first_audio_ms=elapsed_ms(self.first_audio_at, self.speech_stopped_at),
            created_to_first_audio_ms=elapsed_ms(self.first_audio_at, self.created_at),
            created_to_done_ms=elapsed_ms(now, self.created_at),
            metadata=metadata,
        )
