"""What is told of committed turns: every sample of them, while somebody wants to know."""

import aiohttp
import numpy as np
import pybase64
import pytest

from gateway.core.audio import PCM_24K, PCMU
from gateway.simulator import SimulatorOptions, speech
from gateway.simulator.committed import RUNS_MAX, CommittedTurns, runs_of
from gateway.simulator.dialogue import Dialogue
from gateway.simulator.g711 import Samples
from gateway.simulator.intake import Turn
from gateway.simulator.session import REALTIME, Session

from .peer import dial, simulator
from .stage import EXPIRES_AT, Stage

COUNTED = np.arange(70_000).astype("<u2").astype("<i2")


@pytest.mark.parametrize(
    ("samples", "runs"),
    [
        (COUNTED[:0], []),
        (COUNTED[5:6], [(5, 0, 1)]),
        (COUNTED, [(0, 1, 70_000)]),
        (COUNTED[::-1], [(4_463, 65_535, 70_000)]),
        (np.concatenate([COUNTED[:100], COUNTED[150:300]]), [(0, 1, 100), (150, 1, 150)]),
        (np.concatenate([COUNTED[:100], COUNTED[:100]]), [(0, 1, 100), (0, 1, 100)]),
        (np.concatenate([COUNTED[10:20], COUNTED[90:91]]), [(10, 1, 10), (90, 0, 1)]),
        (np.zeros(9, "<i2"), [(0, 0, 9)]),
    ],
)
def test_runs_hold_every_sample_once(samples: Samples, runs: list[tuple[int, int, int]]) -> None:
    assert runs_of(samples) == runs


def test_any_samples_can_be_made_of_their_runs_again() -> None:
    samples = np.random.default_rng(1).integers(-3, 4, RUNS_MAX).astype("<i2")
    again = [first + step * n for first, step, count in runs_of(samples) or () for n in range(count)]
    assert np.array_equal(np.array(again).astype("<u2").astype("<i2"), samples)


def test_what_is_no_few_runs_is_not_kept() -> None:
    noise = np.random.default_rng(1).integers(-9_000, 9_000, 24_000).astype("<i2")
    assert runs_of(noise) is None


def test_the_oldest_make_room_and_are_counted() -> None:
    kept = CommittedTurns(2)
    for number in range(5):
        kept.add("sess", f"item-{number}", Turn(COUNTED[:number].tobytes(), PCM_24K))
    told = kept.describe()
    assert told["dropped"] == 3
    assert told["committed"] == [
        {"session_id": "sess", "item_id": "item-3", "samples": 3, "runs": [(0, 1, 3)]},
        {"session_id": "sess", "item_id": "item-4", "samples": 4, "runs": [(0, 1, 4)]},
    ]


def test_telephone_audio_is_told_as_samples() -> None:
    kept = CommittedTurns(1)
    kept.add("sess", "item", Turn(b"\xff" * 800, PCMU))
    assert kept.describe()["committed"] == [
        {"session_id": "sess", "item_id": "item", "samples": 800, "runs": [(0, 0, 800)]}
    ]


@pytest.mark.parametrize("keep", [0, 5])
async def test_an_observer_is_told_what_was_asked_to_be_kept(keep: int) -> None:
    async with simulator(keep_committed=keep) as running, dial(running) as peer, aiohttp.ClientSession() as http:
        appended = {
            "type": "input_audio_buffer.append",
            "audio": pybase64.b64encode(COUNTED[:4_800].tobytes()).decode(),
        }
        await peer.send(appended, {"type": "input_audio_buffer.commit"})
        created, *_, done = await peer.until("conversation.item.done")
        async with http.get(f"{running.control_url}/committed") as answer:
            told = await answer.json()
    turn = {"session_id": created["session"]["id"], "item_id": done["item"]["id"], "samples": 4_800}
    assert told == {"committed": [{**turn, "runs": [[0, 1, 4_800]]}] if keep else [], "dropped": 0}


def test_a_turn_that_voice_detection_ends_is_kept_as_well(stage: Stage) -> None:
    kept = list[tuple[str, str, Turn]]()
    session = Session(REALTIME, "gpt-realtime", EXPIRES_AT)
    stage.dialogue = Dialogue(
        SimulatorOptions(port=20_000),
        session,
        stage.sent.append,
        lambda _: lambda: None,
        lambda *turn: kept.append(turn),
    )
    events = stage.append(bytes(48_000) + speech.questions()[0].pcm + bytes(48_000))
    ((session_id, item_id, turn),) = kept
    assert (session_id, item_id) == (session.id, next(each["item_id"] for each in events if "item_id" in each))
    assert turn.duration_ms >= speech.questions()[0].duration_ms
