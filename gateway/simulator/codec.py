"""Between the wire's audio formats and 16-bit samples."""

from functools import lru_cache
from typing import Final

import numpy as np
import pybase64

from gateway.core.audio import BY_NAME, PCM_24K, PCMU, AudioFormat
from gateway.simulator import g711
from gateway.simulator.vad import to_8k

_CHUNKINGS_KEPT: Final = 256


def decode(wire: bytes, audio_format: AudioFormat) -> g711.Samples:
    """Return samples at the format's own rate. `wire` holds whole samples."""
    if audio_format == PCM_24K:
        return np.frombuffer(wire, "<i2")
    return g711.decode_mu_law(wire) if audio_format == PCMU else g711.decode_a_law(wire)


def encode(pcm_24k: bytes, audio_format: AudioFormat) -> bytes:
    """Speech at 24 kHz in another format."""
    if audio_format == PCM_24K:
        return pcm_24k
    samples = np.frombuffer(pcm_24k, "<i2")
    slow = to_8k(samples[: len(samples) // 3 * 3])
    return g711.encode_mu_law(slow) if audio_format == PCMU else g711.encode_a_law(slow)


@lru_cache(maxsize=_CHUNKINGS_KEPT)
def chunks(pcm_24k: bytes, format_name: str, chunk_ms: int) -> tuple[str, ...]:
    """Speech as the base64 texts of its deltas. Cached: the same few replies go to every caller."""
    audio_format = BY_NAME[format_name]
    wire = encode(pcm_24k, audio_format)
    size = audio_format.size_bytes(chunk_ms)
    return tuple(pybase64.b64encode(wire[at : at + size]).decode() for at in range(0, len(wire), size))
