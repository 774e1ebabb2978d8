"""The input buffer: one clock for all audio, turns cut to the byte."""

import numpy as np
import pytest

from gateway.core.audio import PCM_24K, PCMU
from gateway.simulator import codec, speech
from gateway.simulator.events import Refusal
from gateway.simulator.intake import Intake
from gateway.simulator.vad import Edge, EdgeKind

SERVER_VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 200}
QUESTION = speech.questions()[2].pcm
STREAM = bytes(48_000) + QUESTION + bytes(48_000)


def test_push_to_talk_commits_every_byte() -> None:
    intake = Intake(PCM_24K, None)
    sent = np.random.default_rng(1).integers(0, 255, 9_601, np.uint8).tobytes()
    for at in range(0, len(sent), 777):
        assert intake.append(sent[at : at + 777]) == []
    assert intake.commit().wire == sent
    assert intake.written_bytes == len(sent)


def test_less_than_100_ms_cannot_be_committed() -> None:
    intake = Intake(PCM_24K, None)
    intake.append(bytes(4_798))
    with pytest.raises(Refusal, match=r"at least 100ms of audio, but buffer only has 99\.96ms"):
        intake.commit()
    intake.append(bytes(2))
    assert intake.commit().duration_ms == 100


@pytest.mark.parametrize("piece", [320, 960, 961, 4_801, 1_000_000])
def test_a_turn_is_cut_from_its_padding_to_the_deciding_silence(piece: int) -> None:
    intake = Intake(PCM_24K, SERVER_VAD)
    edges: list[Edge] = []
    pieces = (STREAM[at : at + piece] for at in range(0, len(STREAM), piece))
    while len(edges) < 2:
        edges += intake.append(next(pieces))
    assert [edge.kind for edge in edges] == [EdgeKind.STARTED, EdgeKind.STOPPED]
    start_ms, end_ms = edges[0].at_ms - 300, edges[1].at_ms
    assert abs(edges[0].at_ms - 1_000) <= 60
    assert intake.cut(start_ms, end_ms).wire == STREAM[start_ms * 48 : end_ms * 48]


def test_the_clock_counts_all_audio_across_turns_and_formats() -> None:
    intake = Intake(PCM_24K, None)
    intake.append(bytes(48_000))
    intake.commit()
    intake.append(bytes(24_000))
    intake.clear()
    assert intake.clock_ms == 1_500
    intake.configure(PCMU, SERVER_VAD)
    edges = intake.append(codec.encode(STREAM, PCMU))
    assert abs(edges[0].at_ms - 2_500) <= 60


def test_silence_is_not_hoarded() -> None:
    intake = Intake(PCM_24K, SERVER_VAD)
    for _ in range(1_000):
        intake.append(bytes(960))
    assert intake.clock_ms == 20_000
    assert intake.clock_ms - intake.held_from_ms <= 300 + 500


def test_a_buffer_has_its_limit() -> None:
    intake = Intake(PCM_24K, None)
    intake.append(bytes(32 * 1024 * 1024))
    with pytest.raises(Refusal, match="full"):
        intake.append(bytes(2))


def test_clearing_forgets_what_is_being_said() -> None:
    intake = Intake(PCM_24K, SERVER_VAD)
    intake.append(STREAM[:96_000])
    assert intake.speaking
    intake.clear()
    assert not intake.speaking
    assert intake.append(bytes(48_000)) == []
