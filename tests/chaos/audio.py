"""What becomes of what callers say while something breaks: every sample is in a turn, and once."""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

from trunkline.v1 import control_pb2 as control
from trunkline_client import AsyncClient, TrunklineError
from trunkline_client.events import Closed, Error, Event, InputCommitted, ItemDone, ResponseDone, Resumed, StateChanged

from tests.chaos.figures import Outcome, Size
from tests.chaos.links import GATEWAYS, away, routed_gateways
from tests.chaos.samples import Speech, coded, judge_samples
from tests.chaos.talker import END_SECONDS, NUMBERED, History
from tests.chaos.validator import judge
from tests.support.fleet import Fleet
from tests.support.proxy import Route, route_to
from tests.support.simulated import SimulatedProvider, simulated_provider

SPEAKERS: Final = 4
RATE_HZ: Final = 24_000
FRAME_SECONDS: Final = 0.1
FRAME_SAMPLES: Final = int(RATE_HZ * FRAME_SECONDS)
# How long a turn is, in frames.
TURN_FRAMES: Final = (10, 20)
# How long something is away, and in a quick run one after the other: the first is noticed in silence.
AWAY_SECONDS: Final = (0.2, 5.0)
QUICK_SECONDS: Final = (4.0, 0.3, 0.5, 1.0, 0.6, 1.5)
# How soon a turn is told after an outage, at the latest.
TOLD_SECONDS: Final = 20.0
KEEP_COMMITTED: Final = 50_000
PUSH_TO_TALK: Final = control.SessionOverrides(
    output_modality=control.OUTPUT_MODALITY_TEXT,
    turn_detection=control.TurnDetection(none=control.NoTurnDetection()),
)


# Of an answer that the next line is asked for by the gateway.
ASKED_AGAIN: Final = "asked_again"


class Speaker:
    """One session that never falls silent: turns of a second or two, each ended by the caller and then answered."""

    def __init__(self, client: AsyncClient, number: int) -> None:
        self.speech = Speech(number)
        self.history = History()
        self.owner = ""
        self.refused = 0
        self._client = client
        self._rng = Random(number)
        self._stopped = asyncio.Event()
        self._heard = asyncio.Event()
        self._is_answered = True
        self._is_over = False

    def stop(self) -> None:
        """End the turn that is being spoken; what is due still comes."""
        self._stopped.set()

    async def is_told_of(self, turns: int) -> bool:
        """Tell whether so many turns became items, as soon as they did, or as it is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TOLD_SECONDS):
                while len(self.speech.told) < turns and not self._is_over:
                    self._heard.clear()
                    await self._heard.wait()
        return len(self.speech.told) >= turns

    @property
    def faults(self) -> list[str]:
        """What is missing, beside audio."""
        asked, ended = self.history.answers_asked - self.refused, len(self.history.responses)
        return [f"speaker {self.speech.caller} asked for {asked} answers and {ended} ended"] if ended < asked else []

    async def run(self) -> None:
        """Live the whole session."""
        try:
            async with self._client.open(resumable=True, overrides=PUSH_TO_TALK) as session:
                self.owner = session.opened.owner_address
                speaking = asyncio.create_task(self._speak(session))
                try:
                    async for event in session:
                        self._note(event, time.monotonic())
                finally:
                    speaking.cancel()
                    await asyncio.gather(speaking, return_exceptions=True)
        except TrunklineError as failure:
            self.history.failure = f"{failure.reason}: {failure.message}"
        finally:
            self._is_over = True
            self._heard.set()

    async def _speak(self, session: Any) -> None:
        now = asyncio.get_running_loop().time
        position, due_at = 0, now()
        while not self._stopped.is_set():
            begin = position
            for _ in range(self._rng.randint(*TURN_FRAMES)):
                await session.send_audio(coded(self.speech.caller, position, FRAME_SAMPLES))
                position += FRAME_SAMPLES
                due_at += FRAME_SECONDS
                await asyncio.sleep(due_at - now())
            await session.commit()
            self.speech.turns.append((begin, position))
            if self._is_answered:  # one answer at a time, whatever is said meanwhile
                self._is_answered = False
                self.history.answers_asked += 1
                await session.create_response()
        await session.end_input()

    def _note(self, event: Event, now: float) -> None:
        history = self.history
        history.numbered += isinstance(event, NUMBERED)
        match event:
            case InputCommitted():
                self.speech.told.append(event.item_id)
                self._heard.set()
            case ItemDone():
                history.items.append((event.item_id, "", ""))  # it has no words to be judged by
            case ResponseDone() if event.status_reason != ASKED_AGAIN:
                history.responses.append(event.response_id)
                self._is_answered = True
            case StateChanged():
                history.unrestored += event.unrestored_items
            case Resumed():
                self.owner = event.owner_address
                history.unrestored += event.unrestored_items
                history.resumed.append((now, event))
            case Error():
                self.refused += 1
            case Closed():
                history.closed = event


@asynccontextmanager
async def speakers(address: str, count: int) -> AsyncIterator[list[Speaker]]:
    """Let some speak; at the end of the block they come to an end and hear all of it."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncClient(address)) for _ in range(count)]
        made = [Speaker(client, number) for number, client in enumerate(clients)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.run()) for each in made]
            try:
                for each in made:
                    assert await each.is_told_of(1), f"nobody listens: {each.history.failure}"
                yield made
            finally:
                for each in made:
                    each.stop()
                _, late = await asyncio.wait(tasks, timeout=END_SECONDS)
                for task in late:
                    task.cancel()


