"""Sessions of every kind, drawn by chance: they talk, hang up, are refused, reserve, run out of time, are killed."""

import asyncio
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from trunkline.v1 import control_pb2 as control

from gateway.simulator import speech
from tests.support.calls import Caller
from tests.support.processes import ROOT, environment
from tests.support.stack import channel_to
from tests.support.steering import Reserver

# One line that everybody wants.
SCARCE: Final = "scarce"
TEMPLATES: Final[dict[str, Any]] = {"default": {}, SCARCE: {}}
# Some lines die in the middle of an answer.
FAULTS: Final = ("close:at=response-created,probability=0.03",)
# A connection carries so many sessions before another one takes its place.
CONNECTION_SESSIONS: Final = 40
KILLED_SESSIONS: Final = 5
START_SECONDS: Final = 15.0
DRAIN_SECONDS: Final = 60.0
_AUDIO: Final = control.OUTPUT_MODALITY_AUDIO
_TEXT: Final = control.OUTPUT_MODALITY_TEXT
_ENDINGS: Final = ("bye", "half-close", "now")


@dataclass
class Churn:
    """What has been lived through, by kind and outcome."""

    address: str
    rng: random.Random
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    # What should not have happened.
    trouble: Counter[str] = field(default_factory=Counter)
    begun: int = 0
    _calls: set[asyncio.Task[None]] = field(default_factory=set)
    _channels: list[grpc.aio.Channel] = field(default_factory=list)

    @property
    def sessions(self) -> int:
        return self.outcomes.total()

    def by_kind(self) -> dict[str, int]:
        kinds = Counter[str]()
        for (kind, _), count in self.outcomes.items():
            kinds[kind] += count
        return dict(kinds)

    async def run(self, sessions: int, per_second: float) -> None:
        """Begin so many sessions at that pace; return when the last has ended and every connection is closed."""
        kinds, weights = list(_KINDS), [weight for weight, _ in _KINDS.values()]
        until, began, number = self.begun + sessions, time.monotonic(), 0
        while self.begun < until:
            (kind,) = self.rng.choices(kinds, weights)
            size = KILLED_SESSIONS if kind == "killed" else 1
            self.begun += size
            task = asyncio.create_task(self._one(kind, size))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
            number += size
            await asyncio.sleep(began + number / per_second - time.monotonic())
        async with asyncio.timeout(DRAIN_SECONDS):
            await asyncio.gather(*self._calls)
        for channel in self._channels:
            await channel.close()
        self._channels.clear()
        gc.collect()  # a call that is remembered somewhere keeps its connection open

    async def _one(self, kind: str, size: int) -> None:
        try:
            outcome = await _KINDS[kind][1](self)
        except (AssertionError, TimeoutError, grpc.aio.AioRpcError) as error:
            self.trouble[f"{kind}: {type(error).__name__} {str(error)[:200]}"] += size
            outcome = "trouble"
        self.outcomes[kind, outcome] += size

    def channel(self) -> grpc.aio.Channel:
        """Return a connection; now and then a new one, and an old one is closed."""
        if not self._channels or self.rng.random() < 1 / CONNECTION_SESSIONS:
            self._channels.append(channel_to(self.address))
        return self._channels[-1]

    def caller(self, deadline_seconds: float = 60.0) -> Caller:
        return Caller(self.channel(), deadline_seconds=deadline_seconds)

    async def part(self, caller: Caller) -> str:
        """End a session politely, in one of three ways."""
        ending = self.rng.choice(_ENDINGS)
        match ending:
            case "bye":
                await caller.bye()
            case "half-close":
                await caller.half_close()
            case "now":
                await caller.bye(now=True)
        await caller.rest()
        return ending


async def _answered(churn: Churn, caller: Caller) -> str:
    """Read up to the end of an answer, which a line that dies may cut off; the session goes on."""
    done = await caller.until("response_done")
    ending = await churn.part(caller)
    return "line lost" if done.status_reason == "line_lost" else ending


