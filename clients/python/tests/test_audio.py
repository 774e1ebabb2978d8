"""Sound files and pacing."""

import wave
from pathlib import Path

import pytest

from trunkline_client.audio import paced, paced_sync, read_wav, write_wav

PCM = bytes(range(240)) * 20  # 4,800 bytes: 100 ms


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", PCM)
    assert read_wav(tmp_path / "a.wav") == PCM


@pytest.mark.parametrize(("channels", "width", "rate"), [(2, 2, 24_000), (1, 1, 24_000), (1, 2, 16_000)])
def test_another_format_is_refused_with_what_it_is(tmp_path: Path, channels: int, width: int, rate: int) -> None:
    path = tmp_path / "b.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(channels * width))
    with pytest.raises(ValueError, match=f"{channels} channel.* {8 * width} bits at {rate} Hz"):
        read_wav(path)


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


@pytest.mark.parametrize(("chunk_ms", "speed"), [(0, 1.0), (20, 0.0)])
def test_a_pace_that_never_ends_is_refused(chunk_ms: int, speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        list(paced_sync(PCM, chunk_ms=chunk_ms, speed=speed))