class Stage:
    """What can break."""

    def __init__(self, running: Fleet, links: Mapping[str, Route], upstream: Route) -> None:
        self._running = running
        self._links = links
        self._upstream = upstream
        self._place_of = dict(zip(links, running.addresses, strict=True))

    async def lose_links(self, _: Speaker, seconds: float) -> None:
        """Let the links of all callers be black holes for a while."""
        await away(list(self._links.values()), Route.swallow, seconds)

    async def cut_links(self, _: Speaker, seconds: float) -> None:
        """Reset the links of all callers, and let none be there for a while."""
        await away(list(self._links.values()), Route.cut, seconds)

    async def kill_gateway(self, speaker: Speaker, seconds: float) -> None:
        """SIGKILL the gateway of one of them; after a while a new process takes its place."""
        for each in self._running.gateways.values():  # one that was killed before may still be starting
            await asyncio.to_thread(each.says, '"serving"')
        place = self._place_of[speaker.owner]
        ended = self._running.gateways[place]
        ended.send(signal.SIGKILL)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(ended.wait)
        self._running.restart(place)

    async def reset_lines(self, _: Speaker, seconds: float) -> None:
        """Reset every connection to the provider at once; it can be dialled again."""
        await away([self._upstream], Route.reset, seconds)

    async def cut_lines(self, _: Speaker, seconds: float) -> None:
        """The same, and let the provider be away for a while."""
        await away([self._upstream], Route.cut, seconds)


OUTAGES: Final[tuple[Callable[[Stage, Speaker, float], Awaitable[None]], ...]] = (
    Stage.lose_links,
    Stage.kill_gateway,
    Stage.reset_lines,
    Stage.cut_links,
    Stage.kill_gateway,
    Stage.cut_lines,
)


@asynccontextmanager
async def stage() -> AsyncIterator[tuple[Stage, str, SimulatedProvider]]:
    """Run gateways between routes, to their callers and to a provider that keeps what it is told."""
    with (
        tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder,
        simulated_provider(Path(folder), keep_committed=KEEP_COMMITTED) as provider,
    ):
        async with route_to(f"127.0.0.1:{provider.port}") as upstream:
            targets = {"openai": {"url": provider.url.replace(str(provider.port), str(upstream.port))}}
            async with routed_gateways(GATEWAYS, provider=provider, targets=targets) as (running, links, address):
                yield Stage(running, links, upstream), address, provider


async def audio(size: Size) -> Outcome:
    """Break what is between a caller's mouth and the model, again and again."""
    rng = Random(3)
    lengths = QUICK_SECONDS if size.quick else [rng.uniform(*AWAY_SECONDS) for _ in range(42)]
    async with stage() as (broken, address, provider):
        async with speakers(address, SPEAKERS) as made:
            for turn, seconds in enumerate(lengths):
                await OUTAGES[turn % len(OUTAGES)](broken, made[turn % len(made)], seconds)
                if not await _go_on(made):
                    break  # the account says what is missing
        told = await asyncio.to_thread(provider.committed)
    assert not told["dropped"], "the provider has forgotten turns"
    account = judge_samples(
        (each.speech for each in made), {turn["item_id"]: turn["runs"] for turn in told["committed"]}
    )
    verdict = judge(each.history for each in made)
    verdict.faults += [*account.faults, *(fault for each in made for fault in each.faults)]
    figures = {
        "total": account.total,
        "lost": account.lost,
        "doubled": account.doubled,
        "outages": turn + 1,
        "refused": sum(each.refused for each in made),
        "turns": sum(len(each.speech.turns) for each in made),
        "unrestored_turns": sum(len(set(each.history.unrestored) & set(each.speech.told)) for each in made),
    }
    return Outcome({"input_samples": figures}, turn + 1, verdict)


async def _go_on(made: list[Speaker]) -> bool:
    """Tell whether all is well again: what was ended meanwhile is told, and something that came after the outage."""
    due = [max(len(each.speech.turns), len(each.speech.told) + 1) for each in made]
    return all(await asyncio.gather(*(each.is_told_of(turns) for each, turns in zip(made, due, strict=True))))
