"""Gateways as processes that share the places of one account, a census of their connections, and harm to do to them."""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.store.embedded import EmbeddedValkey
from tests.support.ports import free_port
from tests.support.processes import Process
from tests.support.slots import figures
from tests.support.waiting import eventually

CAP: Final = 40
# What refill and callers may use of it; recovery alone has the rest.
FOR_ALL: Final = CAP - 2
# From SIGCONT until the first turn of a loop, on a busy machine.
THAW_SECONDS: Final = 0.5
GATEWAYS: Final = 4
# The server is away for so long that somebody asks meanwhile, and nobody takes it for gone.
HELD_UP_SECONDS: Final = 0.15
# What a child says when it notices that it stood still: which of its lives that ended, when, and the time's length.
STOOD_STILL: Final = re.compile(r"fenced (\S+) at ([\d.]+)\n.*slots_fenced\W.*?seconds\W+([\d.]+)")


@dataclass(frozen=True)
class Moment:
    """What was open, of whom."""

    at: float
    open: dict[str, int]
    frozen: frozenset[str]

    def without(self, names: set[str]) -> int:
        return sum(count for name, count in self.open.items() if name not in self.frozen | names)


@dataclass
class Census:
    """Counts open connections, as the provider would, by process and by its life from one stand-still to the next."""

    port: int
    open: Counter[str] = field(default_factory=Counter)
    frozen: set[str] = field(default_factory=set)
    # The most that was ever open: of processes that run, and of all.
    highest_running: int = 0
    highest: int = 0
    seen: int = 0
    over_seconds: float = 0.0
    # Every moment with more than the cap at processes that nobody froze.
    above: list[Moment] = field(default_factory=list)
    _over_since: float | None = None

    @property
    def running(self) -> int:
        return sum(count for name, count in self.open.items() if name not in self.frozen)

    def note(self) -> None:
        total, now = self.open.total(), time.monotonic()
        self.highest = max(self.highest, total)
        self.highest_running = max(self.highest_running, self.running)
        if self.running > CAP:
            self.above.append(Moment(now, dict(+self.open), frozenset(self.frozen)))
        if self._over_since is not None:
            self.over_seconds += now - self._over_since
        self._over_since = now if total > CAP else None

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = ""
        try:
            if name := (await reader.readline()).decode().strip():
                self.open[name] += 1
                self.seen += 1
                self.note()
                await reader.read()
        except ConnectionError:
            pass
        finally:
            # Before the other side can hear of it.
            if name:
                self.open[name] -= 1
                self.note()
            writer.close()


@dataclass(frozen=True)
class StoodStill:
    """A life that ended: the process had no turn for so long that it fenced itself, whoever did that to it."""

    life: str
    since: float
    until: float


