"""Which reservations live, in Redis, for every gateway to see. Whoever takes one is the only one who does."""

import asyncio
import math
from collections.abc import Sequence
from typing import Final

from gateway.core.errors import Reason, StoreError
from gateway.store.keys import lease_key
from gateway.store.link import Command, Reply
from gateway.store.writer import GroupWriter, Job

DEADLINE_SECONDS: Final = 0.3
# One answer: small enough not to hold up appends behind it.
PAGE: Final = 256
COMMAND_BYTES: Final = 128


class RedisReservations:
    """`ReservationBook`, over the store's connection: it serves while the store does.

    After STORE_UNAVAILABLE it is not known whether the change was made. A change waits for the
    replicas where there are some, but stands also when they do not confirm it.
    """

    def __init__(self, writer: GroupWriter, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Use `writer`; keep nothing here."""
        self._writer = writer
        self._deadline_seconds = deadline_seconds

    @property
    def connects(self) -> int:
        """How often the server was connected to: what was entered before may be gone."""
        return self._writer.connects

    async def add(self, lease_id: str, ttl_seconds: float) -> None:
        """Enter a reservation; it leaves by itself after `ttl_seconds`."""
        await self._change(("SET", lease_key(lease_id), "1", "PX", _ms(ttl_seconds)))

    async def renew(self, lease_id: str, ttl_seconds: float) -> bool:
        """Let it live for so long from now; return False when it has ended already."""
        return bool(await self._change(("PEXPIRE", lease_key(lease_id), _ms(ttl_seconds))))

    async def take(self, lease_id: str) -> bool:
        """End it; return whether it was this very call that did."""
        return bool(await self._change(("DEL", lease_key(lease_id))))

    async def living(self, lease_ids: Sequence[str]) -> frozenset[str]:
        """Return which of these still live."""
        found: list[str] = []
        ends_at = asyncio.get_running_loop().time() + self._deadline_seconds
        for start in range(0, len(lease_ids), PAGE):
            page = lease_ids[start : start + PAGE]
            # One question each: in a Cluster they live on different nodes. The writer sends them together.
            flags = await asyncio.gather(*(self._submit(_job(("EXISTS", lease_key(each))), ends_at) for each in page))
            found += [lease_id for lease_id, flag in zip(page, flags, strict=True) if flag]
        return frozenset(found)

    async def _change(self, command: Command) -> Reply:
        job = _job(command)
        job.replicate = True
        return await self._submit(job, asyncio.get_running_loop().time() + self._deadline_seconds)

    async def _submit(self, job: Job, ends_at: float) -> Reply:
        try:
            async with asyncio.timeout_at(ends_at):
                return (await self._writer.submit(job)).reply
        except TimeoutError:
            message = f"no answer about reservations within {self._deadline_seconds} s"
            raise StoreError(Reason.STORE_UNAVAILABLE, message) from None


def _job(command: Command) -> Job:
    return Job(name="reservations", command=command, in_full=command, size_bytes=COMMAND_BYTES)


def _ms(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))
