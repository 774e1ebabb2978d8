"""What happens when a caller's link is lost while it talks: it comes back to the gateway, and the line, that it had."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any, Final

from trunkline.v1.session_pb2 import RESUME_OUTCOME_REATTACHED

from tests.chaos.figures import Outcome, Size, spread
from tests.chaos.gateways import BACK_SECONDS, CALLERS, POOLS, WARM, talkers
from tests.chaos.talker import History
from tests.chaos.validator import judge
from tests.support.fleet import Fleet, at_rest, fleet
from tests.support.ports import free_port
from tests.support.proxy import Route, random_proxy, route_to
from tests.support.stack import channel_to
from tests.support.steering import Operator

GATEWAYS: Final = 3
PAUSE_SECONDS: Final = 0.5


@asynccontextmanager
async def routed_gateways(count: int, **changes: Any) -> AsyncIterator[tuple[Fleet, dict[str, Route], str]]:
    """Run some, each behind a route whose address it tells; give them, the routes by it, and a balancer before them."""
    async with AsyncExitStack() as stack:
        places = [f"127.0.0.1:{free_port()}" for _ in range(count)]
        routes = [await stack.enter_async_context(route_to(place)) for place in places]
        told = {place: route.address for place, route in zip(places, routes, strict=True)}
        entered = fleet(count, **{"pools": POOLS, "advertised": told, **changes})
        # It blocks, and what stands between gateways and provider may be carried by this loop.
        running = await asyncio.to_thread(entered.__enter__)
        stack.push(entered.__exit__)
        for place in places:
            channel = channel_to(place)
            stack.push_async_callback(channel.close)
            await at_rest([Operator(channel)], WARM)
        by_address = {route.address: route for route in routes}
        yield running, by_address, await stack.enter_async_context(random_proxy(list(by_address)))


Strike = Callable[[Route], None]
KINDS: Final[tuple[tuple[str, Strike, float, float], ...]] = (
    # How a link is lost, and how long it is away, in seconds.
    ("reset", Route.reset, 0.0, 0.0),
    ("black_hole", Route.swallow, 0.2, 2.5),
    ("refused", Route.cut, 0.2, 2.0),
    ("reset", Route.reset, 0.0, 0.0),
    # Long enough for the silence to be noticed.
    ("long_black_hole", Route.swallow, 3.5, 5.0),
    ("long_refused", Route.cut, 3.5, 5.0),
)


async def link_drops(size: Size) -> Outcome:
    """Every caller loses its link at once, in several ways."""
    times, rng = size.of(36, 3), Random(2)
    back, well = list[float](), dict[str, list[bool]]()
    async with routed_gateways(GATEWAYS) as (_, routes, address), talkers(address, CALLERS) as made:
        for turn in range(times):
            name, strike, shortest, longest = KINDS[turn % len(KINDS)]
            before = [len(each.history.resumed) for each in made]
            healed_at = await away(list(routes.values()), strike, rng.uniform(shortest, longest))
            for each, had in zip(made, before, strict=True):
                await each.resumed(had + 1, BACK_SECONDS)
                back.append(each.history.resumed[had][0] - healed_at)
                well.setdefault(name, []).append(_is_reattached(each.history, had))
            await asyncio.sleep(PAUSE_SECONDS)
    figures = {
        "reattach_ratio": _ratio([each for found in well.values() for each in found]),
        "reattach_by_kind": {name: {"n": len(found), "ratio": _ratio(found)} for name, found in well.items()},
        "reattach_ms": spread(back),
    }
    return Outcome(figures, times * len(made), judge(each.history for each in made))


async def away(routes: Sequence[Route], strike: Strike, seconds: float) -> float:
    """Let ways be lost for so long; return when they are there again, on the monotonic clock."""
    for each in routes:
        strike(each)
    await asyncio.sleep(seconds)
    for each in routes:
        each.heal()
    return time.monotonic()


def _is_reattached(history: History, had: int) -> bool:
    """Tell whether a return found the same line, by the gateway's word and by the line's own name where it is known."""
    _, resumed = history.resumed[had]
    before, line = history.lines[had : had + 2]
    return resumed.outcome == RESUME_OUTCOME_REATTACHED and before in {line, ""}


def _ratio(found: Sequence[bool]) -> float:
    return round(sum(found) / len(found), 4)
