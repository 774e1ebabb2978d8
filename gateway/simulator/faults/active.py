"""The faults that are set, and which socket gets which of them: by chance, by number, by time."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from gateway.simulator.faults.fault import Fault


class Scope(StrEnum):
    """Whom a set of faults is for."""

    NEW = "new"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Drawn:
    """A fault that a socket has got. `ends_at` is monotonic; None = it stays."""

    fault: Fault
    ends_at: float | None


@dataclass(slots=True)
class _Active:
    fault: Fault
    ends_at: float | None
    applied: int = 0


class ActiveFaults:
    """One simulator's faults."""

    def __init__(self, faults: Iterable[Fault], seed: int) -> None:
        """Begin with `faults`; the same seed and the same order of sockets give the same draws."""
        self._random = Random(seed)  # noqa: S311 - chance for tests, not for secrets
        self._scope = Scope.NEW
        self._active: list[_Active] = []
        self.replace(faults, Scope.NEW)

    def replace(self, faults: Iterable[Fault], scope: Scope) -> None:
        """Set these instead; they count from nothing."""
        now = time.monotonic()
        self._scope = scope
        self._active = [_Active(each, None if each.for_seconds is None else now + each.for_seconds) for each in faults]

    def draw(self, *, is_open: bool = False) -> tuple[Drawn, ...]:
        """Return what one socket gets: a new one, or one that is open already."""
        return tuple(self._draw(each) for each in self._active if self._hits(each, is_open=is_open))

    def describe(self) -> dict[str, object]:
        """Return what `GET /_sim/faults` tells."""
        faults = [{**each.fault.describe(), "applied": each.applied} for each in self._active]
        return {"scope": self._scope.value, "faults": faults}

    def _hits(self, active: _Active, *, is_open: bool) -> bool:
        fault = active.fault
        if (is_open and not fault.reaches_open) or active.applied == fault.count:
            return False
        if active.ends_at is not None and time.monotonic() >= active.ends_at:
            return False
        return fault.probability >= 1 or self._random.random() < fault.probability

    def _draw(self, active: _Active) -> Drawn:
        active.applied += 1
        return Drawn(active.fault, active.ends_at)
