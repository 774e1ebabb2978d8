"""The official client holds its conversations with the simulator as it would with the service."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection

from gateway.simulator import Simulator, SimulatorOptions, speech
from tests.support.ports import free_port

DEADLINE_SECONDS = 10


@asynccontextmanager
async def connected(model: str, speed: float = 20) -> AsyncIterator[AsyncRealtimeConnection]:
    port = free_port()
    async with (
        Simulator(SimulatorOptions(port=port, speed=speed)),
        AsyncOpenAI(
            api_key="sk-simulated",
            base_url=f"http://127.0.0.1:{port}/v1",
            websocket_base_url=f"ws://127.0.0.1:{port}/v1",
        ) as client,
        client.realtime.connect(model=model) as connection,
    ):
        yield connection


async def until(connection: AsyncRealtimeConnection, kind: str) -> list[Any]:
    """What arrives up to and with the first event of this type."""
    events: list[Any] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not events or events[-1].type != kind:
            events.append(await connection.recv())
    return events


async def say(connection: AsyncRealtimeConnection, text: str) -> None:
    message: Any = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
    await connection.conversation.item.create(item=message)


async def test_a_text_turn() -> None:
    async with connected("gpt-realtime-2.1") as connection:
        (created,) = await until(connection, "session.created")
        assert created.session.model == "gpt-realtime-2.1"
        await connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        (updated,) = await until(connection, "session.updated")
        assert updated.session.output_modalities == ["text"]
        await say(connection, "Where is my order?")
        await connection.response.create()
        *events, done = await until(connection, "response.done")
        assert done.response.status == "completed"
        words = "".join(each.delta for each in events if each.type == "response.output_text.delta")
        assert words == "Your order left the warehouse this morning."
        assert done.response.output[0].content[0].text == words


async def test_an_audio_turn() -> None:
    question = speech.questions()[0]
    stream = bytes(24_000) + question.pcm + bytes(48_000)
    async with connected("gpt-realtime") as connection:
        transcription: Any = {"input": {"transcription": {"model": "gpt-realtime-whisper"}}}
        await connection.session.update(session={"type": "realtime", "audio": transcription})
        await until(connection, "session.updated")
        for at in range(0, len(stream), 960):
            await connection.input_audio_buffer.append(audio=base64.b64encode(stream[at : at + 960]).decode())
        *events, done = await until(connection, "response.done")
        kinds = [each.type for each in events]
        assert kinds[:2] == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"]
        sound = b"".join(base64.b64decode(each.delta) for each in events if each.type == "response.output_audio.delta")
        (reply,) = [each for each in speech.replies() if each.pcm == sound]
        assert done.response.output[0].content[0].transcript == reply.text == "Hello Alice, it is nice to meet you."
        completed = "conversation.item.input_audio_transcription.completed"
        if completed not in kinds:
            events = await until(connection, completed)
        assert next(each.transcript for each in events if each.type == completed) == question.text


async def test_a_function_call_turn() -> None:
    tool: Any = {
        "type": "function",
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    async with connected("gpt-realtime-2.1") as connection:
        await connection.session.update(session={"type": "realtime", "tools": [tool], "output_modalities": ["text"]})
        await say(connection, "What is the weather in London?")
        await connection.response.create()
        *events, done = await until(connection, "response.done")
        (called,) = [each for each in events if each.type == "response.function_call_arguments.done"]
        assert (called.name, json.loads(called.arguments)) == ("get_weather", {"city": "London"})
        deltas = [each.delta for each in events if each.type == "response.function_call_arguments.delta"]
        assert "".join(deltas) == called.arguments == done.response.output[0].arguments
        output: Any = {"type": "function_call_output", "call_id": called.call_id, "output": "It is foggy."}
        await connection.conversation.item.create(item=output)
        await connection.response.create()
        *_, done = await until(connection, "response.done")
        assert done.response.output[0].content[0].text == "It is foggy."


async def test_a_cancelled_and_truncated_turn() -> None:
    async with connected("gpt-realtime", speed=1) as connection:
        await say(connection, "Tell me about the history of the telephone.")
        await connection.response.create()
        heard = (await until(connection, "response.output_audio.delta"))[-1]
        await connection.response.cancel()
        *_, done = await until(connection, "response.done")
        assert (done.response.status, done.response.status_details.reason) == ("cancelled", "client_cancelled")
        await connection.conversation.item.truncate(item_id=heard.item_id, content_index=0, audio_end_ms=100)
        (truncated,) = await until(connection, "conversation.item.truncated")
        assert (truncated.item_id, truncated.audio_end_ms) == (heard.item_id, 100)
        await connection.conversation.item.retrieve(item_id=heard.item_id)
        (retrieved,) = await until(connection, "conversation.item.retrieved")
        assert retrieved.item.content[0].transcript is None
        await connection.conversation.item.truncate(item_id=heard.item_id, content_index=0, audio_end_ms=101)
        (error,) = await until(connection, "error")
        assert error.error.message == "Audio content of 100ms is already shorter than 101ms"
        await connection.response.create()
        await until(connection, "response.output_audio.delta")


async def test_a_refusal_names_the_event_it_answers() -> None:
    async with connected("gpt-realtime") as connection:
        await until(connection, "session.created")
        await connection.response.cancel(event_id="event_mine")
        (error,) = await until(connection, "error")
        assert (error.error.code, error.error.event_id) == ("response_cancel_not_active", "event_mine")


async def test_an_unknown_model_is_refused_at_the_door() -> None:
    with pytest.raises(Exception, match="404"):
        async with connected("gpt-imaginary"):
            pytest.fail("the simulator accepted an unknown model")
