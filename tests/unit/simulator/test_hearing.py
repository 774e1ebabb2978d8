"""Shipped questions are recognised through noise and telephone coding; nothing else is."""

import numpy as np
import pytest

from gateway.core.audio import PCM_24K, PCMA, PCMU, AudioFormat
from gateway.simulator import codec, hearing, speech
from gateway.simulator.intake import Turn


def turn(pcm: bytes, audio_format: AudioFormat = PCM_24K, noise: float = 0, shift: int = 0) -> Turn:
    samples = np.concatenate([np.zeros(7_200 + shift), np.frombuffer(pcm, np.int16), np.zeros(12_000)])
    samples += np.random.default_rng(shift).standard_normal(len(samples)) * noise
    loud = np.clip(samples, -32768, 32767).astype(np.int16).tobytes()
    return Turn(codec.encode(loud, audio_format), audio_format)


@pytest.mark.parametrize("audio_format", [PCM_24K, PCMU, PCMA], ids=lambda each: each.name)
@pytest.mark.parametrize("noise", [0, 1_000])
def test_every_question_is_recognised(audio_format: AudioFormat, noise: float) -> None:
    for shift, question in enumerate(speech.questions()):
        assert hearing.recognise(turn(question.pcm, audio_format, noise, shift * 37)) == question.text


def test_two_questions_in_one_turn_are_nobodys() -> None:
    first, second, *_ = speech.questions()
    assert hearing.recognise(turn(first.pcm + bytes(4_800) + second.pcm)) is None


def test_half_a_question_is_nobodys() -> None:
    question = speech.questions()[7]
    assert hearing.recognise(turn(question.pcm[: len(question.pcm) // 4 * 2])) is None


def test_noise_and_next_to_nothing_are_nobodys() -> None:
    noise = (np.random.default_rng(1).standard_normal(48_000) * 3_000).astype(np.int16).tobytes()
    assert hearing.recognise(Turn(noise, PCM_24K)) is None
    assert hearing.recognise(Turn(b"", PCM_24K)) is None


def test_unknown_speech_is_described_by_its_length() -> None:
    assert hearing.describe(Turn(bytes(86_400), PCM_24K)) == "(1.8 s of speech)"
