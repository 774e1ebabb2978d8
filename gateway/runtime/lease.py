"""What a caller asks a pool for, and what it holds then."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from gateway.core.effects import Grant, Reject
from gateway.core.errors import LeaseEndedError, Reason
from gateway.core.events import LineSource
from gateway.core.ids import LeaseId
from gateway.runtime.open_line import OpenLine
from gateway.runtime.ports import Upstream


@dataclass(frozen=True, slots=True)
class Place:
    """Where a waiter stands: 1 = next. Times in seconds."""

    position: int
    waited_seconds: float
    remaining_seconds: float


async def _untold(_place: Place) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks for a line: named in admin answers, and in the log when a lease leaks."""

    tenant: str
    caller: str
    session_id: str = ""
    correlation_id: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks a pool for."""

    holder: Holder
    wait_seconds: float
    # Done when nobody wants the answer any more.
    abandoned: "asyncio.Future[Any]"
    tell: Callable[[Place], Awaitable[None]] = _untold
    # The end user whose line it is to be: it is dialled for this caller alone.
    safety_identifier: str = ""
    # A running session needs it, in place of the one that it has or had.
    recovers: bool = False
    # Came with a reservation: of this gateway (its id) or of another one (`foreign`).
    reservation: LeaseId | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class HeldReservation:
    """A living reservation as operators see it. Times are of the loop's clock, in seconds."""

    lease_id: LeaseId
    pool: str
    holder: Holder
    granted_at: float
    expires_at: float


class LeasedLine:
    """What a holder has: the line, until the lease ends. Afterwards every use raises."""

    def __init__(self, grant: Grant, line: OpenLine, holder: Holder, source: LineSource, granted_at: float) -> None:
        """Wrap a granted line."""
        self.lease_id = grant.lease_id
        self.source = source
        self.is_configured = grant.configured
        self.entry_age_seconds = grant.entry_age_seconds
        self.waited_seconds = grant.waited_seconds
        self.holder = holder
        self.granted_at = granted_at
        self.dial = line.dial
        self._upstream: Upstream | None = line.upstream

    @property
    def upstream(self) -> Upstream:
        """The line. Raises `LeaseEndedError` after the end of the lease."""
        if self._upstream is None:
            raise LeaseEndedError(Reason.LEASE_ENDED, f"lease {self.lease_id} has ended")
        return self._upstream

    def end(self) -> None:
        """Take the line away from the holder."""
        self._upstream = None


def source_of(wish: Wish, grant: Grant) -> LineSource:
    """Where a granted line came from, as the caller is told."""
    if wish.safety_identifier:
        return LineSource.DIALLED
    return LineSource.WARM if grant.at_once else LineSource.WAITED


class RejectedError(Exception):
    """A waiter was sent away; its pool says it in the caller's words."""

    def __init__(self, reject: Reject) -> None:
        """Keep what the core said."""
        super().__init__(reject.reason)
        self.reject = reject
