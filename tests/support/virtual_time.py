"""An event loop whose clock stands still while anything can run, and jumps to the next timer when nothing can.

Two hours of a session take no time, and take the same course every time. Only for tests without
sockets, threads and processes: what nobody in the loop can wake is a deadlock, and raises.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, Final

START_SECONDS: Final = 1000.0


class DeadlockError(AssertionError):
    """Every task waits, and there is no timer: nothing would ever happen again."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: asks the loop to move its clock instead."""

    jump: Callable[[], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            raise DeadlockError("every task waits, and no timer is set")
        self.jump()
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time."""

    def __init__(self) -> None:
        """Begin at `START_SECONDS`."""
        self._virtual_now = START_SECONDS
        selector = _JumpingSelector()
        super().__init__(selector)
        selector.jump = self._jump

    def time(self) -> float:
        """Return the virtual time."""
        return self._virtual_now

    def advance(self, seconds: float) -> None:
        """Let time pass as if the loop had been busy: nothing runs meanwhile."""
        self._virtual_now += seconds

    def _jump(self) -> None:
        # To the very moment, as a sum of differences would miss it by a rounding.
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        self._virtual_now = max(self._virtual_now, scheduled[0].when())


def now() -> float:
    """Return the running loop's time."""
    return asyncio.get_running_loop().time()


def advance(seconds: float) -> None:
    """Let the running loop be busy for so long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.advance(seconds)


async def turns(count: int) -> None:
    """Let everything that can run take so many turns; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


async def others() -> set[asyncio.Task[Any]]:
    """Every other task that is still there, after those that are done or cancelled have had their turn."""
    await turns(3)
    return asyncio.all_tasks() - {asyncio.current_task()}
