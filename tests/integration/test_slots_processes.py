"""Gateways as real processes that are killed and frozen: the cap holds, and what they held comes back."""

import asyncio
import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.store.embedded import EmbeddedValkey
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.slots import figures
from tests.support.waiting import eventually

CAP = 40
# What refill and callers may use of it; recovery alone has the rest.
FOR_ALL = CAP - 2
# From SIGCONT until the first turn of a loop, on a busy machine.
THAW_SECONDS = 0.5


@dataclass
class Census:
    """Counts open connections by process, as the provider would."""

    port: int
    open: Counter[str] = field(default_factory=Counter)
    frozen: set[str] = field(default_factory=set)
    # The most that was ever open: of processes that run, and of all.
    highest_running: int = 0
    highest: int = 0
    seen: int = 0
    over_seconds: float = 0.0
    _over_since: float | None = None

    @property
    def running(self) -> int:
        return sum(count for name, count in self.open.items() if name not in self.frozen)

    def note(self) -> None:
        total, now = self.open.total(), time.monotonic()
        self.highest = max(self.highest, total)
        self.highest_running = max(self.highest_running, self.running)
        if self._over_since is not None:
            self.over_seconds += now - self._over_since
        self._over_since = now if total > CAP else None

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = ""
        try:
            name = (await reader.readline()).decode().strip()
            self.open[name] += 1
            self.seen += 1
            self.note()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            # Before the other side can hear of it.
            self.open[name] -= bool(name)
            self.note()
            writer.close()


@dataclass
class Scene:
    """The server, the census, and gateways to do harm to."""

    url: str
    folder: Path
    census: Census
    ttl_seconds: float
    heartbeat_seconds: float
    each: dict[str, Process] = field(default_factory=dict)
    started: int = 0

    def start(self) -> str:
        self.started += 1
        name = f"g{self.started}"
        settings = (self.url, self.census.port, name, CAP, self.ttl_seconds, self.heartbeat_seconds)
        arguments = ["-m", "tests.support.slots_child", *map(str, settings)]
        self.each[name] = Process(arguments, self.folder / f"{name}.log")
        return name

    async def busy(self, seconds: float = 15) -> float:
        """Wait until all places are in use by processes that run; return how long it took."""
        began = time.monotonic()
        await eventually(lambda: self.census.running >= FOR_ALL, f"all places used: {self.census.open}", seconds)
        return time.monotonic() - began

    async def kill(self) -> float:
        """Kill one that holds much; return how long its places were lost to the others."""
        name = self._biggest()
        self.each[name].send(signal.SIGKILL)
        await eventually(lambda: self.census.open[name] == 0, "its connections are gone")
        self.each.pop(name).wait()
        return await self.busy()

    @contextlib.asynccontextmanager
    async def frozen(self) -> AsyncIterator[str]:
        """Freeze one that holds much, for the time of the block and until it has had a turn again."""
        name = self._biggest()
        self.census.frozen.add(name)
        self.each[name].send(signal.SIGSTOP)
        try:
            yield name
        finally:
            self.each[name].send(signal.SIGCONT)
        thawed = time.monotonic()
        await eventually(lambda: f"fenced {name}" in self.each[name].output, f"{name} is fenced")
        await eventually(lambda: self.census.open.total() <= CAP, "its connections are closed", THAW_SECONDS)
        figures("thaw", until_closed_ms=round((time.monotonic() - thawed) * 1000))
        self.census.frozen.discard(name)
        self.census.note()

    def _biggest(self) -> str:
        living = {name: self.census.open[name] for name in self.each if name not in self.census.frozen}
        return max(living, key=lambda name: living[name])


@contextlib.asynccontextmanager
async def scene(folder: Path, ttl_seconds: float, heartbeat_seconds: float) -> AsyncIterator[Scene]:
    census = Census(free_port())
    counting = await asyncio.start_server(census.connected, "127.0.0.1", census.port)
    async with EmbeddedValkey() as server, counting:
        made = Scene(server.url, folder, census, ttl_seconds, heartbeat_seconds)
        try:
            for _ in range(4):
                made.start()
            await made.busy(30)
            yield made
        finally:
            for process in made.each.values():
                process.send(signal.SIGCONT)
                process.send(signal.SIGKILL)
                process.wait()
            await eventually(lambda: not census.open.total(), "all connections are gone")


def show(made: Scene, kills: list[float], freezes: int) -> None:
    census = made.census
    figures(
        "cap over processes",
        cap=CAP,
        kills=len(kills),
        freezes=freezes,
        highest_of_running=census.highest_running,
        highest_with_frozen=census.highest,
        over_with_frozen_seconds=round(census.over_seconds, 2),
        slowest_reclaim_seconds=round(max(kills), 2),
        ttl_seconds=made.ttl_seconds,
        connections=census.seen,
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="freezes processes")
async def test_the_cap_holds_over_a_killed_and_a_frozen_process(tmp_path: Path) -> None:
    async with scene(tmp_path, 1.2, 0.4) as made:
        kills = [await made.kill()]
        made.start()
        async with made.frozen():
            await asyncio.sleep(made.ttl_seconds * 1.5)
        await made.busy()
        show(made, kills, 1)
        assert made.census.highest_running <= CAP
        assert max(kills) <= made.ttl_seconds + 1


@pytest.mark.heavy
@pytest.mark.timeout(240)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="freezes processes")
async def test_the_cap_holds_over_many_kills_and_freezes(tmp_path: Path) -> None:
    async with scene(tmp_path, 3.0, 1.0) as made:
        kills = list[float]()
        for round_number in range(6):
            kills.append(await made.kill())
            made.start()
            if round_number % 2:
                async with made.frozen():
                    await asyncio.sleep(4.5)
            await made.busy()
        show(made, kills, 3)
        assert made.census.highest_running <= CAP
        assert max(kills) <= made.ttl_seconds + 1