@dataclass
class Scene:
    """The server, the census, and gateways to do harm to."""

    server: EmbeddedValkey
    folder: Path
    census: Census
    ttl_seconds: float
    heartbeat_seconds: float
    each: dict[str, Process] = field(default_factory=dict)
    started: int = 0
    # How long each took to close everything, once thawed.
    thaws: list[float] = field(default_factory=list)
    # What was done, and when.
    acts: list[tuple[float, str]] = field(default_factory=list)

    def start(self) -> str:
        self.started += 1
        name = f"g{self.started}"
        settings = (self.server.url, self.census.port, name, CAP, self.ttl_seconds, self.heartbeat_seconds)
        arguments = ["-m", "tests.support.slots_child", *map(str, settings)]
        self.each[name] = Process(arguments, self.folder / f"{name}.log", forks=True)
        self._did(f"start {name}")
        return name

    async def busy(self, seconds: float = 15) -> None:
        """Wait until all places are in use by processes that run, and every one of these has some.

        One that has none yet asks for none: too few would be left to use what a killed one had.
        """

        def used() -> bool:
            return self.census.running >= FOR_ALL and all(map(self._open, self.each))

        await eventually(used, f"all places used: {self.census.open}", seconds)

    async def kill(self) -> float:
        """Kill one that holds much; return how long until the others used its places, every one of them."""
        name, began = self._biggest(), time.monotonic()
        self.send(name, signal.SIGKILL)
        await eventually(lambda: not self._open(name), "its connections are gone")
        self.each.pop(name).wait()
        await self.busy()
        return time.monotonic() - began

    @contextlib.asynccontextmanager
    async def frozen(self, *, asking: bool = False) -> AsyncIterator[str]:
        """Freeze one that holds much, for the time of the block and until it has had a turn again.

        With `asking` at a moment when it waits for an answer.
        """
        name = self._biggest()
        life = f"{name}.{len(self.fences(name))}"
        async with self._server_held_up() if asking else contextlib.nullcontext():
            self.census.frozen.add(life)
            self.send(name, signal.SIGSTOP)
        try:
            yield name
        finally:
            self.send(name, signal.SIGCONT)
        thawed = time.monotonic()
        await eventually(lambda: any(each.life == life for each in self.fences(name)), f"{life} is fenced")
        await eventually(lambda: not self.census.open[life], "its connections are closed", THAW_SECONDS)
        self.thaws.append(time.monotonic() - thawed)

    @contextlib.asynccontextmanager
    async def _server_held_up(self) -> AsyncIterator[None]:
        """Let the server stand still, long enough for everybody to ask it something."""
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(HELD_UP_SECONDS)
            yield
        finally:
            os.kill(self.server.pid, signal.SIGCONT)

    def send(self, name: str, number: signal.Signals) -> None:
        self.each[name].send(number)
        self._did(f"{number.name} {name}")

    def fences(self, name: str) -> list[StoodStill]:
        """Return when one stood still, by its own words."""
        words = (self.folder / f"{name}.log").read_text("utf-8", errors="replace")
        found = STOOD_STILL.findall(words)
        return [StoodStill(life, float(until) - float(length), float(until)) for life, until, length in found]

    def overshoot(self) -> int:
        """Return the most connections above the cap at any moment, of processes that ran.

        The machine may have left one without a turn for as long as a freeze would; then what that life had open
        is not counted until it has closed it.
        """
        still = [each for number in range(self.started) for each in self.fences(f"g{number + 1}")]

        def above(moment: Moment) -> int:
            ended = {each.life for each in still if each.since <= moment.at <= each.until + THAW_SECONDS}
            return moment.without(ended) - CAP

        return max([0, *map(above, self.census.above)])

    def story(self) -> str:
        """Tell of the worst moment, for whoever has to find out why."""
        worst = max(self.census.above, key=lambda moment: moment.without(set()), default=None)
        if worst is None:
            return "never above the cap"
        lines = [f"worst: {worst.open}, frozen {set(worst.frozen)}; before and after it:"]
        lines += [
            f"  {at - worst.at:+.3f} s {what}" for at, what in self.acts if abs(at - worst.at) < self.ttl_seconds * 3
        ]
        spans = [at.at - worst.at for at in self.census.above]
        lines.append(f"above the cap from {min(spans):+.3f} to {max(spans):+.3f} s, {len(spans)} times")
        for number in range(self.started):
            words = (self.folder / f"g{number + 1}.log").read_text("utf-8", errors="replace").strip()
            lines.append(f"g{number + 1}:\n{words}")
        return "\n".join(lines)

    def _did(self, what: str) -> None:
        self.acts.append((time.monotonic(), what))

    def _open(self, name: str) -> int:
        return sum(count for life, count in self.census.open.items() if life.startswith(f"{name}."))

    def _biggest(self) -> str:
        return max(self.each, key=self._open)


@contextlib.asynccontextmanager
async def scene(folder: Path, ttl_seconds: float, heartbeat_seconds: float) -> AsyncIterator[Scene]:
    census = Census(free_port())
    counting = await asyncio.start_server(census.connected, "127.0.0.1", census.port)
    async with EmbeddedValkey() as server, counting:
        made = Scene(server, folder, census, ttl_seconds, heartbeat_seconds)
        try:
            for _ in range(GATEWAYS):
                made.start()
            await made.busy(30)
            yield made
        finally:
            for process in made.each.values():
                process.send(signal.SIGCONT)
                process.send(signal.SIGKILL)
                process.wait()
            await eventually(lambda: not census.open.total(), "all connections are gone")


def show(made: Scene, kills: list[float]) -> None:
    census = made.census
    figures(
        "cap over processes",
        cap=CAP,
        kills=len(kills),
        freezes=len(made.thaws),
        until_closed_ms=[round(seconds * 1000) for seconds in made.thaws],
        highest_of_running=census.highest_running,
        overshoot=made.overshoot(),
        highest_with_frozen=census.highest,
        over_with_frozen_seconds=round(census.over_seconds, 2),
        slowest_reclaim_seconds=round(max(kills), 2) if kills else None,
        ttl_seconds=made.ttl_seconds,
        connections=census.seen,
    )
    if census.above:
        print(made.story())
