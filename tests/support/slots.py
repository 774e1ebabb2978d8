"""Gateways that share accounts, as far as the store is concerned; and a wire that a test can cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from gateway.core.errors import CapacityError
from gateway.runtime.ports import SlotKind
from gateway.store.options import AccountSlots, RedisOptions, SlotsOptions
from gateway.store.redis_store import RedisStore
from gateway.store.sealing_keys import SealingKeys
from gateway.store.slots import RedisSlots
from tests.support.waiting import eventually

ACCOUNT: Final = "main"
LEASED, WARM, SPARE = SlotKind.LEASED, SlotKind.WARM, SlotKind.SPARE
# Dials that no test of places waits for.
UNHURRIED: Final = 100_000
UNHURRIED_BURST: Final = 1_000
# As quick as the rules between the times allow.
QUICK: Final = SlotsOptions(ttl_seconds=1.0, heartbeat_seconds=0.2)


def account(cap: int, rate: float = UNHURRIED, burst: int = UNHURRIED_BURST) -> AccountSlots:
    return AccountSlots(cap, rate, burst)


@contextlib.asynccontextmanager
async def gateway(
    url: str,
    places: AccountSlots,
    options: SlotsOptions = QUICK,
    seed: int = 1,
    on_fenced: Callable[[], None] | None = None,
    redis: RedisOptions | None = None,
) -> AsyncIterator[RedisSlots]:
    """Run what one gateway has: a connection of its own, and its places on it."""
    redis = redis or RedisOptions(url=url, probe_max_seconds=0.2)
    async with RedisStore(redis, SealingKeys.of_this_process()) as store:
        slots = RedisSlots(store.writer, {ACCOUNT: places}, options, Random(seed))
        if on_fenced is not None:
            slots.on_fenced = on_fenced
        async with slots:
            yield slots


@contextlib.asynccontextmanager
async def gateways(
    url: str, count: int, places: AccountSlots, options: SlotsOptions = QUICK
) -> AsyncIterator[list[RedisSlots]]:
    """Run several, which know of each other and may take what is free."""
    async with contextlib.AsyncExitStack() as stack:
        each = [await stack.enter_async_context(gateway(url, places, options, seed)) for seed in range(count)]
        await settled(each)
        yield each


async def settled(each: list[RedisSlots]) -> None:
    """Wait until all of them know of each other, and what they know adds up to what they hold."""
    totals = [total(slots) for slots in each]

    def agree() -> bool:
        known = [slots._accounts[ACCOUNT]._known for slots in each]
        return all(view is not None and view.live == len(each) and view.total == sum(totals) for view in known)

    await eventually(agree, "all gateways know of each other")


async def take(slots: RedisSlots, kind: SlotKind, count: int = 1) -> None:
    for _ in range(count):
        await slots.acquire(ACCOUNT, kind)


async def attempt(slots: RedisSlots, kind: SlotKind) -> float | CapacityError:
    """Return the delay, or the error with which an acquire was refused."""
    try:
        return await slots.acquire(ACCOUNT, kind)
    except CapacityError as error:
        return error


async def refused(slots: RedisSlots, kind: SlotKind) -> CapacityError:
    """Return the error with which an acquire is refused; fail where it is not."""
    outcome = await attempt(slots, kind)
    assert isinstance(outcome, CapacityError), f"{kind.name} was not refused"
    return outcome


def total(slots: RedisSlots) -> int:
    return sum(slots.held(ACCOUNT).values())


def figures(what: str, **numbers: object) -> None:
    """Print what was measured, for `pytest -rP` or `-s`."""
    print(f"{what}:", " ".join(f"{name}={number}" for name, number in numbers.items()))


@dataclass
class Wire:
    """A Unix socket in front of a server's, whose answers can be kept back, and which can be cut."""

    url: str
    connections: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    swallowed: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()


@contextlib.asynccontextmanager
async def wire(server_url: str, folder: Path) -> AsyncIterator[Wire]:
    """Stand between a gateway and a server."""
    path, made = folder / "wire", Wire(f"unix://{folder / 'wire'}")
    made.up.set()
    made.answers.set()
    tasks = set[asyncio.Task[None]]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if answers and not made.answers.is_set():
                    made.swallowed.set()
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not made.up.is_set():
                raise ConnectionRefusedError
            there, back = await asyncio.open_unix_connection(server_url.removeprefix("unix://"))
        except OSError:
            writer.close()
            return
        made._writers += [writer, back]
        made.connections += 1
        for task in (pump(reader, back, answers=False), pump(there, writer, answers=True)):
            tasks.add(asyncio.ensure_future(task))

    server = await asyncio.start_unix_server(connected, path)
    try:
        yield made
    finally:
        server.close()
        made.cut()
        if tasks:
            await asyncio.wait(tasks)
