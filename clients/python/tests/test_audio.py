"""Formats of audio, and the pace of speech."""

import struct
from pathlib import Path
from typing import Any

import pytest

from trunkline_client import audio
from trunkline_client.audio import PCM_24K, PCMA, PCMU, paced, paced_sync, read_wav, silence

from .sounds import PCM, pcm16, samples_of, stored, wav

# G.711.


@pytest.mark.parametrize(("audio_format", "form"), [(PCMU, 7), (PCMA, 6)])
def test_every_byte_of_g711_survives_the_way_to_samples_and_back(tmp_path: Path, audio_format: Any, form: int) -> None:
    every = bytes(range(256))
    samples = audio.decode(every, audio_format)
    assert len(samples) == 512
    again = audio.encode(samples, audio_format)
    # Mu-law has two zeros.
    assert {(sent, back) for sent, back in zip(every, again, strict=True) if sent != back} <= {(0x7F, 0xFF)}
    # And so does a telephone's recording, at its own rate, without soxr.
    path = stored(tmp_path, wav(every, form=form, bits=8, rate=8000))
    assert read_wav(path, audio_format) == again


def test_g711_is_what_the_standard_says() -> None:
    # From the tables of G.711: the largest and the smallest steps.
    assert struct.unpack("<4h", audio.decode(b"\x80\x00\xff\x7f", PCMU)) == (32_124, -32_124, 0, 0)
    assert struct.unpack("<4h", audio.decode(b"\xaa\x2a\xd5\x55", PCMA)) == (32_256, -32_256, 8, -8)
    assert audio.encode(pcm16(0, 32_767, -32_768), PCMU) == b"\xff\x80\x00"


@pytest.mark.parametrize("audio_format", [PCM_24K, PCMU, PCMA])
def test_the_error_of_g711_is_small(audio_format: Any) -> None:
    sent = range(-32_000, 32_000, 7)
    heard = samples_of(audio.decode(audio.encode(pcm16(*sent), audio_format), audio_format))
    assert all(abs(one - other) <= max(16, abs(one) // 32 + 16) for one, other in zip(sent, heard, strict=True))


@pytest.mark.parametrize(
    ("audio_format", "rate_hz", "bytes_per_second"),
    [(0, 24_000, 48_000), (PCM_24K, 24_000, 48_000), (PCMU, 8000, 8000)],
)
def test_a_second_is_as_long_as_its_format_has_it(audio_format: Any, rate_hz: int, bytes_per_second: int) -> None:
    assert audio.rate_hz(audio_format) == rate_hz
    assert audio.bytes_per_second(audio_format) == len(silence(1, audio_format)) == bytes_per_second
    assert set(audio.decode(silence(0.1, audio_format), audio_format)) == {0}


def test_a_format_of_a_newer_contract_is_refused() -> None:
    with pytest.raises(ValueError, match="knows no audio format 77"):
        audio.encode(PCM, 77)  # type: ignore[arg-type]


# The pace.


class Clock:
    """A clock that moves when somebody sleeps, and a little whenever it is read."""

    def __init__(self, slowness_seconds: float) -> None:
        self.seconds = 100.0
        self.slowness_seconds = slowness_seconds
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        # Every sleep is late.
        self.seconds += seconds + self.slowness_seconds


def test_the_pace_does_not_drift_however_late_each_sleep_is() -> None:
    clock = Clock(slowness_seconds=0.004)
    sent = [(round(clock.seconds - 100.0, 3), len(chunk)) for chunk in paced_sync(PCM, clock=clock, sleep=clock.sleep)]
    assert sent == [(0.004, 960), (0.024, 960), (0.044, 960), (0.064, 960), (0.084, 960)]


def test_a_late_sender_catches_up_without_sleeping() -> None:
    clock = Clock(slowness_seconds=0.0)
    for number, _ in enumerate(paced_sync(PCM, clock=clock, sleep=clock.sleep)):
        if number == 0:
            clock.seconds += 0.05
    assert [round(seconds, 3) for seconds in clock.slept] == [0.0, 0.0, 0.0, 0.01, 0.02]


def test_speed_and_chunk_length_set_the_pace() -> None:
    clock = Clock(slowness_seconds=0.0)
    chunks = list(paced_sync(PCM, chunk_ms=40, speed=2.0, clock=clock, sleep=clock.sleep))
    assert [len(chunk) for chunk in chunks] == [1920, 1920, 960]
    assert [round(seconds, 3) for seconds in clock.slept] == [0.0, 0.02, 0.02]


async def test_both_paces_send_the_same_bytes() -> None:
    chunks = [chunk async for chunk in paced(PCM, speed=1000)]
    assert chunks == list(paced_sync(PCM, speed=1000))
    assert b"".join(chunks) == PCM


async def test_a_telephones_pace_is_that_of_its_bytes() -> None:
    spoken = silence(0.1, PCMU)
    clock = Clock(slowness_seconds=0.0)
    chunks = list(paced_sync(spoken, clock=clock, sleep=clock.sleep, audio_format=PCMU))
    assert [len(chunk) for chunk in chunks] == [160] * 5
    assert [chunk async for chunk in paced(spoken, speed=1000, audio_format=PCMU)] == chunks


@pytest.mark.parametrize(("chunk_ms", "speed"), [(0, 1.0), (20, 0.0)])
def test_a_pace_that_never_ends_is_refused(chunk_ms: int, speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        list(paced_sync(PCM, chunk_ms=chunk_ms, speed=speed))
