"""The simulator as a server: who gets in, how sockets end, what an observer sees, and that it stops when told to."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pybase64
import pytest

from gateway.simulator import Simulator, SimulatorOptions, speech
from tests.support.ports import free_port

DEADLINE_SECONDS = 10
BEARER = {"Authorization": "Bearer sk-simulated"}
UPGRADE = (
    "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer x\r\n\r\n"
)
GREETING = {"type": "response.create", "response": {"output_modalities": ["text"]}}

Event = dict[str, Any]


@asynccontextmanager
async def simulator(**options: Any) -> AsyncIterator[tuple[Simulator, aiohttp.ClientSession]]:
    async with (
        Simulator(SimulatorOptions(port=free_port(), **options)) as running,
        aiohttp.ClientSession() as http,
    ):
        yield running, http


@asynccontextmanager
async def dial(
    running: Simulator, http: aiohttp.ClientSession, query: str = "model=gpt-realtime", **headers: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with http.ws_connect(f"{running.url}?{query}", headers=BEARER | headers) as peer:
        yield peer


@asynccontextmanager
async def called(query: str = "model=gpt-realtime", **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A socket to a simulator of its own."""
    async with simulator(**options) as (running, http), dial(running, http, query) as peer:
        yield peer


async def until(peer: aiohttp.ClientWebSocketResponse, kind: str) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not events or events[-1]["type"] != kind:
            events.append(await peer.receive_json())
    return events


