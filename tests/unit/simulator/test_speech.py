"""The shipped speech is there, small and audible."""

from importlib.resources import files

import numpy as np
import pytest

from gateway.simulator import speech

EVERYTHING = [*speech.questions(), *speech.replies()]


def test_there_is_something_to_ask_and_to_answer() -> None:
    assert len(speech.questions()) == 12
    assert len(speech.replies()) == 16
    assert len({each.text for each in EVERYTHING}) == len(EVERYTHING)


@pytest.mark.parametrize("utterance", EVERYTHING, ids=lambda each: each.text)
def test_an_utterance_is_loud_speech_without_silence_around_it(utterance: speech.Utterance) -> None:
    samples = np.frombuffer(utterance.pcm, np.int16).astype(np.float64)
    assert 900 <= utterance.duration_ms <= 9_000
    assert 10_000 < np.abs(samples).max() < 32_000
    assert np.abs(samples[: 24 * 100]).max() > 100
    assert np.abs(samples[-24 * 100 :]).max() > 100


def test_the_speech_is_loaded_once() -> None:
    assert speech.replies() is speech.replies()


def test_the_folder_stays_small() -> None:
    folder = files("gateway.simulator.speech")
    assert sum(len(each.read_bytes()) for each in folder.iterdir() if each.name.endswith(".wav")) < 1_500_000
