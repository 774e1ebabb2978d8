"""The input audio buffer: the caller's bytes on one clock, and the ears that cut them into turns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.audio import PCM_24K, AudioFormat
from gateway.simulator import codec
from gateway.simulator.events import Code, Refusal
from gateway.simulator.g711 import Samples
from gateway.simulator.vad import FRAME_MS, FRAME_SAMPLES, Edge, SpeechDetector, VadSettings, to_8k

_COMMIT_MIN_MS: Final = 100
_HELD_MAX_BYTES: Final = 32 * 1024 * 1024
# Speech is noticed a few frames after it began; with the padding before it this much is kept while nobody speaks.
_NOTICED_WITHIN_MS: Final = 500
# Semantic detection: so long a silence ends a sentence that is known, so long any other.
_EAGERNESS_SILENCE_MS: Final = {
    "high": (300, 2_000),
    "auto": (600, 4_000),
    "medium": (600, 4_000),
    "low": (1_000, 8_000),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """A piece of committed audio."""

    wire: bytes
    audio_format: AudioFormat

    @property
    def duration_ms(self) -> int:
        """How long it lasts."""
        return self.audio_format.milliseconds(len(self.wire))


class Intake:
    """Everything the caller sends passes here. The clock counts all audio ever written, in milliseconds."""

    def __init__(
        self,
        audio_format: AudioFormat,
        turn_detection: Mapping[str, Any] | None,
        is_whole: Callable[[Turn], bool] = lambda _: True,
    ) -> None:
        """`is_whole` tells semantic detection whether somebody has said all he wanted."""
        self._is_whole = is_whole
        self._format = audio_format
        self._held = bytearray()
        self.held_from_ms = 0.0
        self._unheard = bytearray()
        self._detection: Mapping[str, Any] | None = None
        self._detector: SpeechDetector | None = None
        self.written_bytes = 0
        self.configure(audio_format, turn_detection)

    @property
    def speaking(self) -> bool:
        """Whether the caller is heard speaking."""
        return self._detector is not None and self._detector.speaking

    @property
    def prefix_padding_ms(self) -> int:
        """How much audio before the speech belongs to it."""
        return int((self._detection or {}).get("prefix_padding_ms", 300))

    @property
    def clock_ms(self) -> float:
        """All audio written so far."""
        return self.held_from_ms + len(self._held) * 1000 / self._format.bytes_per_second

    def configure(self, audio_format: AudioFormat, turn_detection: Mapping[str, Any] | None) -> None:
        """Take over the session's settings. A new format empties the buffer, the clock runs on."""
        if audio_format != self._format:
            self._drop_all()
            self._format = audio_format
            self._detector = None
        self._detection = turn_detection
        if turn_detection is None:
            self._detector = None
            return
        settings = _vad_settings(turn_detection)
        if self._detector is None:
            self._unheard.clear()
            self._detector = SpeechDetector(settings, round(self.clock_ms), self._has_finished)
        self._detector.settings = settings

    def append(self, wire: bytes) -> list[Edge]:
        """Take audio; where speech started or stopped in it. Raises Refusal when too much is held."""
        if len(self._held) + len(wire) > _HELD_MAX_BYTES:
            raise Refusal(Code.INVALID_VALUE, f"The input audio buffer is full: {_HELD_MAX_BYTES} bytes.", "audio")
        self.written_bytes += len(wire)
        self._held += wire
        if self._detector is None:
            return []
        self._unheard += wire
        edges = self._detector.feed(self._frames())
        if not edges and not self._detector.speaking:
            self._drop_until(self.clock_ms - self.prefix_padding_ms - _NOTICED_WITHIN_MS)
        return edges

    def cut(self, start_ms: float, end_ms: float) -> Turn:
        """Take the audio of a turn out of the buffer; what came before it is dropped."""
        self._drop_until(start_ms)
        size = min(len(self._held), self._offset(end_ms))
        turn = Turn(bytes(self._held[:size]), self._format)
        self._drop_bytes(size)
        return turn

    def commit(self) -> Turn:
        """Take everything. Raises Refusal below 100 ms."""
        held_ms = len(self._held) * 1000 / self._format.bytes_per_second
        if held_ms < _COMMIT_MIN_MS:
            message = (
                "Error committing input audio buffer: buffer too small. "
                f"Expected at least {_COMMIT_MIN_MS}ms of audio, but buffer only has {held_ms:.2f}ms of audio."
            )
            raise Refusal(Code.INPUT_AUDIO_BUFFER_COMMIT_EMPTY, message)
        turn = Turn(bytes(self._held), self._format)
        self.clear()
        return turn

    def clear(self) -> None:
        """Forget what is held and what is being said; the clock runs on."""
        self._drop_all()
        if self._detector is not None:
            self._detector.forget_speech()

    def _has_finished(self, start_ms: int, end_ms: int) -> bool:
        said = self._held[self._offset(start_ms - self.prefix_padding_ms) : self._offset(end_ms)]
        return self._is_whole(Turn(bytes(said), self._format))

    def _frames(self) -> Samples:
        """Return the whole frames among the unheard bytes, at 8 kHz."""
        size = self._format.size_bytes(FRAME_MS)
        whole = len(self._unheard) // size * size
        samples = codec.decode(bytes(self._unheard[:whole]), self._format)
        del self._unheard[:whole]
        return (to_8k(samples) if self._format == PCM_24K else samples).reshape(-1, FRAME_SAMPLES)

    def _offset(self, at_ms: float) -> int:
        samples = max(0, round((at_ms - self.held_from_ms) * self._format.rate_hz / 1000))
        return samples * self._format.sample_bytes

    def _drop_until(self, at_ms: float) -> None:
        self._drop_bytes(min(len(self._held), self._offset(at_ms)))

    def _drop_all(self) -> None:
        self._drop_bytes(len(self._held))

    def _drop_bytes(self, size: int) -> None:
        self.held_from_ms += size * 1000 / self._format.bytes_per_second
        del self._held[:size]


def _vad_settings(turn_detection: Mapping[str, Any]) -> VadSettings:
    if turn_detection["type"] == "semantic_vad":
        silence_ms, silence_max_ms = _EAGERNESS_SILENCE_MS[turn_detection["eagerness"]]
        return VadSettings(silence_duration_ms=silence_ms, silence_max_ms=silence_max_ms)
    return VadSettings(turn_detection["threshold"], turn_detection["silence_duration_ms"])
