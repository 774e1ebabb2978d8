"""Callers of a pool: tasks that hold a line, or wait for one, until the test lets go."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.runtime.lease import Holder as Identity
from gateway.runtime.lease import LeasedLine, Place, Wish
from gateway.runtime.pool import WarmPool
from tests.support.virtual_time import now
from tests.unit.runtime.stage import Stage

WAIT_SECONDS = 2.0
IDENTITY = Identity("acme", "bot", "sess_x", "c-1")


def wish(wait_seconds: float = WAIT_SECONDS, **more: Any) -> Wish:
    """Ask for a line as somebody whom nothing distracts."""
    abandoned = more.pop("abandoned", None) or asyncio.get_running_loop().create_future()
    return Wish(IDENTITY, wait_seconds, abandoned, **more)


class Holder:
    """A task that leases a line and keeps it until it is told to let go."""

    def __init__(self, stage: Stage, wait_seconds: float = WAIT_SECONDS, pool: str = "", **more: Any) -> None:
        loop = asyncio.get_running_loop()
        self.abandoned: asyncio.Future[Any] = loop.create_future()
        self._letting_go: asyncio.Future[None] = loop.create_future()
        self.line: LeasedLine | None = None
        self.has_line: asyncio.Future[None] = loop.create_future()
        # What it was told while it waited, and when.
        self.places: list[tuple[float, Place]] = []
        self.told_seconds = 0.0
        self.renews = True
        self._pool: WarmPool = stage.pools[pool] if pool else stage.pool
        asked = wish(wait_seconds, abandoned=self.abandoned, tell=self._told, **more)
        self.task = loop.create_task(self._hold(asked), name="holder")

    async def _hold(self, asked: Wish) -> None:
        async with self._pool.lease(asked) as line:
            self.line = line
            self.has_line.set_result(None)
            while not self._letting_go.done():
                if self.renews:
                    self._pool.renew(line)
                await asyncio.wait({self._letting_go}, timeout=1.0)

    async def _told(self, place: Place) -> None:
        self.places.append((now(), place))
        if self.told_seconds:
            await asyncio.sleep(self.told_seconds)

    @property
    def positions(self) -> list[int]:
        return [place.position for _, place in self.places]

    def let_go(self) -> None:
        if not self._letting_go.done():
            self._letting_go.set_result(None)

    async def end(self) -> None:
        self.let_go()
        await self.task

    async def error(self) -> BaseException | None:
        await asyncio.wait({self.task})
        return None if self.task.cancelled() else self.task.exception()


async def holding(stage: Stage, **more: Any) -> Holder:
    """Return a holder that has its line."""
    holder = Holder(stage, **more)
    await asyncio.wait({holder.task, holder.has_line}, return_when=asyncio.FIRST_COMPLETED)
    assert holder.line is not None
    return holder


async def until(holds: Callable[[], object], step_seconds: float = 0.05) -> None:
    """Let time pass until something holds; an hour is too long."""
    for _ in range(round(3600 / step_seconds)):
        if holds():
            return
        await asyncio.sleep(step_seconds)
    raise AssertionError("it never came to hold")
