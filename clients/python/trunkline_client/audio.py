"""Sound for callers: WAV files, other rates and formats, and the pace of speech.

Audio of a session is in `opened.input_format` and `opened.output_format`: PCM_24K (16-bit signed
little endian mono at 24,000 Hz), PCMU or PCMA (G.711 at 8,000 Hz). Everything here is plain Python;
changing a sample rate alone needs the extra `trunkline-client[audio]`.
"""

import asyncio
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from trunkline.v1.types_pb2 import (
    AUDIO_FORMAT_PCM_24K,
    AUDIO_FORMAT_PCMA,
    AUDIO_FORMAT_PCMU,
    AUDIO_FORMAT_UNSPECIFIED,
    AudioFormat,
)

from trunkline_client import _g711, _wav
from trunkline_client._resample import Resampler

PCM_24K: Final = AUDIO_FORMAT_PCM_24K
PCMU: Final = AUDIO_FORMAT_PCMU
PCMA: Final = AUDIO_FORMAT_PCMA
# Of PCM_24K.
RATE_HZ: Final = 24_000
SAMPLE_BYTES: Final = 2

__all__ = [
    "PCMA",
    "PCMU",
    "PCM_24K",
    "RATE_HZ",
    "SAMPLE_BYTES",
    "Resampler",
    "WavWriter",
    "bytes_per_second",
    "decode",
    "encode",
    "paced",
    "paced_sync",
    "rate_hz",
    "read_pcm",
    "read_wav",
    "resample",
    "silence",
    "write_wav",
]

_LAWS: Final = {PCMU: _g711.mu_law, PCMA: _g711.a_law}
_TELEPHONE_HZ: Final = 8_000
_FFMPEG: Final = f"ffmpeg -i IN -ac 1 -ar {RATE_HZ} -sample_fmt s16 OUT.wav"


# Formats.


def rate_hz(audio_format: AudioFormat.ValueType) -> int:
    """Return the samples of a second."""
    return _TELEPHONE_HZ if audio_format in _LAWS else RATE_HZ


def bytes_per_second(audio_format: AudioFormat.ValueType) -> int:
    """Return the bytes of a second."""
    return _TELEPHONE_HZ if audio_format in _LAWS else RATE_HZ * SAMPLE_BYTES


def encode(pcm: bytes, audio_format: AudioFormat.ValueType) -> bytes:
    """Return 16-bit mono PCM at the format's own rate in that format, ready for `send_audio`."""
    law = _law(audio_format)
    return pcm if law is None else _g711.encode(_wav.from_bytes(pcm), law)


def decode(data: bytes, audio_format: AudioFormat.ValueType) -> bytes:
    """Return audio of a session as 16-bit mono PCM at the format's own rate."""
    law = _law(audio_format)
    return data if law is None else _wav.to_bytes(_g711.decode(data, law))


def silence(seconds: float, audio_format: AudioFormat.ValueType = PCM_24K) -> bytes:
    """Return silence. Turn detection hears the end of speech by what follows it."""
    return encode(bytes(round(seconds * rate_hz(audio_format)) * SAMPLE_BYTES), audio_format)


def _law(audio_format: AudioFormat.ValueType) -> _g711.Decode | None:
    if audio_format not in {AUDIO_FORMAT_UNSPECIFIED, PCM_24K, *_LAWS}:
        raise ValueError(f"this client knows no audio format {audio_format}")
    return _LAWS.get(audio_format)


def resample(pcm: bytes, from_hz: int, to_hz: int) -> bytes:
    """Return the same sound at another rate: 16-bit mono PCM, whole. Raises as `Resampler` does."""
    resampler = Resampler(from_hz, to_hz)
    return resampler.feed(pcm) + resampler.flush()


# Files.


def read_wav(path: str | Path, audio_format: AudioFormat.ValueType = PCM_24K) -> bytes:
    """Return what is in a WAV file as audio of `audio_format`, ready for `send_audio`.

    Takes PCM of 8, 16, 24 and 32 bits and G.711, at any rate; channels are mixed. The whole file is
    read.

    Raises:
        ValueError: For another file; the text says what it is.
        ImportError: For another rate than the format's, where the extra `audio` is not installed.
    """
    try:
        sound = _wav.parse(Path(path).read_bytes())
    except _wav.WavError as error:
        raise ValueError(f"{path} cannot be used: {error}. Convert it: {_FFMPEG}") from None
    return _in_format(path, sound, audio_format)