async def close_of(peer: aiohttp.ClientWebSocketResponse) -> tuple[int, str]:
    """Code and reason, whatever comes before."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (message := await peer.receive()).type == aiohttp.WSMsgType.TEXT:
            pass
    assert message.type == aiohttp.WSMsgType.CLOSE
    return message.data, message.extra or ""


async def connections(running: Simulator, http: aiohttp.ClientSession) -> list[Event]:
    async with http.get(f"{running.control_url}/connections") as answer:
        assert answer.status == 200
        listed: list[Event] = (await answer.json())["connections"]
        return listed


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("?model=gpt-realtime", {}, 401, None),
        ("?model=gpt-realtime", {"Authorization": "Basic c2s="}, 401, None),
        ("?model=gpt-realtime", {"Authorization": "Bearer "}, 401, None),
        ("?model=gpt-imaginary", BEARER, 404, "model_not_found"),
        ("", BEARER, 400, "missing_model"),
    ],
)
async def test_who_is_turned_away(query: str, headers: dict[str, str], status: int, code: str | None) -> None:
    async with simulator() as (running, http):
        url = running.url.replace("ws:", "http:") + query
        async with http.get(url, headers=headers) as answer:
            assert answer.status == status
            assert (await answer.json())["error"]["code"] == code


async def test_the_beta_shape_is_closed_with_4000() -> None:
    async with simulator() as (running, http), dial(running, http, **{"OpenAI-Beta": "realtime=v1"}) as peer:
        assert await close_of(peer) == (4000, "invalid_request_error.beta_api_shape_disabled")


async def test_a_browser_brings_its_key_as_a_subprotocol() -> None:
    async with simulator() as (running, http):
        offered = ("realtime", "openai-insecure-api-key.ek_simulated")
        async with http.ws_connect(f"{running.url}?model=gpt-realtime", protocols=offered) as peer:
            assert peer.protocol == "realtime"
            await until(peer, "session.created")


async def test_a_session_announces_its_end() -> None:
    async with called(expire_after_seconds=600) as peer:
        (created,) = await until(peer, "session.created")
        assert 598 <= created["session"]["expires_at"] - time.time() <= 600


async def test_a_transcription_session_names_no_model() -> None:
    async with called("intent=transcription") as peer:
        (created,) = await until(peer, "session.created")
        assert created["session"]["object"] == "realtime.transcription_session"


async def test_delays_are_kept() -> None:
    async with simulator(connect_delay_ms=80, created_delay_ms=120) as (running, http):
        start = time.monotonic()
        async with dial(running, http) as peer:
            connected = time.monotonic()
            await until(peer, "session.created")
            assert connected - start >= 0.08
            assert time.monotonic() - connected >= 0.1


async def test_an_expired_session_is_told_and_closed() -> None:
    async with called(expire_after_seconds=0.2) as peer:
        *_, error = await until(peer, "error")
        assert error["error"]["code"] == "session_expired"
        assert await close_of(peer) == (1001, "Your session hit the maximum duration of 60 minutes.")


async def test_a_caller_who_goes_on_talking_is_told_of_the_end_as_well() -> None:
    append = {"type": "input_audio_buffer.append", "audio": pybase64.b64encode(bytes(9_600)).decode()}

    async def talk(peer: aiohttp.ClientWebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):
            while not peer.closed:
                await peer.send_json(append)
                await asyncio.sleep(0)

    async with called(expire_after_seconds=0.2) as peer:
        talking = asyncio.create_task(talk(peer))
        assert (await until(peer, "error"))[-1]["error"]["code"] == "session_expired"
        assert (await close_of(peer))[0] == 1001
        await talking


async def test_a_message_beyond_the_limit_ends_its_session_only() -> None:
    async with simulator() as (running, http), dial(running, http) as other:
        async with dial(running, http) as peer:
            with contextlib.suppress(ConnectionError):
                await peer.send_str(" " * (33 * 1024 * 1024))
            await until_closed(running, http)
        await other.send_json(GREETING)
        await until(other, "response.done")


async def test_broken_json_is_refused_and_the_session_goes_on() -> None:
    async with called() as peer:
        await until(peer, "session.created")
        for message in ("{", "\x00", "[]"):
            await peer.send_str(message)
            (error,) = await until(peer, "error")
            assert error["error"]["type"] == "invalid_request_error"
        await peer.send_json(GREETING)
        await until(peer, "response.done")


async def test_an_observer_sees_every_socket() -> None:
    async with simulator() as (running, http):
        async with dial(running, http, **{"OpenAI-Safety-Identifier": "hash"}) as peer:
            (created,) = await until(peer, "session.created")
            audio = pybase64.b64encode(bytes(9_600)).decode()
            await peer.send_json({"type": "input_audio_buffer.append", "audio": audio})
            await peer.send_json({"type": "response.create", "response": {"metadata": {"session_tag": "blue"}}})
            await until(peer, "response.done")
            (found,) = await connections(running, http)
            assert found["session_id"] == created["session"]["id"]
            assert (found["state"], found["model"], found["safety_identifier"]) == (
                "open",
                "gpt-realtime",
                "hash",
            )
            assert (found["events_in"], found["input_audio_bytes"]) == (2, 9_600)
            assert found["events_out"] > 10
            assert found["session_tags"] == ["blue"]
        await until_closed(running, http)


async def until_closed(running: Simulator, http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await connections(running, http))[0]["state"] != "closed":
            pass


async def test_a_hundred_callers_are_answered_at_once() -> None:
    async def call(running: Simulator, http: aiohttp.ClientSession) -> int:
        async with dial(running, http) as peer:
            await peer.send_json({"type": "response.create"})
            return len(await until(peer, "response.done"))

    async with (
        simulator(speed=50) as (running, _),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        asyncio.timeout(DEADLINE_SECONDS),
    ):
        counts = await asyncio.gather(*(call(running, http) for _ in range(100)))
        assert len(set(counts)) == 1


async def test_stopping_tells_every_socket_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    running = Simulator(SimulatorOptions(port=free_port()))
    await running.start()
    async with aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(dial(running, http)) for _ in range(5)]
        question = pybase64.b64encode(speech.questions()[7].pcm + bytes(48_000)).decode()
        for peer in peers:
            await peer.send_json({"type": "input_audio_buffer.append", "audio": question})
            await until(peer, "response.output_audio.delta")
        closes = [asyncio.create_task(close_of(peer)) for peer in peers]
        start = time.monotonic()
        await running.stop()
        assert time.monotonic() - start < 2
        assert {code for code, _ in await asyncio.gather(*closes)} == {1001}
    await running.stop()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before == set()


async def flood(peer: aiohttp.ClientWebSocketResponse) -> None:
    """Ask for gigabytes and read nothing, until the other side takes no more questions."""
    text = {"type": "input_text", "text": "x" * 500_000}
    item = {"id": "item_large", "type": "message", "role": "user", "content": [text]}
    await peer.send_json({"type": "conversation.item.create", "item": item})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            while True:
                await peer.send_json({"type": "conversation.item.retrieve", "item_id": "item_large"})
                await asyncio.sleep(0)  # or the simulator, on the same loop, would never get to answer


async def test_a_peer_that_does_not_read_is_held_back_and_cut_off_at_the_end() -> None:
    async with aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as stack:
        async with Simulator(SimulatorOptions(port=free_port())) as running:
            peer = await stack.enter_async_context(dial(running, http))
            await flood(peer)
            (found,) = await connections(running, http)
            # The outbox holds 1 MiB, the kernel and the client's buffers a few more.
            assert found["events_out"] < 100
            start = time.monotonic()
        assert time.monotonic() - start < 2


async def test_a_socket_cut_in_the_middle_of_an_answer_ends_its_session() -> None:
    async with simulator() as (running, http):
        port = running.options.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(UPGRADE.encode())
        async with asyncio.timeout(DEADLINE_SECONDS):
            await reader.readuntil(b"session.created")
            writer.write(masked(b'{"type":"response.create"}'))
            await reader.readuntil(b"response.output_audio.delta")
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        await until_closed(running, http)


def masked(payload: bytes) -> bytes:
    """A short text frame of a client, under a mask of zeros."""
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


async def test_a_taken_port_is_an_os_error() -> None:
    async with simulator() as (running, _):
        with pytest.raises(OSError, match="in use"):
            await Simulator(running.options).start()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_says_where_it_listens_and_ends_quietly(ending: signal.Signals) -> None:
    port = free_port()
    program = f"from gateway.simulator import SimulatorOptions, run; run(SimulatorOptions(port={port}))"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        line = await process.stdout.readline()
        assert line.decode() == f"simulator listening on ws://127.0.0.1:{port}/v1/realtime\n"
        process.send_signal(ending)
        rest, errors = await process.communicate()
    assert (process.returncode, rest, errors) == (0, b"", b"")
