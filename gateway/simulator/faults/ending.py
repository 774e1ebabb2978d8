"""Faults that end the socket: closed at a moment, expired, idle for too long, dead soon after it was accepted."""

import time
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from gateway.simulator.faults.fault import Fault, Line, Strike
from gateway.simulator.faults.keys import CLOSE_CODE, REASON, SECONDS, SECONDS_MAX, key, number
from gateway.simulator.faults.points import CREATED, POINT, AtPoint, Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Fault):
    """The socket is closed at a moment."""

    kind: ClassVar[str] = "close"
    code: int = key(CLOSE_CODE, default=1011)
    reason: str = key(REASON, default="")
    at: Point = key(POINT, default=Point(CREATED))  # noqa: RUF009 - it returns a field

    def strike(self, line: Line) -> Strike:
        """Return the closing of one socket."""
        return AtPoint(line, self.at, partial(line.close, self.code, self.reason))


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptThenClose(Fault):
    """The socket dies some time after `session.created`."""

    kind: ClassVar[str] = "accept-then-close"
    reaches_open: ClassVar[bool] = False
    seconds: float = key(SECONDS, default=2.0)
    code: int = key(CLOSE_CODE, default=1011)
    reason: str = key(REASON, default="")

    def strike(self, line: Line) -> Strike:
        """Return the short life of one socket."""
        die = partial(line.close, self.code, self.reason)
        return AtPoint(line, Point(CREATED), partial(line.later, self.seconds, die))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire(Fault):
    """The session's life is another than the option says; it ends as any expired session does."""

    kind: ClassVar[str] = "expire"
    reaches_open: ClassVar[bool] = False
    seconds: float = key(number(0.001, SECONDS_MAX))

    @property
    def life_seconds(self) -> float:
        """As asked."""
        return self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleClose(Fault):
    """The socket is closed when no client event has come for some time."""

    kind: ClassVar[str] = "idle-close"
    seconds: float = key(number(0.001, SECONDS_MAX))
    code: int = key(CLOSE_CODE, default=1001)
    reason: str = key(REASON, default="")

    def strike(self, line: Line) -> Strike:
        """Return the impatience of one socket."""
        return _Idle(self, line)


class _Idle(Strike):
    def __init__(self, fault: IdleClose, line: Line) -> None:
        self._fault = fault
        self._line = line
        self._heard_at = time.monotonic()
        self._over = False

    def begin(self) -> None:
        self._line.later(self._fault.seconds, self._look)

    def heard(self) -> None:
        self._heard_at = time.monotonic()

    def lift(self) -> None:
        self._over = True

    def _look(self) -> None:
        left = self._heard_at + self._fault.seconds - time.monotonic()
        if left > 0:
            self._line.later(left, self._look)
        elif not self._over:
            self._line.close(self._fault.code, self._fault.reason)