def read_pcm(path: str | Path, from_hz: int, audio_format: AudioFormat.ValueType = PCM_24K) -> bytes:
    """Return what is in a file of raw 16-bit mono PCM at `from_hz`, as `read_wav` does."""
    content = Path(path).read_bytes()
    if content.startswith(b"RIFF") or len(content) % SAMPLE_BYTES:
        raise ValueError(f"{path} is no raw 16-bit PCM: it begins as a WAV file, or ends within a sample")
    return _in_format(path, _wav.Sound(content, from_hz), audio_format)


def _in_format(path: str | Path, sound: _wav.Sound, audio_format: AudioFormat.ValueType) -> bytes:
    try:
        pcm = resample(sound.pcm, sound.rate_hz, rate_hz(audio_format))
    except ImportError as missing:
        raise ImportError(f"{path}: {missing}; or convert it: {_FFMPEG}", name=missing.name) from None
    return encode(pcm, audio_format)


def write_wav(path: str | Path, pcm: bytes, rate_hz: int = RATE_HZ) -> None:
    """Write 16-bit mono PCM as a WAV file."""
    with Path(path).open("wb") as raw, wave.Wave_write(raw) as file:
        _describe(file, rate_hz)
        file.writeframes(pcm)


class WavWriter:
    """Writes the audio of a session to a WAV file as it comes: 16-bit mono PCM at the format's rate.

    For use in `with`. The file is complete after each `write`, whatever happens then.
    """

    def __init__(self, path: str | Path, audio_format: AudioFormat.ValueType = PCM_24K) -> None:
        """Make the file, and take audio of `audio_format`: `session.opened.output_format`."""
        self._format = audio_format
        self._bytes = 0
        self._raw = Path(path).open("wb")  # noqa: SIM115 - it is open as long as this is
        self._wav = wave.Wave_write(self._raw)
        _describe(self._wav, rate_hz(audio_format))
        self.write(b"")

    @property
    def seconds(self) -> float:
        """How much was written."""
        return self._bytes / bytes_per_second(self._format)

    def write(self, data: bytes) -> None:
        """Add audio at the end."""
        self._wav.writeframes(decode(data, self._format))
        self._bytes += len(data)

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        self._wav.close()
        self._raw.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def _describe(file: wave.Wave_write, rate_hz: int) -> None:
    file.setnchannels(1)
    file.setsampwidth(SAMPLE_BYTES)
    file.setframerate(rate_hz)


# The pace of speech.


async def paced(
    audio: bytes,
    chunk_ms: int = 20,
    speed: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    audio_format: AudioFormat.ValueType = PCM_24K,
) -> AsyncIterator[bytes]:
    """Yield chunks as a microphone would: the n-th when n chunks of time have passed.

    A late chunk is followed by quick ones, so that the pace does not drift. `clock` gives seconds.
    """
    begun = clock()
    for due_seconds, chunk in _schedule(audio, chunk_ms, speed, audio_format):
        await asyncio.sleep(max(0.0, begun + due_seconds - clock()))
        yield chunk


def paced_sync(
    audio: bytes,
    chunk_ms: int = 20,
    speed: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    audio_format: AudioFormat.ValueType = PCM_24K,
) -> Iterator[bytes]:
    """Yield chunks as `paced` does, blocking in `sleep`."""
    begun = clock()
    for due_seconds, chunk in _schedule(audio, chunk_ms, speed, audio_format):
        sleep(max(0.0, begun + due_seconds - clock()))
        yield chunk


def _schedule(
    audio: bytes, chunk_ms: int, speed: float, audio_format: AudioFormat.ValueType
) -> Iterator[tuple[float, bytes]]:
    """Yield each chunk with the seconds after the first at which it is due."""
    if chunk_ms <= 0 or speed <= 0:
        raise ValueError(f"chunk_ms and speed must be above 0, not {chunk_ms} and {speed}")
    # Both rates have a whole number of samples in each millisecond.
    chunk_bytes = bytes_per_second(audio_format) * chunk_ms // 1000
    for number, begin in enumerate(range(0, len(audio), chunk_bytes)):
        yield number * chunk_ms / 1000 / speed, audio[begin : begin + chunk_bytes]
