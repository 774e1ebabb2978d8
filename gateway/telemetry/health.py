"""Whether the gateway lives and takes callers, and how its parts are.

Redis or the provider being down is told, and never a reason to send callers elsewhere: every other
gateway has the same Redis and the same provider.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from gateway.telemetry.metrics import Metrics
from gateway.telemetry.redaction import redact

STARTING_MAX_SECONDS: Final = 10.0
BEAT_MAX_SECONDS: Final = 5.0
REASON_MAX: Final = 200


class Status(StrEnum):
    """How a component is."""

    STARTING = "starting"
    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Component:
    """One part's state, and why."""

    status: Status
    reason: str


class Health:
    """Readiness as rules over three flags; components by name beside them.

    Times are of the monotonic clock. Set `starting` to False at the first warm line; it ends by
    itself after ten seconds.
    """

    def __init__(self, now: float) -> None:
        """Begin as starting, without components."""
        self._started_at = now
        self._beat_at = now
        self._flags = {"starting": True, "draining": False, "overloaded": False}
        self._components: dict[str, Component] = {}
        self._callbacks: list[Callable[[bool], None]] = []

    # Inputs.

    def set(self, component: str, status: Status, reason: str = "") -> None:
        """Record how a component is; `reason` is a sentence for the operator, without secrets."""
        self._components[component] = Component(status, redact(reason, REASON_MAX))

    def keep(self, components: Collection[str], among: str) -> None:
        """Forget the components whose names begin with `among` and that are none of these."""
        gone = [name for name in self._components if name.startswith(among) and name not in components]
        for name in gone:
            del self._components[name]

    def beat(self, now: float) -> None:
        """Record that the event loop runs."""
        self._beat_at = now
        if self.starting and not self._starting(now):
            self.starting = False

    @property
    def starting(self) -> bool:
        """Whether the first warm line is still awaited."""
        return self._flags["starting"]

    @starting.setter
    def starting(self, value: bool) -> None:
        self._flag("starting", value=value)

    @property
    def draining(self) -> bool:
        """Whether the gateway is being emptied."""
        return self._flags["draining"]

    @draining.setter
    def draining(self, value: bool) -> None:
        self._flag("draining", value=value)

    @property
    def overloaded(self) -> bool:
        """Whether new sessions would hurt the admitted ones."""
        return self._flags["overloaded"]

    @overloaded.setter
    def overloaded(self, value: bool) -> None:
        self._flag("overloaded", value=value)

    # Questions.

    def ready(self, now: float) -> bool:
        """Whether callers should come here."""
        return not self.obstacles(now)

    def obstacles(self, now: float) -> list[str]:
        """Name what keeps callers away: starting, draining, overloaded."""
        if not self._starting(now):
            return [name for name, set_ in self._flags.items() if set_ and name != "starting"]
        return [name for name, set_ in self._flags.items() if set_]

    def alive(self, now: float) -> bool:
        """Whether the loop has run lately."""
        return now - self._beat_at <= BEAT_MAX_SECONDS

    def unwell(self) -> dict[str, bool]:
        """Tell of each component whether it is degraded or failing."""
        return {name: each.status in (Status.DEGRADED, Status.FAILING) for name, each in self._components.items()}

    def report(self, now: float) -> dict[str, object]:
        """Return all of it, ready for JSON."""
        return {
            "ready": self.ready(now),
            "obstacles": self.obstacles(now),
            "components": {
                name: {"status": each.status.value, "reason": each.reason}
                for name, each in sorted(self._components.items())
            },
        }

    def subscribe(self, callback: Callable[[bool], None]) -> Callable[[], None]:
        """Call `callback` with the readiness, at once and at each change; return what ends that."""
        self._callbacks.append(callback)
        callback(not any(self._flags.values()))
        return lambda: self._callbacks.remove(callback)

    def _starting(self, now: float) -> bool:
        return self.starting and now - self._started_at < STARTING_MAX_SECONDS

    def _flag(self, name: str, *, value: bool) -> None:
        before = any(self._flags.values())
        self._flags[name] = value
        after = any(self._flags.values())
        if before != after:
            for callback in tuple(self._callbacks):
                callback(not after)


class LoopLag:
    """Measures, while entered, how late the event loop is; each measurement is a beat of `health`.

    A timer, not a task: nothing to await, nothing that can be left behind.
    """

    def __init__(
        self,
        metrics: Metrics,
        health: Health,
        *,
        period_seconds: float = 0.1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Measure every `period_seconds`. Not by `loop.time()`: uvloop's stands still in a turn."""
        self._observe = metrics.loop_lag.observe
        self._health = health
        self._period = period_seconds
        self._clock = clock
        self._last_second: deque[float] = deque([0.0], maxlen=max(1, round(1 / period_seconds)))
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        """Start to measure."""
        self._schedule()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def worst_seconds(self) -> float:
        """The greatest lag of the last second."""
        return max(self._last_second)

    def _schedule(self) -> None:
        due = self._clock() + self._period
        self._timer = asyncio.get_running_loop().call_later(self._period, self._measure, due)

    def _measure(self, due: float) -> None:
        now = self._clock()
        lag = max(0.0, now - due)
        self._observe(lag)
        self._last_second.append(lag)
        self._health.beat(now)
        self._schedule()
