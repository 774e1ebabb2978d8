"""All lines of a gateway with the provider and the account played, and a configuration that a test changes."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from gateway.app.exchange import Exchange
from gateway.runtime.lease import Holder as Identity
from gateway.runtime.lease import LeasedLine, Wish
from gateway.runtime.pool import WarmPool
from gateway.settings import Settings, parts
from tests.support.virtual_time import now, turns
from tests.unit.runtime import fakes
from tests.unit.runtime.fakes import Line, Observer, Slots

URL: Final = "ws://127.0.0.1:9/v1/realtime"
STILL: Final[dict[str, Any]] = {
    "floor": 2,
    "ceiling": 8,
    "reserve": 0,
    "age_jitter_ratio": 0,
    "demand": {"enabled": False},
}
NONE: Final = {"user_turns": "none"}


def template(**more: Any) -> dict[str, Any]:
    """Return the settings of a template; two that differ in their model are in two line classes."""
    session = more.pop("session", {})
    return {"session": {"instructions": "Be brief.", **session}, "recovery": NONE, **more}


class Board:
    """The exchange, and those around it."""

    def __init__(self) -> None:
        self.dialer, self.slots, self.observer = fakes.Exchange(), Slots(), Observer()
        self.exchange = Exchange(self.dialer, self.slots, self.observer)
        self.sections: dict[str, Any] = {
            "targets": {"openai": {"url": URL}},
            "templates": {"default": template()},
            "pools": {"default": STILL},
        }
        self._holders: list[asyncio.Task[None]] = []

    @property
    def settings(self) -> Settings:
        return Settings(**self.sections)

    async def start(self, **sections: Any) -> None:
        """Build from the configuration, and let the first lines become ready."""
        self.sections.update(sections)
        settings = self.settings
        self.exchange.build(settings, parts.templates(settings))
        self.exchange.start()
        await turns(8)

    async def change(self, *, keys: Iterable[str] = (), **sections: Any) -> None:
        """Follow changed sections, and accounts with a new key; return when new pools have their callers."""
        self.change_begins(keys=keys, **sections)
        while self.exchange._fresh:  # noqa: ASYNC110 virtual time costs nothing
            await asyncio.sleep(0.05)

    def change_begins(self, *, keys: Iterable[str] = (), **sections: Any) -> None:
        """Begin to follow them."""
        self.sections.update(sections)
        settings = self.settings
        self.exchange.change(settings, parts.templates(settings), list(keys))

    def pool(self, name: str = "default") -> WarmPool:
        return self.exchange.pools[name]

    def models(self) -> Counter[str]:
        """Count the open lines by model."""
        made = zip(self.dialer.lines, [line for line, _ in self.dialer.dials], strict=False)
        return Counter(line_class.model for line, line_class in made if line.is_open)

    def open_lines(self) -> list[Line]:
        return [line for line in self.dialer.open_lines if not line.closes]

    async def hold(self, name: str = "default") -> "Held":
        """Return a caller that has its line."""
        held = Held(self.pool(name))
        self._holders.append(held.task)
        await asyncio.wait({held.task, held.has_line}, return_when=asyncio.FIRST_COMPLETED)
        if held.task.done():
            held.task.result()
        return held

    def wait_for(self, name: str = "default", seconds: float = 2.0) -> "Held":
        """Return a caller that may have to wait."""
        held = Held(self.pool(name), seconds)
        self._holders.append(held.task)
        return held

    async def clear(self) -> None:
        """End everything; every place at the account has come back then."""
        for task in self._holders:
            task.cancel()
        await asyncio.gather(*self._holders, return_exceptions=True)
        self.dialer.may_answer.set()
        await self.exchange.stop()
        assert self.slots.total == 0, f"places are left: {self.slots.held}"
        assert self.open_lines() == []


class Held:
    """A caller with a line, which it keeps until it is told to let go."""

    def __init__(self, pool: WarmPool, seconds: float = 2.0, **more: Any) -> None:
        loop = asyncio.get_running_loop()
        self.has_line: asyncio.Future[None] = loop.create_future()
        self.line: LeasedLine | None = None
        self.asked_at = now()
        self._pool = pool
        self._letting_go: asyncio.Future[None] = loop.create_future()
        asked = Wish(Identity("acme", "bot", "sess_x"), seconds, loop.create_future(), **more)
        self.task = loop.create_task(self._hold(asked), name="holder")

    @property
    def upstream(self) -> Any:
        assert self.line is not None
        return self.line.upstream

    async def _hold(self, asked: Wish) -> None:
        async with self._pool.lease(asked) as line:
            self.line = line
            self.has_line.set_result(None)
            while not self._letting_go.done():
                self._pool.renew(line)
                await asyncio.wait({self._letting_go}, timeout=1.0)

    async def end(self) -> None:
        if not self._letting_go.done():
            self._letting_go.set_result(None)
        await self.task
