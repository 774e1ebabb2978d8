"""What `trunkline top` knows: each gateway as it was last seen, kept up to date by a task of its own."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from trunkline.v1.admin_pb2 import Pool, WatchResponse

from gateway.cli.access import Access, Operator
from gateway.cli.addresses import Endpoint, endpoints
from gateway.cli.failure import CommandError, RefusedError, UnfulfilledError
from gateway.cli.gateways import complaint

RECENT_SECONDS: Final = 10.0
# Pods come and go behind a name.
LOOK_UP_EVERY_SECONDS: Final = 10.0
# How long the first page waits for those who answer later than others.
_TOGETHER_SECONDS: Final = 1.0
_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 5.0
_NOT_SERVED: Final = ("NOT_IMPLEMENTED_YET", "UNIMPLEMENTED")


class HitRatio:
    """How many of a pool's callers found a line ready: since the watching began, and lately."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._first = (0, 0)
        self._counts: deque[tuple[float, int, int]] = deque()

    def take(self, acquires: Mapping[str, int], now: float) -> None:
        """Note the gateway's counters, which begin anew when it does."""
        hits = acquires.get("hit", 0)
        total = sum(count for result, count in acquires.items() if result != "dialled")
        if self._counts and total < self._counts[-1][2]:
            self._counts.clear()
            self._first = (0, 0)
        elif not self._counts:
            self._first = (hits, total)
        self._counts.append((now, hits, total))
        while len(self._counts) > 1 and self._counts[1][0] <= now - RECENT_SECONDS:
            self._counts.popleft()

    @property
    def since_start(self) -> float | None:
        """Return the share of hits; None where nobody has come."""
        return self._since(*self._first)

    @property
    def lately(self) -> float | None:
        """Return the share of hits within the last seconds; None where nobody has come."""
        return self._since(*self._counts[0][1:]) if self._counts else None

    def _since(self, hits: int, total: int) -> float | None:
        if not self._counts or self._counts[-1][2] == total:
            return None
        return (self._counts[-1][1] - hits) / (self._counts[-1][2] - total)


@dataclass(slots=True)
class Watched:
    """One gateway as it was last seen. Times are of the event loop."""

    address: str
    began_at: float
    version: str = ""
    seen: WatchResponse | None = None
    seen_at: float = 0.0
    failure: RefusedError | CommandError | None = None
    _ratios: dict[tuple[str, str], HitRatio] = field(default_factory=dict)

    def take(self, seen: WatchResponse, now: float) -> None:
        """Note what the gateway has shown."""
        self.seen, self.seen_at, self.failure = seen, now, None
        for pool in seen.pools:
            self.ratio(pool).take(pool.acquires, now)

    def ratio(self, pool: Pool) -> HitRatio:
        """Return the hits of a pool; a tenant may have one of the same name."""
        return self._ratios.setdefault((pool.name, pool.line_class), HitRatio())

    def silent_seconds(self, now: float) -> float:
        """Return how long it has said nothing."""
        return now - (self.began_at if self.seen is None else self.seen_at)

    def is_silent(self, now: float, patience_seconds: float) -> bool:
        """Tell whether it should have said something by now."""
        return self.failure is not None or self.silent_seconds(now) > patience_seconds


class Watching:
    """All gateways of an address. `news` is set whenever one of them has said something or has failed to."""

    def __init__(self, access: Access, interval_ms: int, look_up_every_seconds: float = LOOK_UP_EVERY_SECONDS) -> None:
        """Prepare; `run` watches."""
        self.gateways: dict[str, Watched] = {}
        self.interval_seconds = interval_ms / 1000
        self.news = asyncio.Event()
        self._access = access
        self._look_up_every_seconds = look_up_every_seconds
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                found = {each.address: each for each in await endpoints(self._access.address)}
                for address, endpoint in found.items():
                    if address not in self._tasks:
                        self.gateways[address] = Watched(address, _now())
                        self._tasks[address] = group.create_task(self._follow(endpoint))
                self._forget(set(self._tasks) - set(found))
                await asyncio.sleep(self._look_up_every_seconds)

    @property
    def patience_seconds(self) -> float:
        """Return how long a gateway may say nothing: one of its news may be late."""
        return 2 * self.interval_seconds + 1

    async def begun(self) -> None:
        """Return when there is something to show. Raises `CommandError` when no gateway answers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TOGETHER_SECONDS):
                await self._until(lambda each: each.seen is not None or each.failure is not None)
        while not any(each.seen for each in self.gateways.values()):
            failures = [(each.address, each.failure) for each in self.gateways.values() if each.failure is not None]
            if failures and len(failures) == len(self.gateways):
                raise UnfulfilledError(*(complaint(*each) for each in failures))
            await self._next()

    async def _until(self, holds: Callable[[Watched], bool]) -> None:
        while not self.gateways or not all(holds(each) for each in self.gateways.values()):
            await self._next()

    async def _next(self) -> None:
        self.news.clear()
        await self.news.wait()

    async def next(self, seconds: float) -> None:
        """Return when there are news since `news` was cleared, or after a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.news.wait()

    def _forget(self, addresses: set[str]) -> None:
        """Leave those alone that the name does not stand for any more, once they are quiet."""
        for address in addresses:
            if self.gateways[address].is_silent(_now(), self.patience_seconds):
                self._tasks.pop(address).cancel()
                del self.gateways[address]

    async def _follow(self, endpoint: Endpoint) -> None:
        """Watch one gateway; after a failure again, later and later until it answers."""
        watched, pause = self.gateways[endpoint.address], _FIRST_PAUSE_SECONDS
        while True:
            try:
                async with self._access.operator(endpoint) as operator:
                    watched.version = (await operator.capabilities()).version
                    async with contextlib.aclosing(_news(operator, self.interval_seconds)) as news:
                        async for seen in news:
                            watched.take(seen, _now())
                            pause = _FIRST_PAUSE_SECONDS
                            self.news.set()
            except (RefusedError, CommandError) as failure:
                # The second: a file of the token or of TLS is away for a moment.
                watched.failure = failure
            self.news.set()
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 it only spreads them
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def look(operator: Operator) -> WatchResponse:
    """Return what a watch would show first."""
    pools, sessions = await asyncio.gather(operator.pools(), operator.sessions())
    return WatchResponse(pools=pools.pools, sessions=sessions.sessions)


async def _news(operator: Operator, interval_seconds: float) -> AsyncGenerator[WatchResponse, None]:
    try:
        async with contextlib.aclosing(operator.watch(round(interval_seconds * 1000))) as watch:
            async for seen in watch:
                yield seen
    except RefusedError as failure:
        if failure.reason not in _NOT_SERVED:
            raise
    else:
        return
    while True:
        yield await look(operator)
        await asyncio.sleep(interval_seconds)


def _now() -> float:
    return asyncio.get_running_loop().time()
