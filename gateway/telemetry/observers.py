"""The observer ports, in metrics. Each call is a dictionary look-up and an addition."""

from collections.abc import Callable
from typing import Final

from gateway.core.errors import Reason
from gateway.core.events import ResponseDone, Usage
from gateway.runtime.observers import SessionObserver, SessionReport
from gateway.runtime.ports import DialTimes
from gateway.telemetry.logs import canonical
from gateway.telemetry.metrics import Metrics

_TOKEN_KINDS: Final = tuple((f, f.removesuffix("_tokens")) for f in Usage.__struct_fields__)


class PoolMetrics:
    """`PoolObserver` in metrics."""

    def __init__(self, metrics: Metrics) -> None:
        """Count in `metrics`."""
        self._metrics = metrics

    def acquired(self, pool: str, result: str, waited_seconds: float) -> None:
        """Count one acquire and its wait."""
        self._metrics.acquires[pool, result].inc()
        self._metrics.acquire_wait[pool, result].observe(waited_seconds)

    def granted(self, pool: str, entry_age_seconds: float) -> None:
        """Record how old a handed-out line was."""
        self._metrics.entry_age[pool,].observe(entry_age_seconds)
        self._metrics.idle_line[pool,].inc(entry_age_seconds)

    def dialled(self, pool: str, result: str, times: DialTimes) -> str:
        """Count one dial and the stages that it reached, also where it failed; it has no span."""
        self._metrics.dials[pool, result].inc()
        for stage, seconds in times.stages.items():
            self._metrics.dial[pool, stage].observe(seconds)
        return ""

    def connection_closed(self, pool: str, reason: str) -> None:
        """Count one closed line."""
        self._metrics.connections_closed[pool, reason].inc()

    def idled(self, pool: str, seconds: float) -> None:
        """Count the time of a line that nobody took."""
        self._metrics.idle_line[pool,].inc(seconds)

    def lease_ended(self, pool: str, held_seconds: float) -> None:
        """Record how long a lease was held."""
        self._metrics.lease_held[pool,].observe(held_seconds)


class SessionMetrics:
    """`SessionObserver` in metrics, and each session's one line in the log."""

    def __init__(self, metrics: Metrics, log: Callable[[SessionReport], None] = canonical) -> None:
        """Count in `metrics`; `log` writes the line and never raises."""
        self._metrics = metrics
        self._log = log

    @property
    def trace(self) -> str:
        """No session has a span."""
        return ""

    def of_session(self, parent: str) -> SessionObserver:
        """Hear of every session alike."""
        del parent
        return self

    def leased(self, source: str, waited_seconds: float, dial: str) -> None:
        """Count nothing: the pool has."""

    def answered(self, done: ResponseDone) -> None:
        """Count nothing: its parts are."""

    def session_ended(self, report: SessionReport) -> None:
        """Count the session's tokens and write its line."""
        for field, kind in _TOKEN_KINDS:
            count = getattr(report.usage, field)
            if count > 0:  # a provider's slip below zero must not end a session in an error
                self._metrics.tokens[report.pool, kind].inc(count)
        if report.cost_dollars:
            self._metrics.cost[report.pool,].inc(report.cost_dollars)
        self._log(report)

    def first_audio(self, pool: str, since: str, seconds: float) -> None:
        """Record an answer's delay."""
        self._metrics.first_audio[pool, since].observe(seconds)

    def first_audible(self, pool: str, seconds: float) -> None:
        """Record when an answer could first be heard."""
        self._metrics.first_audible[pool,].observe(seconds)

    def recovered(self, cause: str, result: str, seconds: float) -> None:
        """Record the end of a line that nobody here ended."""
        self._metrics.recoveries[cause, result].inc()
        if result == "ok":
            self._metrics.recover[cause,].observe(seconds)

    def resumed(self, outcome: str, seconds: float) -> None:
        """Record how soon a caller that came back was answered."""
        self._metrics.resume[outcome,].observe(seconds)

    def rotated(self, trigger: str, result: str, seconds: float) -> None:
        """Count a line that was left before its end."""
        del seconds
        self._metrics.rotations[trigger, result].inc()

    def relayed(self, direction: str, seconds: float) -> None:
        """Record one sampled frame."""
        self._metrics.relay[direction,].observe(seconds)

    def refused(self, reason: Reason) -> None:
        """Count what a caller was told."""
        self._metrics.errors[reason.value.lower(),].inc()


class StoreMetrics:
    """What the store room reports."""

    def __init__(self, metrics: Metrics) -> None:
        """Count in `metrics`."""
        self._metrics = metrics

    def command(self, name: str, seconds: float) -> None:
        """Record one answered command; `name` is one of a few words, not a key."""
        self._metrics.store_command[name,].observe(seconds)

    def degraded(self, value: bool) -> None:  # noqa: FBT001 - the store's port names it so
        """Tell whether sessions go on without their store."""
        self._metrics.store_degraded.set(value)
