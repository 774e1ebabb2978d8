"""Sound to test with, made by hand."""

import itertools
import struct
from math import pi, sin
from pathlib import Path

PCM = bytes(range(240)) * 20  # 4,800 bytes: 100 ms
SAMPLES = (0, 1, -1, 300, -300, 12_345, -12_345, 32_767, -32_768)


def pcm16(*samples: int) -> bytes:
    return struct.pack(f"<{len(samples)}h", *samples)


def wav(
    data: bytes, *, form: int = 1, channels: int = 1, rate: int = 24_000, bits: int = 16, extensible: bool = False
) -> bytes:
    """Return a WAV file, by hand: the standard library writes some kinds only."""
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", 0xFFFE if extensible else form, channels, rate, rate * frame, frame, bits)
    if extensible:
        # Extra size, valid bits, speakers, and a GUID that begins with the form.
        head += struct.pack("<HHI", 22, bits, 0) + struct.pack("<H", form) + bytes(14)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head
    chunks += b"LIST" + struct.pack("<I", 3) + b"abc\0"
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def stored(folder: Path, content: bytes) -> Path:
    path = folder / "sound.wav"
    path.write_bytes(content)
    return path


def tone(hertz: float, rate_hz: int, seconds: float = 0.5) -> bytes:
    count = int(rate_hz * seconds)
    return pcm16(*(round(10_000 * sin(2 * pi * hertz * at / rate_hz)) for at in range(count)))


def samples_of(pcm: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(pcm) // 2}h", pcm)


def crossings(pcm: bytes) -> int:
    return sum(before < 0 <= after for before, after in itertools.pairwise(samples_of(pcm)))
