"""Calls that go on while something happens to the store: what each of them got, when, and where its record is."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import grpc
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import event_pb2 as event

from gateway.core.errors import StoreError
from gateway.rpc.auth import InsecureDev
from gateway.runtime.ports import SessionKey
from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from tests.support.calls import Caller
from tests.support.redis_topologies import sealing_keys

CALL_SECONDS: Final = 280.0
# Between two questions, as somebody who thinks; it sets the load.
PAUSE_SECONDS: Final = 0.25
TOOL: Final = control.Tool(
    name="get_weather",
    description="Tells the weather",
    parameters_json=json.dumps({"type": "object", "properties": {"city": {"type": "string"}}}),
)
WITH_TOOL: Final = control.SessionOverrides(
    tools=control.Tools(tools=[TOOL]), output_modality=control.OUTPUT_MODALITY_TEXT
)


class Call:
    """One session that asks again and again; `held` goes on with it, and fails when it is cut."""

    opening: Mapping[str, Any] = {}

    def __init__(self, channel: grpc.aio.Channel, **opening: Any) -> None:
        self.opening = {**self.opening, **opening}
        self.caller = Caller(channel, deadline_seconds=CALL_SECONDS)
        self._now = asyncio.get_running_loop().time
        self.key = SessionKey("", "")
        # When each message came; of speech, also its answer; of what the control lane brought, number and durability.
        self.times: list[float] = []
        self.audio: list[tuple[float, str]] = []
        self.numbers: dict[int, bool] = {}
        self.changes: list[event.StateChanged] = []
        self.turns = 0

    async def open(self) -> None:
        opened = await self.caller.open(**self.opening)
        self.key = SessionKey(InsecureDev.TENANT, opened.session_id)
        self._note()

    async def turn(self) -> None:
        """Ask for speech, and hear it to its end."""
        await self.caller.say("Tell me about the history of the telephone.")
        await self.caller.answer_please()
        await self.heard("response_done")

    async def heard(self, kind: str) -> Any:
        """Read on until a message of a kind."""
        while (message := await self.caller.read()) is not None:
            self._note()
            if message.WhichOneof("message") == kind:
                return getattr(message, kind)
        raise AssertionError(f"it was cut: {await self.caller.status()}")

    def gap(self, since: float, until: float) -> float:
        """The longest time in which nothing came."""
        times = [since, *(each for each in self.times if since <= each < until), until]
        return max(later - earlier for earlier, later in pairwise(times))

    def audio_gap(self, since: float, until: float) -> float:
        """The longest time for which an answer fell silent before it went on."""
        pairs = pairwise(each for each in self.audio if since <= each[0] < until)
        return max(later - earlier for (earlier, before), (later, after) in pairs if before == after)

    def named_lost(self) -> set[int]:
        """The numbers that the caller was told the store has lost."""
        return {seq for each in self.changes if each.lost_from for seq in range(each.lost_from, each.lost_to + 1)}

    def causes(self) -> list[str]:
        return [each.cause for each in self.changes]

    def _note(self) -> None:
        for message in self.caller.seen:
            self.times.append(self._now())
            if message.WhichOneof("message") == "audio":
                self.audio.append((self._now(), message.audio.response_id))
            if message.seq:
                assert message.seq == len(self.numbers) + 1, f"{message.seq} behind {len(self.numbers)}"
                self.numbers[message.seq] = message.durable
            if message.WhichOneof("message") == "state_changed":
                self.changes.append(message.state_changed)
        self.caller.seen.clear()


class ToolCall(Call):
    """A text session that has tools called; how long each call took from the request to the caller."""

    opening: Mapping[str, Any] = {"overrides": WITH_TOOL}

    def __init__(self, channel: grpc.aio.Channel, **opening: Any) -> None:
        super().__init__(channel, **opening)
        # When it was asked for, and how long it took: what the provider needs is in it.
        self.delays: list[tuple[float, float]] = []

    async def turn(self) -> None:
        await self.caller.say("What is the weather in London?")
        asked_at = self._now()
        await self.caller.answer_please()
        called = await self.heard("tool_call")
        self.delays.append((asked_at, self._now() - asked_at))
        await self.heard("response_done")
        result = control.ToolResult(call_id=called.call_id, output="Foggy, 12 degrees", create_response=True)
        await self.caller.ask(tool_result=result)
        await self.heard("response_done")
        await asyncio.sleep(PAUSE_SECONDS)


@contextlib.asynccontextmanager
async def held(calls: Sequence[Call]) -> AsyncIterator["asyncio.Event"]:
    """Hold calls until the event is set; any that is cut fails the test. At the end of the block they hang up."""
    enough = asyncio.Event()

    async def hold(call: Call) -> None:
        while not enough.is_set():
            await call.turn()
            call.turns += 1

    for each in calls:
        await each.open()
    try:
        async with asyncio.TaskGroup() as group:
            for each in calls:
                group.create_task(hold(each))
            yield enough
            enough.set()
    finally:
        for each in calls:
            each.caller.cancel()


async def missing(options: RedisOptions, calls: Sequence[Call]) -> list[set[int]]:
    """Return for each call the numbers that are neither in its log nor named as lost."""
    async with RedisStore(options, sealing_keys()) as store:
        try:
            logs = [{entry.seq for entry in await store.read(each.key)} for each in calls]
        except StoreError:
            logs = [set() for _ in calls]
    return [set(each.numbers) - log - each.named_lost() for each, log in zip(calls, logs, strict=True)]
