"""Sound files and pacing for examples, probes and tests: 16-bit mono PCM at 24,000 Hz."""

import asyncio
import time
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

RATE_HZ: Final = 24_000
SAMPLE_BYTES: Final = 2


def read_wav(path: str | Path) -> bytes:
    """Return the samples of a WAV file. Raises ValueError unless it is 16-bit mono at 24,000 Hz."""
    with wave.open(str(path), "rb") as file:
        found = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if found != (1, SAMPLE_BYTES, RATE_HZ):
            channels, sample_bytes, rate_hz = found
            raise ValueError(
                f"{path} has {channels} channel(s) of {8 * sample_bytes} bits at {rate_hz} Hz, not "
                f"1 of 16 at {RATE_HZ}: ffmpeg -i IN -ac 1 -ar {RATE_HZ} -sample_fmt s16 OUT.wav"
            )
        return file.readframes(file.getnframes())


def write_wav(path: str | Path, pcm: bytes) -> None:
    """Write samples (16-bit mono at 24,000 Hz) as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(SAMPLE_BYTES)
        file.setframerate(RATE_HZ)
        file.writeframes(pcm)


async def paced(
    pcm: bytes, chunk_ms: int = 20, speed: float = 1.0, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[bytes]:
    """Yield chunks as a microphone would: the n-th when n chunks of time have passed.

    A late chunk is followed by quick ones, so that the pace does not drift. `clock` gives seconds.
    """
    begun = clock()
    for due_seconds, chunk in _schedule(pcm, chunk_ms, speed):
        await asyncio.sleep(max(0.0, begun + due_seconds - clock()))
        yield chunk


def paced_sync(
    pcm: bytes,
    chunk_ms: int = 20,
    speed: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """Yield chunks as `paced` does, blocking in `sleep`."""
    begun = clock()
    for due_seconds, chunk in _schedule(pcm, chunk_ms, speed):
        sleep(max(0.0, begun + due_seconds - clock()))
        yield chunk


def _schedule(pcm: bytes, chunk_ms: int, speed: float) -> Iterator[tuple[float, bytes]]:
    """Yield each chunk with the seconds after the first at which it is due."""
    if chunk_ms <= 0 or speed <= 0:
        raise ValueError(f"chunk_ms and speed must be above 0, not {chunk_ms} and {speed}")
    chunk_bytes = RATE_HZ * chunk_ms // 1000 * SAMPLE_BYTES
    for number, begin in enumerate(range(0, len(pcm), chunk_bytes)):
        yield number * chunk_ms / 1000 / speed, pcm[begin : begin + chunk_bytes]
