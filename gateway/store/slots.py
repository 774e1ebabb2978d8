"""The places and the dial rate of each account, shared by all gateways through Redis.

What the places mean and when one is refused stands in slots.lua; what this gateway does while
Redis is away, in account.py and share.py. A running call is never closed because Redis is away.

The cap may be exceeded where nobody can know better: by the dead lines of a process that stood
still for longer than its entry lives, until it has had a turn; when Redis is lost to one gateway
alone; and when Redis is lost to all, by what one of them took above its part since the others'
last report, at most a heartbeat ago.
"""

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Final, Self

from gateway.runtime.ports import SlotKind
from gateway.store.account import AccountPlaces, Setting
from gateway.store.options import AccountSlots, SlotsOptions
from gateway.store.presence import Presence
from gateway.store.slots_call import SlotsView
from gateway.store.writer import GroupWriter

# The first report's own bound ends it; this one is for a loop that is slower than that.
START_SECONDS: Final = 1.0


def _no_recall(account: str, count: int) -> None:
    """Stand for a callback that nobody set."""


def _no_fence() -> None:
    """Stand for the other one."""


class RedisSlots:
    """`Slots`. Between `start` and `stop`, or inside `async with`, it reports; start the writer's store before.

    Both callbacks are set before `start`, return at once and never raise: `on_recall(account, n)`
    asks for up to `n` warm lines to be closed, for somebody who waits elsewhere; `on_fenced()` closes
    every line, because this process stood still for so long that others may have its places.
    """

    def __init__(
        self,
        writer: GroupWriter,
        accounts: Mapping[str, AccountSlots],
        options: SlotsOptions | None = None,
        rng: Random | None = None,
    ) -> None:
        """Hold nothing; nothing is said before `start`."""
        self._options = options or SlotsOptions()
        rng = rng or Random()  # noqa: S311 - jitter
        self._presence = Presence(self._options.frozen_seconds)
        self.on_recall: Callable[[str, int], None] = _no_recall
        self.on_fenced: Callable[[], None] = _no_fence
        self._presence.on_fenced = self._fenced
        jitter = self._options.heartbeat_jitter
        setting = Setting(
            options=self._options,
            writer=writer,
            presence=self._presence,
            rng=rng,
            heartbeat_seconds=self._options.heartbeat_seconds * rng.uniform(1 - jitter, 1 + jitter),
            on_recall=self._recalled,
        )
        self._accounts = {name: AccountPlaces(name, account, setting) for name, account in accounts.items()}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to report; returns when every account was tried once, degraded where that failed."""
        self._task = asyncio.create_task(self._run(), name="slots")
        first = asyncio.ensure_future(self._reported())
        try:
            await asyncio.wait({first, self._task}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            first.cancel()

    async def stop(self) -> None:
        """Report no more. Where nothing is held the others hear so at once, else when the entry has aged."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()
            await asyncio.gather(*(places.leave() for places in self._accounts.values()))

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def _reported(self) -> None:
        for places in self._accounts.values():
            await places.reported.wait()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name, places in self._accounts.items():
                group.create_task(places.run(), name=f"slots of {name}")

    # The port.

    async def acquire(self, account: str, kind: SlotKind) -> float:
        """Take a place and a turn to dial; return how long to wait before dialling, in seconds.

        Decides within `acquire_seconds`, by itself where Redis does not. Raises `CapacityError`.
        When its caller is cancelled nothing is taken.
        """
        return await self._accounts[account].acquire(kind)

    def change(self, account: str, before: SlotKind, after: SlotKind) -> None:
        """Record that a place is used for something else now. Raises `OverReleaseError`, a bug."""
        self._accounts[account].change(before, after)

    def release(self, account: str, kind: SlotKind) -> None:
        """Give a place back: its line is closed. Raises `OverReleaseError`, a bug."""
        self._accounts[account].release(kind)

    # To look at.

    @property
    def gateway_id(self) -> str:
        """This gateway's name among those who share the accounts."""
        return self._presence.gateway_id

    @property
    def degraded(self) -> bool:
        """Whether any account is shared without Redis now."""
        return any(places.degraded for places in self._accounts.values())

    def held(self, account: str) -> Mapping[SlotKind, int]:
        """Return how many places this gateway holds, by kind."""
        return dict(self._accounts[account].held.by_kind)

    def allowed(self, account: str) -> int:
        """Return how many places this gateway may hold while Redis is away."""
        return self._accounts[account].allowed

    def views(self) -> dict[str, SlotsView | None]:
        """Return what was last heard of each account; None = nothing yet."""
        return {name: places.view for name, places in self._accounts.items()}

    def _recalled(self, account: str, count: int) -> None:
        self.on_recall(account, count)

    def _fenced(self) -> None:
        try:
            self.on_fenced()
        except Exception as error:  # noqa: BLE001 - whatever it is, the places must go on being reported
            context = {"message": "on_fenced failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        for places in self._accounts.values():
            places.forget()
