"""The detector hears speech where it is, in a quiet room and in a loud one."""

import math
import sys
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from gateway.simulator import speech
from gateway.simulator.vad import FRAME_MS, FRAME_SAMPLES, Edge, EdgeKind, SpeechDetector, VadSettings, to_8k

LEAD_MS = 1_000
TAIL_MS = 1_500
SILENCE_MS = 500
TOLERANCE_MS = 150
# The pauses in the other replies are longer than the silence that ends a turn.
UNBROKEN = [
    each for each in (*speech.questions(), *speech.replies()) if each.text.count(". ") + each.text.count("? ") == 0
]

CLICK = np.where(np.random.default_rng(1).random(240) < 0.5, -20_000, 20_000)

Samples = npt.NDArray[np.int16]


def silence(milliseconds: int) -> Samples:
    return np.zeros(24 * milliseconds, np.int16)


def spoken(utterance: speech.Utterance) -> Samples:
    return np.concatenate([silence(LEAD_MS), np.frombuffer(utterance.pcm, np.int16), silence(TAIL_MS)])


def with_noise(samples: Samples, level: float, seed: int, *, pink: bool = False) -> Samples:
    noise = np.random.default_rng(seed).standard_normal(len(samples))
    if pink:
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(samples))
        noise /= noise.std()
    return np.clip(samples + noise * level, -32768, 32767).astype(np.int16)


