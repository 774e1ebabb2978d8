"""What is in a WAV file: mono 16-bit samples, however they were stored.

The standard library's reader refuses, before Python 3.12, what many recorders write for 24 bits,
and always what telephones write.
"""

import struct
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from trunkline_client import _g711

_PCM, _A_LAW, _MU_LAW, _EXTENSIBLE = 0x0001, 0x0006, 0x0007, 0xFFFE
_LAWS: Final = {_A_LAW: _g711.a_law, _MU_LAW: _g711.mu_law}
_CHUNK: Final = struct.Struct("<4sI")
_FORMAT: Final = struct.Struct("<HHIIHH")
_SUBFORMAT_AT: Final = 24
_WIDTHS: Final = range(1, 5)


@dataclass(frozen=True, slots=True)
class Sound:
    """16-bit mono samples, little endian."""

    pcm: bytes
    rate_hz: int


class WavError(ValueError):
    """It is no WAV file, or one of a kind that cannot be read."""


def parse(content: bytes) -> Sound:
    """Return what is in a WAV file: PCM of 8, 16, 24 or 32 bits or G.711, its channels mixed. Raises `WavError`."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise WavError("it is no WAV file")
    head, data = b"", b""
    for kind, body in _chunks(content):
        if kind == b"fmt ":
            head = body
        elif kind == b"data":
            data = body
            break
    if len(head) < _FORMAT.size or not data:
        raise WavError("it is a WAV file without sound")
    form, channels, rate_hz, _, frame_bytes, bits = _FORMAT.unpack_from(head)
    if form == _EXTENSIBLE and len(head) >= _SUBFORMAT_AT + 2:
        form = int.from_bytes(head[_SUBFORMAT_AT : _SUBFORMAT_AT + 2], "little")
    width = frame_bytes // channels if channels else 0
    if form in _LAWS and width == 1:
        samples = _g711.decode(data, _LAWS[form])
    elif form == _PCM and width in _WIDTHS:
        samples = _upper_16_bits(data, width)
    else:
        raise WavError(f"it has {channels} channel(s) of {bits} bits at {rate_hz} Hz in form {form:#06x}")
    return Sound(to_bytes(_mixed(samples, channels)), rate_hz)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + _CHUNK.size <= len(content):
        kind, size = _CHUNK.unpack_from(content, at)
        at += _CHUNK.size
        # A file that was written to a pipe has a size that is too large.
        yield kind, content[at : at + size]
        at += size + size % 2


def _upper_16_bits(data: bytes, width: int) -> _g711.Samples:
    data = data[: len(data) // width * width]
    upper = bytearray(len(data) // width * 2)
    if width == 1:
        # Eight bits alone are stored without a sign.
        upper[1::2] = data.translate(bytes(code ^ 0x80 for code in range(0x100)))
    else:
        upper[0::2] = data[width - 2 :: width]
        upper[1::2] = data[width - 1 :: width]
    return from_bytes(upper)


def _mixed(samples: _g711.Samples, channels: int) -> _g711.Samples:
    if channels == 1:
        return samples
    frames = len(samples) // channels
    each = [samples[channel : frames * channels : channels] for channel in range(channels)]
    return array("h", (sum(frame) // channels for frame in zip(*each, strict=True)))


def from_bytes(pcm: bytes | bytearray) -> _g711.Samples:
    """Return the samples of 16-bit little endian PCM. Raises ValueError for half a sample."""
    samples = array("h", bytes(pcm))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def to_bytes(samples: _g711.Samples) -> bytes:
    """Return samples as 16-bit little endian PCM."""
    if sys.byteorder == "big":
        samples = samples[:]
        samples.byteswap()
    return samples.tobytes()
