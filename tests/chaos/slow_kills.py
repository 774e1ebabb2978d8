"""What callers notice when their gateway is killed and the provider is far away."""

import asyncio
import signal
import tempfile
import time
from pathlib import Path
from typing import Final

from trunkline_client.events import ItemDone, Resumed

from tests.chaos.caller import Caller, calls, connected
from tests.chaos.figures import Outcome, Size, spread
from tests.chaos.gateways import WARM, gateways
from tests.chaos.validator import judge
from tests.support.fleet import Fleet
from tests.support.proxy import route_to
from tests.support.simulated import simulated_provider
from tests.support.stack import channel_to
from tests.support.steering import Operator

WAY_SECONDS: Final = 0.05
ITEMS: Final = 50
CALLERS: Final = 6


async def slow_kills(size: Size) -> Outcome:
    """SIGKILL to a gateway with long conversations; their callers go on elsewhere, over lines of 100 ms and back."""
    wanted, kills = size.of(64, 4), 0
    resumed, answered = list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as folder, simulated_provider(Path(folder)) as provider:
        async with route_to(f"127.0.0.1:{provider.port}") as route:
            targets = {"openai": {"url": f"ws://{route.address}/v1/realtime"}}
            async with gateways(3, provider=provider, targets=targets) as (running, address):
                names = [f"k{number}" for number in range(CALLERS)]
                async with connected(address, CALLERS) as clients, calls(clients, names) as made:
                    await asyncio.gather(*map(_fill, made))
                    route.delay_seconds = WAY_SECONDS
                    while len(resumed) < wanted:
                        owner = made[kills % CALLERS].owner
                        took = await _killed(running, made, owner, kills)
                        resumed += [each for each, _ in took]
                        answered += [each for _, each in took]
                        kills += 1
                        if len(resumed) < wanted:
                            await asyncio.to_thread(again, running, owner)
                            await _stocked(running)
    figures = {"kill_resume_rtt100_ms": spread(resumed), "kill_answer_rtt100_ms": spread(answered)}
    return Outcome(figures, kills, judge(each.history for each in made))


async def _fill(caller: Caller) -> None:
    for number in range(ITEMS):
        await caller.say(f"{caller.name} says number {number}")
    await caller.until(lambda: len(caller.history.items) >= ITEMS, "all items are told")


async def _killed(running: Fleet, made: list[Caller], owner: str, kill: int) -> list[tuple[float, float]]:
    """Kill one; return for each of its callers the seconds until it was resumed, and until it was answered."""
    there = [each for each in made if each.owner == owner]
    before = [len(each.events) for each in there]
    running.gateways[owner].send(signal.SIGKILL)
    began = time.monotonic()
    for each in there:
        await each.say(f"{each.name} asks behind kill {kill}", asks=True)
    took = list[tuple[float, float]]()
    for each, since in zip(there, before, strict=True):
        resumed_at, _ = await each.next(Resumed, since)
        answered_at, _ = await each.next(ItemDone, since, lambda item: item.role == "assistant")
        took.append((resumed_at - began, answered_at - began))
    return took


def again(running: Fleet, owner: str) -> None:
    """Start one that was killed once more; returns when it serves."""
    running.gateways[owner].wait()
    running.restart(owner).says('"serving"')


async def _stocked(running: Fleet) -> None:
    """Wait until every gateway has its warm lines: what a kill costs without them is another figure."""
    channels = [channel_to(each) for each in running.addresses]
    try:
        async with asyncio.timeout(30):
            for channel in channels:
                while (await Operator(channel).pool()).warm < WARM:  # noqa: ASYNC110 it is another process
                    await asyncio.sleep(0.05)
    finally:
        for channel in channels:
            await channel.close()
