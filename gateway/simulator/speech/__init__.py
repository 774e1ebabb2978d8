"""The speech of the simulator: what it answers, and what a caller may say to it.

Recordings made once and shipped inside the package (README.md beside this file has the commands); nothing is
synthesised at run time.
"""

import json
import struct
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from gateway.core.audio import PCM_24K
from gateway.simulator import g711

_RIFF_HEADER_BYTES: Final = 12
_CHUNK_HEADER: Final = struct.Struct("<4sI")


@dataclass(frozen=True, slots=True)
class Utterance:
    """One spoken sentence: its words, and the sound in PCM_24K without silence around it."""

    text: str
    pcm: bytes

    @property
    def duration_ms(self) -> int:
        """How long it takes to say it."""
        return PCM_24K.milliseconds(len(self.pcm))


def questions() -> tuple[Utterance, ...]:
    """Return what a caller may say. Stream a second of silence after it, or voice detection never hears its end."""
    return _load("questions")


def replies() -> tuple[Utterance, ...]:
    """Return what the simulator can say."""
    return _load("replies")


@cache
def _load(group: str) -> tuple[Utterance, ...]:
    folder = files(__name__)
    index = json.loads(folder.joinpath("index.json").read_text(encoding="utf-8"))
    return tuple(
        Utterance(
            entry["text"],
            g711.decode_mu_law(_wav_data(folder.joinpath(entry["file"]).read_bytes())).tobytes(),
        )
        for entry in index[group]
    )


def _wav_data(wav: bytes) -> bytes:
    """Return the samples of a WAV file. The standard library's reader refuses G.711 files."""
    at = _RIFF_HEADER_BYTES
    while at < len(wav):
        kind, size = _CHUNK_HEADER.unpack_from(wav, at)
        at += _CHUNK_HEADER.size
        if kind == b"data":
            return wav[at : at + size]
        at += size + size % 2
    message = "a speech fixture has no data chunk"
    raise ValueError(message)
