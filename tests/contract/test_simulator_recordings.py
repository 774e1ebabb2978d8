"""The simulator sends what the service sent: the same events in the same order, with the same fields in the same order.

Compared with recorded sessions that stand beside the repository; without them these tests are skipped.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pybase64
import pytest
import yaml

from gateway.simulator import Simulator, SimulatorOptions, speech
from tests.support.ports import free_port

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "recordings"
DEADLINE_SECONDS = 10
TRANSCRIPTION = "conversation.item.input_audio_transcription."
TURNING_POINTS = (
    "session.created",
    "session.updated",
    "response.function_call_arguments.done",
    "response.done",
    TRANSCRIPTION + "completed",
)
NAMES = ["text_in_audio_out_turn", "audio_in_server_vad_turn", "message_history_seeding", "tool_call_round"]

Event = dict[str, Any]


def recording(name: str) -> list[tuple[str, Event]]:
    path = RECORDINGS / f"openai--{name}.yaml"
    if not path.exists():
        pytest.skip(f"no recordings at {RECORDINGS}")
    messages = yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
    return [(each["direction"], each["data"]) for each in messages]


class Peer:
    """A client that keeps everything it receives."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.received: list[Event] = []
        self._socket = socket

    async def send(self, event: Event) -> None:
        await self._socket.send_json(event)

    async def until(self, kind: str) -> Event:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                event: Event = await self._socket.receive_json()
                self.received.append(event)
                if event["type"] == kind:
                    return event

    async def stream(self, utterance: speech.Utterance) -> None:
        wire = bytes(24_000) + utterance.pcm + bytes(48_000)
        for at in range(0, len(wire), 4_800):
            coded = pybase64.b64encode(wire[at : at + 4_800]).decode()
            await self.send({"type": "input_audio_buffer.append", "audio": coded})


@asynccontextmanager
async def peer() -> AsyncIterator[Peer]:
    options = SimulatorOptions(port=free_port(), speed=20)
    headers = {"Authorization": "Bearer sk-simulated"}
    async with (
        Simulator(options) as simulator,
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{simulator.url}?model=gpt-realtime", headers=headers) as socket,
    ):
        yield Peer(socket)


async def replay(name: str) -> tuple[list[Event], list[Event]]:
    """Send what the recorded client sent, each message when what it had waited for is there: (recorded, received)."""
    messages = recording(name)
    said = False
    async with peer() as client:
        for index, (direction, event) in enumerate(messages):
            if direction == "received":
                continue
            await wait_as_recorded(client, messages[:index])
            if event["type"] != "input_audio_buffer.append":
                await client.send(with_fresh_ids(event, client.received))
            elif not said:
                said = True  # the recorded audio is cut to half a sample
                await client.stream(speech.questions()[0])
        await wait_as_recorded(client, messages)
        received = client.received
    return [event for direction, event in messages if direction == "received"], received


async def wait_as_recorded(client: Peer, earlier: list[tuple[str, Event]]) -> None:
    """Until as many turning points have come as had come to the recorded client."""
    for kind in TURNING_POINTS:
        expected = sum(1 for direction, event in earlier if direction == "received" and event["type"] == kind)
        while sum(1 for event in client.received if event["type"] == kind) < expected:
            await client.until(kind)


def with_fresh_ids(event: Event, received: list[Event]) -> Event:
    if event.get("item", {}).get("type") != "function_call_output":
        return event
    call_id = next(each["call_id"] for each in reversed(received) if "call_id" in each)
    return {**event, "item": {**event["item"], "call_id": call_id}}


def skeleton(events: list[Event]) -> list[str]:
    """The types in order: runs as one, transcription aside, and what interleaves freely in one fixed order."""
    names: list[str] = []
    for event in events:
        name = event["type"]
        if name.startswith(TRANSCRIPTION) or (name.endswith(".delta") and name in names[-2:]):
            continue
        names.append(name)
    return names


def without_race(names: list[str]) -> list[str]:
    """A tool's output is sent while its response ends; where its two events land depends on the network."""
    return [name for name in names if not name.startswith("conversation.item")]


def fields(value: object) -> object:
    """Field names in order, all the way down."""
    if isinstance(value, dict):
        return [(name, fields(each)) for name, each in value.items()]
    if isinstance(value, list):
        return [fields(each) for each in value[:1]]
    return None if value is None else type(value).__name__


def fields_by_kind(events: list[Event]) -> dict[tuple[str, str], list[object]]:
    """The different shapes in which each kind of event came, in order of first appearance."""
    found: dict[tuple[str, str], list[object]] = {}
    for event in events:
        item = event.get("item", {})
        about = f"{item.get('type', '')} {item.get('role', '')} {item.get('status', '')}"
        shapes = found.setdefault((event["type"], about), [])
        if fields(event) not in shapes:
            shapes.append(fields(event))
    return found


@pytest.mark.parametrize("name", NAMES)
async def test_order_and_fields_are_those_of_the_service(name: str) -> None:
    recorded, received = await replay(name)
    if name == "tool_call_round":
        assert without_race(skeleton(received)) == without_race(skeleton(recorded))
    else:
        assert skeleton(received) == skeleton(recorded)
    assert fields_by_kind(received) == fields_by_kind(recorded)


@pytest.mark.parametrize("name", NAMES)
async def test_sessions_have_the_recorded_values(name: str) -> None:
    recorded, received = await replay(name)
    for expected, found in zip(recorded[:2], received[:2], strict=True):
        own = {"id": found["session"]["id"], "expires_at": found["session"]["expires_at"]}
        assert found["session"] == {**expected["session"], **own}


@pytest.mark.parametrize("name", NAMES)
async def test_items_are_linked_as_recorded(name: str) -> None:
    recorded, received = await replay(name)
    assert sorted(links(received)) == sorted(links(recorded))


def links(events: list[Event]) -> list[tuple[str, str]]:
    """For each event with a previous item: its type, and the previous item by its place in the conversation."""
    added = [event["item"]["id"] for event in events if event["type"] == "conversation.item.added"]
    places = {None: "none"} | {item_id: str(place) for place, item_id in enumerate(added, start=1)}
    return [
        (f"{event['type']} {places[event.get('item_id') or event['item']['id']]}", places[event["previous_item_id"]])
        for event in events
        if "previous_item_id" in event
    ]


@pytest.mark.parametrize("name", NAMES)
async def test_ids_look_like_the_recorded_ones(name: str) -> None:
    recorded, received = await replay(name)
    assert {each for event in received for each in ids(event, event["type"])} == {
        each for event in recorded for each in ids(event, event["type"])
    }


def ids(value: object, path: str) -> Iterator[tuple[str, str, int]]:
    """Where each id stands, its prefix and its length."""
    if isinstance(value, list):
        for each in value:
            yield from ids(each, path)
    if isinstance(value, dict):
        for name, each in value.items():
            if isinstance(each, str) and (name == "id" or name.endswith("_id")):
                yield f"{path}.{name}", each.partition("_")[0], len(each)
            yield from ids(each, f"{path}.{name}")