def hear(samples: Samples, settings: VadSettings | None = None, origin_ms: int = 0) -> list[Edge]:
    """Frame by frame, as calls arrive."""
    detector = SpeechDetector(settings or VadSettings(silence_duration_ms=SILENCE_MS), origin_ms)
    frames = to_8k(samples[: len(samples) // 480 * 480]).reshape(-1, FRAME_SAMPLES)
    return [edge for frame in frames for edge in detector.feed(frame.reshape(1, FRAME_SAMPLES))]


def true_ends(utterance: speech.Utterance) -> tuple[int, int]:
    """Where the clean recording starts and stops being louder than 30 dB below its loud parts."""
    samples = np.frombuffer(utterance.pcm, np.int16).astype(np.float64)
    blocks = samples[: len(samples) // 240 * 240].reshape(-1, 240)
    levels = 10 * np.log10(np.square(blocks).mean(axis=1) + 1e-3)
    loud = np.flatnonzero(levels > np.percentile(levels, 95) - 30)
    return LEAD_MS + int(loud[0]) * 10, LEAD_MS + (int(loud[-1]) + 1) * 10


def assert_heard_once(utterance: speech.Utterance, edges: list[Edge]) -> None:
    started, stopped = true_ends(utterance)
    assert [edge.kind for edge in edges] == [EdgeKind.STARTED, EdgeKind.STOPPED], utterance.text
    assert abs(edges[0].at_ms - started) <= TOLERANCE_MS, utterance.text
    assert abs(edges[1].at_ms - SILENCE_MS - stopped) <= TOLERANCE_MS, utterance.text


def test_there_are_twenty_utterances_to_judge_by() -> None:
    assert len(UNBROKEN) >= 20


@pytest.mark.parametrize("utterance", UNBROKEN, ids=lambda each: each.text)
def test_ends_of_speech_are_found_within_150_ms(utterance: speech.Utterance) -> None:
    assert_heard_once(utterance, hear(spoken(utterance)))


@pytest.mark.parametrize("pink", [False, True], ids=["white", "pink"])
@pytest.mark.parametrize("snr_db", [20, 10])
def test_ends_of_speech_are_found_within_150_ms_in_noise(snr_db: int, pink: bool) -> None:  # noqa: FBT001
    for seed, utterance in enumerate(UNBROKEN):
        speech_level = np.sqrt(np.square(np.frombuffer(utterance.pcm, np.int16).astype(np.float64)).mean())
        noisy = with_noise(spoken(utterance), speech_level / 10 ** (snr_db / 20), seed, pink=pink)
        assert_heard_once(utterance, hear(noisy))


def score(utterances: list[speech.Utterance], streams: list[Samples]) -> tuple[int, int, int]:
    """How many utterances were detected within the tolerance, how many detections there were, how many utterances."""
    found = detections = 0
    for utterance, stream in zip(utterances, streams, strict=True):
        edges = hear(stream)
        pairs = list(zip(edges[::2], edges[1::2], strict=False))
        started, stopped = true_ends(utterance)
        hits = [
            pair
            for pair in pairs
            if abs(pair[0].at_ms - started) <= TOLERANCE_MS
            and abs(pair[1].at_ms - SILENCE_MS - stopped) <= TOLERANCE_MS
        ]
        found += bool(hits)
        detections += max(len(pairs), math.ceil(len(edges) / 2))
    return found, detections, len(utterances)


@pytest.mark.parametrize("pink", [False, True], ids=["white", "pink"])
@pytest.mark.parametrize("snr_db", [20, 10])
def test_precision_and_recall_in_noise(snr_db: int, pink: bool) -> None:  # noqa: FBT001
    noisy = []
    for seed, utterance in enumerate(UNBROKEN, start=100):
        level = np.sqrt(np.square(np.frombuffer(utterance.pcm, np.int16).astype(np.float64)).mean())
        noisy.append(with_noise(spoken(utterance), level / 10 ** (snr_db / 20), seed, pink=pink))
    found, detections, n = score(UNBROKEN, noisy)
    precision, recall = found / max(1, detections), found / n
    colour = "pink" if pink else "white"
    sys.stdout.write(f"\n{colour} noise, {snr_db} dB: precision {precision:.3f}, recall {recall:.3f}, n = {n}\n")
    assert n >= 20
    assert (precision, recall) == (1.0, 1.0)


def test_a_false_and_a_missed_detection_would_be_counted() -> None:
    first, second = UNBROKEN[:2]
    twice = np.concatenate([spoken(first), spoken(second)])
    assert score([first, second], [twice, silence(3_000)]) == (1, 2, 2)


@pytest.mark.parametrize("level", [0, 10, 100, 1_000, 5_000])
def test_steady_noise_is_never_speech(level: int) -> None:
    for seed in range(5):
        assert hear(with_noise(silence(8_000), level, seed)) == []


def test_a_click_is_no_speech() -> None:
    samples = silence(2_000)
    samples[24_000:24_240] = CLICK
    assert hear(samples) == []


def test_a_click_in_the_silence_does_not_put_off_the_end() -> None:
    samples = spoken(UNBROKEN[0])
    clicked = samples.copy()
    click = (true_ends(UNBROKEN[0])[1] + 250) * 24
    clicked[click : click + 240] = CLICK
    assert hear(clicked) == hear(samples)


def test_speech_that_sinks_almost_to_the_noise_goes_on() -> None:
    # After the loud word a soft one, too soft to start a turn and loud enough to keep it: hysteresis.
    tone = np.sin(np.arange(36_000) * 2 * np.pi * 500 / 24_000)
    samples = with_noise(silence(3_000), 100, 1).astype(np.float64)
    soft = samples.copy()
    soft[24_000:60_000] += tone * 106
    loud_then_soft = soft.copy()
    loud_then_soft[24_000:36_000] += tone[:12_000] * 3_000
    settings = VadSettings(silence_duration_ms=200)
    assert hear(soft.astype(np.int16), settings) == []
    started, stopped = hear(loud_then_soft.astype(np.int16), settings)
    assert started.at_ms == 1_000
    assert 2_500 <= stopped.at_ms - 200 <= 2_600


@pytest.mark.parametrize("silence_ms", [200, 500, 900])
def test_silence_duration_is_honoured(silence_ms: int) -> None:
    utterance = speech.questions()[1]
    _, stopped = hear(spoken(utterance), VadSettings(silence_duration_ms=silence_ms))
    assert abs(stopped.at_ms - silence_ms - true_ends(utterance)[1]) <= TOLERANCE_MS


def test_a_higher_threshold_asks_for_louder_speech() -> None:
    samples = with_noise(silence(2_000), 300, 3).astype(np.float64)
    samples[24_000:] += np.sin(np.arange(24_000) * 2 * np.pi * 500 / 24_000) * 430
    faint = samples.astype(np.int16)
    assert hear(faint, VadSettings(threshold=0.1)) != []
    assert hear(faint, VadSettings(threshold=1.0)) == []


def test_speech_is_found_again_and_again_on_one_clock() -> None:
    turns = [spoken(each) for each in UNBROKEN[:6]]
    edges = hear(np.concatenate(turns), origin_ms=40)
    assert [edge.kind for edge in edges] == [EdgeKind.STARTED, EdgeKind.STOPPED] * 6
    assert all(earlier.at_ms < later.at_ms for earlier, later in pairwise(edges))
    start = 40
    for turn, utterance, edge in zip(turns, UNBROKEN, edges[::2], strict=False):
        assert abs(edge.at_ms - start - true_ends(utterance)[0]) <= TOLERANCE_MS
        start += len(turn) // 24


def test_a_room_that_grows_louder_is_learned() -> None:
    samples = np.concatenate([with_noise(silence(2_000), 50, 1), with_noise(silence(20_000), 150, 2)])
    edges = hear(samples)
    assert len(edges) in (0, 2)
    assert all(edge.at_ms < 12_000 for edge in edges)


def test_speech_may_start_with_the_stream() -> None:
    for utterance in UNBROKEN:
        edges = hear(spoken(utterance)[LEAD_MS * 24 :])
        assert edges[0].kind is EdgeKind.STARTED
        assert edges[0].at_ms <= 400, utterance.text


def test_any_cut_of_the_stream_gives_the_same_edges() -> None:
    samples = spoken(UNBROKEN[0])
    whole = SpeechDetector(VadSettings()).feed(to_8k(samples[: len(samples) // 480 * 480]).reshape(-1, FRAME_SAMPLES))
    assert whole == hear(samples)
    assert whole[0].at_ms % FRAME_MS == 0
