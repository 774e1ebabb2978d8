"""Faults of what is said: nothing, too slow, broken, out of order. Each shows where it is set and nowhere else."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from gateway.simulator import FAULTS, speech
from tests.unit.simulator.peer import DEADLINE_SECONDS, GREET, assert_untouched, code_of, dial, simulator


async def test_no_session_created_and_all_else_works() -> None:
    async with simulator("no-session-created:count=1") as running:
        async with dial(running) as peer:
            assert await peer.quiet()
            await peer.send({"type": "session.update", "session": {"type": "realtime"}})
            assert (await peer.next())["type"] == "session.updated"
        await assert_untouched(running)


async def test_silence_is_not_death() -> None:
    async with simulator("silence:at=response-created,count=1") as running:
        async with dial(running) as peer:
            await peer.send(GREET)
            await peer.until("response.created")
            assert await peer.quiet()
            await peer.send(GREET)
            assert await peer.quiet()
            assert await peer.answers_pings()
        await assert_untouched(running)


async def test_slow_deltas_come_apart() -> None:
    async with simulator("slow-deltas:ms=120,count=1", speed=float("inf")) as running:
        async with dial(running) as peer:
            await peer.send(GREET)
            await peer.until("response.output_text.delta")
            start = time.monotonic()
            await peer.until("response.output_text.delta")
            await peer.until("response.output_text.delta")
            assert time.monotonic() - start >= 0.2
        await assert_untouched(running)


async def test_a_factor_makes_a_response_that_much_slower() -> None:
    # Nine pieces, 5 ms apart.
    async with simulator("slow-deltas:factor=10,count=1", speed=20.0) as running:
        async with dial(running) as peer:
            await peer.send(GREET)
            await peer.until("response.created")
            start = time.monotonic()
            await peer.until("response.done")
            assert time.monotonic() - start >= 0.3
        await assert_untouched(running)


async def test_muted_events_are_missing() -> None:
    async with simulator("mute:events=response.output_text.*+response.content_part.*,count=1") as running:
        async with dial(running) as peer:
            await peer.send(GREET)
            kinds = {each["type"] for each in await peer.until("response.done")}
            assert not any(each.startswith(("response.output_text", "response.content_part")) for each in kinds)
            assert "response.output_item.done" in kinds
        await assert_untouched(running)


async def test_a_stuck_response_never_ends_not_even_when_cancelled() -> None:
    async with simulator("stuck-response:deltas=2,count=1") as running:
        async with dial(running) as peer:
            await peer.send(GREET)
            await peer.until("response.output_text.delta")
            assert (await peer.next())["type"] == "response.output_text.delta"
            assert await peer.quiet()
            await peer.send(GREET)
            (error,) = await peer.until("error")
            assert error["error"]["code"] == "conversation_already_has_active_response"
            await peer.send({"type": "response.cancel"}, {"type": "session.update", "session": {"type": "realtime"}})
            assert (await peer.next())["type"] == "session.updated"
        await assert_untouched(running)


@pytest.mark.parametrize("form", ["cut", "not-utf8", "binary"])
async def test_a_message_that_is_no_event(form: str) -> None:
    async with simulator(f"garbage-json:form={form},at=created,count=1") as running:
        async with dial(running) as peer:
            await peer.until("session.created")
            async with asyncio.timeout(DEADLINE_SECONDS):
                message = await peer.socket.recv(decode=False)
            assert isinstance(message, bytes)
            with pytest.raises(ValueError):  # noqa: PT011 - bad JSON and bad UTF-8 alike
                json.loads(message)
            await peer.send(GREET)
            await peer.until("response.done")
        await assert_untouched(running)


@pytest.mark.parametrize(
    ("variant", "first", "second"),
    [
        ("created-after-first-delta", "response.output_audio_transcript.delta", "response.created"),
        ("item-added-after-deltas", "response.output_audio.done", "response.output_item.added"),
        ("response-done-before-item-done", "response.done", "response.output_item.done"),
        (
            "speech-stopped-before-started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.speech_started",
        ),
    ],
)
async def test_events_that_change_places(variant: str, first: str, second: str) -> None:
    async with simulator(f"wrong-order:variant={variant},count=1") as running:
        async with dial(running) as peer:
            await peer.say(speech.questions()[0])
            kinds = [each["type"] for each in await peer.until("response.done")]
            if second not in kinds:
                kinds.append((await peer.next())["type"])
            assert kinds.index(second) == kinds.index(first) + 1
            assert kinds.count(second) == 1
        await assert_untouched(running)


async def test_everything_comes_twice() -> None:
    async with simulator("wrong-order:variant=everything-twice,count=1") as running:
        async with dial(running) as peer:
            assert await peer.next() == await peer.next()
            await peer.send(GREET)
            events = await peer.until("response.done")
            assert events[0] == events[1]
        await assert_untouched(running)


async def test_faults_add_up_on_one_socket() -> None:
    faults = ("mute:events=response.output_text.delta,count=1", "close:at=response-done,count=1")
    async with simulator(*faults) as running:
        async with dial(running) as peer:
            await peer.send(GREET)
            kinds, closed = await peer.end()
            assert "response.output_text.delta" not in kinds
            assert (kinds[-1], code_of(closed)) == ("response.done", 1011)
        await assert_untouched(running)


def test_every_fault_has_a_test_here() -> None:
    text = "".join(each.read_text("utf-8") for each in Path(__file__).parent.glob("test_simulator_faults_*.py"))
    assert [kind for kind in FAULTS if f'"{kind}:' not in text] == []
