"""Faults of the handshake: late, refused, never answered."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from gateway.simulator.faults.fault import Fault, HandshakeRefusal
from gateway.simulator.faults.keys import SECONDS_MAX, choice, key, number, whole

# A caller that hangs up while nobody answers is noticed this late at most.
_LOOK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectDelay(Fault):
    """The upgrade is answered late."""

    kind: ClassVar[str] = "connect-delay"
    reaches_open: ClassVar[bool] = False
    ms: float = key(number(0, SECONDS_MAX * 1000))

    async def before_upgrade(self, gone: Callable[[], bool]) -> None:  # noqa: ARG002 - the delay is kept anyway
        """Wait."""
        await asyncio.sleep(self.ms / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake(Fault):
    """The upgrade is refused."""

    kind: ClassVar[str] = "handshake"
    reaches_open: ClassVar[bool] = False
    status: int = key(choice(401, 403, 404, 429, 500, 503))
    retry_after: int | None = key(whole(0, int(SECONDS_MAX)), default=None)

    async def before_upgrade(self, gone: Callable[[], bool]) -> HandshakeRefusal:  # noqa: ARG002 - refused at once
        """Refuse."""
        return HandshakeRefusal(self.status, self.retry_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeHang(Fault):
    """The upgrade is never answered."""

    kind: ClassVar[str] = "handshake-hang"
    reaches_open: ClassVar[bool] = False

    async def before_upgrade(self, gone: Callable[[], bool]) -> None:
        """Wait until the caller gives up."""
        while not gone():  # noqa: ASYNC110 - no event tells of a caller that hangs up here
            await asyncio.sleep(_LOOK_SECONDS)
