"""What happens to lines while callers talk: one is cut in the middle of an answer, all are cut at once."""

import asyncio
import itertools
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Final

from trunkline.v1 import event_pb2
from trunkline_client import AsyncClient
from trunkline_client.events import Interrupted, ItemDone, OutputAudio, StateChanged

from tests.chaos.caller import Caller, calls, connected
from tests.chaos.figures import Outcome, Size, spread
from tests.chaos.gateways import WARM, gateways
from tests.chaos.talker import History
from tests.chaos.validator import judge
from tests.support.simulated import SimulatedProvider
from tests.support.stack import pool

# One line, in the middle of an answer.

# Its answer is eight seconds long.
QUESTION: Final = "Tell me about the history of the telephone."
TALK_AT_ONCE: Final = 4
PIECES_HEARD: Final = 3


async def upstream_drops(size: Size) -> Outcome:
    """RST to the line of a session that hears an answer; the caller asks again, and hears the next one begin."""
    times = size.of(208, 16)
    numbers = iter(range(times))
    simulated = {"speed": 1.0}
    async with gateways(2, simulated=simulated) as (running, address), connected(address, TALK_AT_ONCE) as clients:
        works = await asyncio.gather(*(_dropped(client, running.provider, numbers) for client in clients))
    found = list(itertools.chain.from_iterable(works))
    took = [seconds for seconds, _ in found]
    return Outcome({"upstream_drop_ms": spread(took)}, times, judge(history for _, history in found))


async def _dropped(
    client: AsyncClient, provider: SimulatedProvider, numbers: Iterator[int]
) -> list[tuple[float, History]]:
    """Hold one session after the other, each cut once; return for how long it was without sound, in seconds."""
    found = list[tuple[float, History]]()
    for number in numbers:
        async with calls([client], [f"d{number}"], None) as (caller,):
            seconds = await _cut(caller, provider)
            await caller.session.cancel()
        found.append((seconds, caller.history))
    return found


async def _cut(caller: Caller, provider: SimulatedProvider) -> float:
    await caller.say(QUESTION, asks=True)
    await caller.until_counted(OutputAudio, PIECES_HEARD)
    line = caller.session.opened.upstream_session_id
    began = time.monotonic()
    cutting = asyncio.create_task(asyncio.to_thread(provider.close, session_id=line))
    _, cut = await caller.next(Interrupted)
    await caller.session.create_response()
    heard_at, _ = await caller.next(OutputAudio, fits=lambda each: each.response_id != cut.response_id)
    assert await cutting == 1
    assert cut.cause == event_pb2.INTERRUPTION_CAUSE_UPSTREAM_LOST
    return heard_at - began


# All lines at once.

RATE, BURST = 20, 10
# So many open their sessions at once.
WAVE: Final = 10
MANY: Final = {
    "accounts": {"main": {"connections_max": 600, "dials_per_second": RATE, "dials_burst": BURST}},
    "pools": {
        "default": pool(
            floor=WARM,
            ceiling=256,
            dials_max=32,
            # Few may wait for a new session; running ones get their next line all the same.
            waiters_max=WAVE,
            wait_max_ms=10_000,
            demand={"enabled": False},
        )
    },
}
CONNECTIONS: Final = 10
SPARE_SECONDS: Final = 2.0


async def mass_disconnect(size: Size) -> Outcome:
    """RST to every line of an account whose dial rate is a real limit; every caller asks what it said before."""
    lines = size.of(200, 40)
    names = [f"Caller{number}" for number in range(lines)]
    async with gateways(2, **MANY) as (running, address), connected(address, CONNECTIONS) as clients:
        async with AsyncExitStack() as stack:
            made = list[Caller]()
            for first in range(0, lines, WAVE):
                made += await stack.enter_async_context(calls(clients, names[first : first + WAVE]))
            await asyncio.gather(*map(_introduced, made))
            began, began_unix = time.monotonic(), time.time()
            struck = await asyncio.to_thread(running.provider.close)
            assert struck >= lines
            back = max(await asyncio.gather(*map(_remembers, made)))
        handshakes = (await asyncio.to_thread(running.provider.observe))["handshakes"]
    most = most_in_a_second([each for each in handshakes if each >= began_unix])
    seconds = back - began
    figures = {
        "lines": lines,
        "seconds": round(seconds, 2),
        "handshakes_per_s_max": most,
        "above_rate": most - (RATE + BURST),
        "late_seconds": round(max(0.0, seconds - (lines / RATE + SPARE_SECONDS)), 2),
    }
    return Outcome({"mass_disconnect": figures}, struck, judge(each.history for each in made))


async def _introduced(caller: Caller) -> None:
    since = await caller.say(f"My name is {caller.name}.", asks=True)
    await caller.next(ItemDone, since, lambda each: each.role == "assistant")


async def _remembers(caller: Caller) -> float:
    """Ask while the line is gone; return when the session had one again."""
    since = await caller.say("What is my name?", asks=True)
    _, answer = await caller.next(ItemDone, since, lambda each: each.role == "assistant")
    assert caller.name in answer.text, f"{caller.name} was forgotten: {answer.text}"
    back_at, _ = await caller.next(StateChanged, fits=lambda each: each.cause == "line_replaced")
    return back_at


def most_in_a_second(times: Sequence[float]) -> int:
    """Return how many of these fall into one second, wherever it begins."""
    ranked = sorted(times)
    return max((bisect_left(ranked, at + 1) - number for number, at in enumerate(ranked)), default=0)