async def _text(churn: Churn) -> str:
    caller = churn.caller()
    await caller.open()
    await caller.say("Hello there")
    await caller.answer_please(output_modality=_TEXT)
    return await _answered(churn, caller)


async def _audio(churn: Churn) -> str:
    caller, question = churn.caller(), churn.rng.choice(speech.questions())
    silence = bytes(48_000)
    await caller.open()
    await caller.speak(question.pcm)
    await caller.speak(silence)
    return await _answered(churn, caller)


async def _cancelled(churn: Churn) -> str:
    caller = churn.caller()
    moment = churn.rng.choice(("before open", "before opened", "opened", "answering"))
    if moment != "before open":
        await caller.send(open={})
    if moment in ("opened", "answering"):
        await caller.until("opened")
    if moment == "answering":
        await caller.say("Hello there")
        await caller.answer_please(output_modality=_AUDIO)
        await caller.read()
    caller.cancel()
    return moment


async def _refused(churn: Churn) -> str:
    caller = churn.caller()
    match churn.rng.randrange(4):
        case 0:
            await caller.send(open={"template": "nobody's"})
        case 1:
            await caller.send(audio=bytes(960))
        case 2:
            await caller.send(open={"overrides": {"session_json": '{"model": "another"}'}})
        case 3:
            await caller.send(audio=bytes(300_000))
    await caller.rest()
    return (await caller.status()).reason


async def _reserved(churn: Churn) -> str:
    reserver = Reserver(churn.channel())
    how = churn.rng.choice(("used", "used twice", "released", "expired"))
    made = await reserver.acquire(ttl_seconds=1 if how == "expired" else 20, wait_max_ms=2000)
    match how:
        case "used" | "used twice":
            caller = churn.caller()
            await caller.open(lease_token=made.lease_token)
            if how == "used twice":
                second = await churn.caller().refused(lease_token=made.lease_token)
                assert second.reason == "LEASE_ENDED", second
            await churn.part(caller)
        case "released":
            assert await reserver.release(made.lease_token)
    return how


async def _timed_out(churn: Churn) -> str:
    how = churn.rng.choice(("deadline", "deadline", "never opened", "waited", "idle"))
    match how:
        case "deadline":
            caller = churn.caller(deadline_seconds=churn.rng.uniform(0.02, 0.5))
            await caller.send(open={})
            await caller.rest()
            status = await caller.status()
            assert status.code is grpc.StatusCode.DEADLINE_EXCEEDED, f"{status.code} {status.reason}"
        case "never opened":
            caller = churn.caller()
            await caller.rest()
            assert (await caller.status()).reason == "FIRST_FRAME_EXPECTED"
        case "waited":
            first, second = churn.caller(), churn.caller()
            await asyncio.gather(
                *(each.send(open={"template": SCARCE, "wait_max_ms": 200}) for each in (first, second))
            )
            await asyncio.gather(*(_opened_or_not(each) for each in (first, second)))
        case "idle":
            caller = churn.caller()
            await caller.open(idle_max_seconds=1)
            await caller.rest()
    return how


async def _opened_or_not(caller: Caller) -> None:
    while (message := await caller.read()) is not None:
        if message.WhichOneof("message") == "opened":
            caller.cancel()
            return


async def _killed(churn: Churn) -> str:
    """A process with several sessions ends without a word."""
    arguments = ("-m", "tests.support.churn_child", churn.address, str(KILLED_SESSIONS))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=pipe, cwd=ROOT, env=environment())
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            assert await process.stdout.readline() == b"talking\n"
    finally:
        process.kill()
        await process.wait()
    return "kill -9"


_KINDS: Final[dict[str, tuple[float, Callable[[Churn], Awaitable[str]]]]] = {
    "text": (32, _text),
    "audio": (12, _audio),
    "cancelled": (22, _cancelled),
    "refused": (10, _refused),
    "reserved": (12, _reserved),
    "timed out": (10, _timed_out),
    "killed": (1, _killed),
}
