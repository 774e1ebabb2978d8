"""A client over a real socket, for tests of the simulator as a server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pybase64
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.simulator import Simulator, SimulatorOptions, fault_from_text, speech
from tests.support.ports import free_port

DEADLINE_SECONDS = 10.0
# Long enough to see that nothing comes, on a busy machine as well.
QUIET_SECONDS = 0.3
GREET = {"type": "response.create", "response": {"output_modalities": ["text"]}}

Event = dict[str, Any]


class Peer:
    """A client that says what it has seen."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, *events: Event) -> None:
        for event in events:
            await self.socket.send(json.dumps(event))

    async def next(self) -> Event:
        async with asyncio.timeout(DEADLINE_SECONDS):
            event: Event = json.loads(await self.socket.recv())
        return event

    async def until(self, kind: str) -> list[Event]:
        events = [await self.next()]
        while events[-1]["type"] != kind:
            events.append(await self.next())
        return events

    async def quiet(self) -> bool:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                await self.socket.recv()
        except TimeoutError:
            return True
        return False

    async def answers_pings(self, seconds: float = DEADLINE_SECONDS) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await (await self.socket.ping())
        except TimeoutError:
            return False
        return True

    async def end(self) -> tuple[list[str], ConnectionClosed]:
        """The types that come before the end, and the end."""
        kinds: list[str] = []
        while True:
            try:
                kinds.append((await self.next())["type"])
            except ConnectionClosed as closed:
                return kinds, closed

    async def say(self, utterance: speech.Utterance) -> None:
        wire = bytes(24_000) + utterance.pcm + bytes(48_000)
        await self.send({"type": "input_audio_buffer.append", "audio": pybase64.b64encode(wire).decode()})


@asynccontextmanager
async def simulator(*faults: str, **options: Any) -> AsyncIterator[Simulator]:
    fields = {"port": free_port(), "speed": 50.0, "faults": tuple(map(fault_from_text, faults)), **options}
    async with Simulator(SimulatorOptions(**fields)) as running:
        yield running


@asynccontextmanager
async def dial(running: Simulator) -> AsyncIterator[Peer]:
    async with connect(
        f"{running.url}?model=gpt-realtime",
        additional_headers={"Authorization": "Bearer sk-simulated"},
        compression=None,
        ping_interval=None,
        close_timeout=0.2,
    ) as socket:
        yield Peer(socket)


async def assert_untouched(running: Simulator) -> None:
    """A new socket does a whole turn and answers pings."""
    async with dial(running) as other:
        kinds = [each["type"] for each in await other.until("session.created")]
        assert kinds == ["session.created"]
        await other.send(GREET)
        kinds = [each["type"] for each in await other.until("response.done")]
        assert kinds[0] == "response.created"
        assert kinds[-2:] == ["response.output_item.done", "response.done"]
        assert kinds.index("response.output_item.added") < kinds.index("response.output_text.delta")
        assert await other.answers_pings()


def code_of(closed: ConnectionClosed) -> int | None:
    return None if closed.rcvd is None else int(closed.rcvd.code)


def totals(running: Simulator) -> dict[str, int]:
    found = running.observe()["totals"]
    assert isinstance(found, dict)
    return found
