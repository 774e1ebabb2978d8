"""When an answer is first heard: the first audible sample, at the moment at which it is played."""

from array import array

import pytest

from gateway.core.answer import LISTEN_SECONDS, Answer
from gateway.core.audio import PCM_24K, PCMA, PCMU, AudioFormat
from gateway.core.loudness import AUDIBLE_PCM, first_audible

RATE = PCM_24K.rate_hz


def pcm(*samples: int) -> bytes:
    return array("h", samples).tobytes()


@pytest.mark.parametrize(
    ("data", "fmt", "found"),
    [
        (b"", PCM_24K, None),
        (pcm(0, 3, -3), PCM_24K, None),
        (pcm(0, 0, AUDIBLE_PCM), PCM_24K, 2),
        (pcm(0, -AUDIBLE_PCM), PCM_24K, 1),
        (pcm(-32768), PCM_24K, 0),
        (pcm(0, AUDIBLE_PCM)[:-1], PCM_24K, None),  # half a sample says nothing
        (b"\xff\x7f\xff", PCMU, None),
        (b"\xff\x00", PCMU, 1),
        (b"\xd5\x55", PCMA, None),
        (b"\xd5\x2a", PCMA, 1),
    ],
)
def test_the_first_audible_sample_is_found(data: bytes, fmt: AudioFormat, found: int | None) -> None:
    assert first_audible(data, fmt) == found


def answer(stopped_at: float | None = None) -> Answer:
    return Answer("r", 10.0, stopped_at, first_audio_at=10.3)


def test_it_is_heard_when_it_is_played() -> None:
    # It comes a second ahead of its time: the listener still has to sit through the silence.
    assert answer().listen(pcm(0, AUDIBLE_PCM), 2 * (RATE - 1), PCM_24K, 10.4) == pytest.approx(1.3)


def test_what_comes_late_is_heard_when_it_comes() -> None:
    assert answer(stopped_at=9.0).listen(pcm(AUDIBLE_PCM), 0, PCM_24K, 12.0) == 3.0


def test_silence_is_listened_to_for_a_while_and_no_longer() -> None:
    silent = answer()
    assert silent.listen(pcm(0), 0, PCM_24K, 10.4) is None
    assert not silent.is_heard
    assert silent.listen(pcm(0), 2 * int(LISTEN_SECONDS * RATE) + 2, PCM_24K, 10.4) is None
    assert silent.is_heard


def test_a_piece_may_begin_in_the_middle_of_a_sample() -> None:
    wire = pcm(1, -1, 1, -1)
    assert answer().listen(wire[1:], 1, PCM_24K, 10.4) is None
    loud = pcm(0, AUDIBLE_PCM)
    assert answer().listen(loud[1:], 1, PCM_24K, 10.3) == pytest.approx(0.3 + 1 / RATE)
