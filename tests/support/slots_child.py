"""One gateway as a process of its own: it takes places at random and holds a real connection for each.

    python -m tests.support.slots_child <redis url> <port of the census> <name> <cap> <ttl seconds> <heartbeat seconds>

A place is given back only when the census has seen the end of its connection, as a gateway gives one
back only when the line is closed. When it is fenced it drops every connection at once, and lives on under
another name: "g1.0" becomes "g1.1".
"""

import asyncio
import contextlib
import os
import sys
import time
from dataclasses import dataclass
from random import Random

from gateway.core.errors import CapacityError
from gateway.runtime.ports import SlotKind
from gateway.store.options import SlotsOptions
from gateway.store.slots import RedisSlots
from tests.support.slots import ACCOUNT, account, gateway

CALLERS = 16
HOLD_SECONDS = (0.2, 0.8)
# Sooner than they are told to: what is measured is when a place is free, not when somebody looks.
RETRY_MAX_SECONDS = 0.2
KINDS = [SlotKind.LEASED] * 6 + [SlotKind.WARM] * 2 + [SlotKind.SPARE]


@dataclass
class Life:
    """What the connections are known by, from one stand-still to the next."""

    gateway: str
    number: int = 0

    @property
    def name(self) -> str:
        return f"{self.gateway}.{self.number}"


class Caller:
    """Takes a place, holds a connection, gives both back, again and again."""

    def __init__(self, slots: RedisSlots, port: int, life: Life, rng: Random) -> None:
        self._slots, self._port, self._life, self._rng = slots, port, life, rng
        self._writer: asyncio.StreamWriter | None = None

    def drop(self) -> None:
        """Close the connection now, whatever it is used for."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def run(self) -> None:
        while True:
            kind, name = self._rng.choice(KINDS), self._life.name
            try:
                delay = await self._slots.acquire(ACCOUNT, kind)
            except CapacityError as error:
                await asyncio.sleep(min(error.retry_after_seconds or RETRY_MAX_SECONDS, RETRY_MAX_SECONDS))
                continue
            with contextlib.suppress(OSError):
                await self._hold(name, delay)
            self._slots.release(ACCOUNT, kind)

    async def _hold(self, name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            if name != self._life.name:
                return  # it may be another's place by now
            self._writer.write(name.encode() + b"\n")
            await asyncio.sleep(self._rng.uniform(*HOLD_SECONDS))
            self._writer.write_eof()
            await reader.read()
        finally:
            self._writer.close()
            self._writer = None


async def main(url: str, port: str, name: str, cap: str, ttl: str, heartbeat: str) -> None:
    options = SlotsOptions(ttl_seconds=float(ttl), heartbeat_seconds=float(heartbeat))
    callers, life = list[Caller](), Life(name)

    def on_fenced() -> None:
        print(f"fenced {life.name} at {time.monotonic():.3f}", flush=True)
        life.number += 1
        for caller in callers:
            caller.drop()

    async with gateway(url, account(int(cap)), options, os.getpid(), on_fenced) as slots, asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            callers.append(Caller(slots, int(port), life, Random(os.getpid() * 1000 + number)))
            group.create_task(callers[-1].run())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
