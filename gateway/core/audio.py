"""Audio formats of the Realtime API and the arithmetic between bytes, samples and milliseconds.

Knows no codec: audio is carried, never changed.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """One wire format: the provider's name, its rate in Hz and the bytes of one mono sample."""

    name: str
    rate_hz: int
    sample_bytes: int
    # One sample of silence: zero in PCM; the G.711 codes for it are not zero.
    zero: bytes = b"\0\0"

    @property
    def bytes_per_second(self) -> int:
        """The bytes that one second of this format takes."""
        return self.rate_hz * self.sample_bytes

    def milliseconds(self, size_bytes: int) -> int:
        """How long `size_bytes` of audio last, in whole milliseconds, rounded down."""
        return size_bytes * 1000 // self.bytes_per_second

    def silence(self, milliseconds: int) -> bytes:
        """Return so much silence."""
        return self.zero * (self.size_bytes(milliseconds) // self.sample_bytes)

    def size_bytes(self, milliseconds: int) -> int:
        """How many bytes `milliseconds` of audio take, in whole samples, rounded down."""
        return self.rate_hz * milliseconds // 1000 * self.sample_bytes


PCM_24K: Final = AudioFormat("audio/pcm", 24_000, 2)
PCMU: Final = AudioFormat("audio/pcmu", 8_000, 1, b"\xff")
PCMA: Final = AudioFormat("audio/pcma", 8_000, 1, b"\xd5")

BY_NAME: Final = {each.name: each for each in (PCM_24K, PCMU, PCMA)}
