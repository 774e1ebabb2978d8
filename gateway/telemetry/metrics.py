"""Counters and histograms, and the registry that all metrics of one gateway are in.

What changes rarely is counted when it happens; what can be looked at is a gauge (gauges.py).
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from re import compile as pattern
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import exposition as plain
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from gateway.runtime.observers import PoolSource
from gateway.telemetry.families import (
    ACQUIRE_WAIT,
    ACQUIRES,
    CONNECTIONS_CLOSED,
    COST,
    DIAL,
    DIALS,
    ENTRY_AGE,
    ERRORS,
    FIRST_AUDIBLE,
    FIRST_AUDIO,
    IDLE_LINE,
    LEASE_HELD,
    LOOP_LAG,
    RECOVER,
    RECOVERIES,
    RELAY,
    RESUME,
    ROTATIONS,
    STORE_COMMAND,
    STORE_DEGRADED,
    TOKENS,
    Family,
)
from gateway.telemetry.gauges import (
    BreakerSource,
    CertificateSource,
    Gauges,
    HealthSource,
    SessionSource,
    breaker_gauges,
    certificate_gauges,
    health_gauges,
    pool_gauges,
    session_gauges,
)

ACQUIRE_RESULTS: Final = ("hit", "wait", "dialled", "timeout", "shed", "cancelled")
OTHER: Final = "other"
CELLS_MAX: Final = 500

_WORD: Final = pattern(r"[\w.:/-]{1,64}")
_OPEN_METRICS: Final = "application/openmetrics-text"
_EOF: Final = b"# EOF\n"
Cell = TypeVar("Cell", Counter, Histogram)


class Cells(dict[tuple[str, ...], Cell]):
    """One family's cells: `cells[pool, result]` resolves the labels once, then never again.

    A value that is not a word, and any new one after `CELLS_MAX`, counts as `other`: a free text
    that slips in as a reason costs one series, not the monitoring.
    """

    def __init__(self, parent: Cell) -> None:
        """Begin empty; `parent` has the label names."""
        super().__init__()
        self._parent: Cell = parent

    def __missing__(self, values: tuple[str, ...]) -> Cell:
        """Resolve a combination that is new."""
        bounded = tuple(value if _WORD.fullmatch(value) else OTHER for value in values)
        if len(self) >= CELLS_MAX:
            bounded = (OTHER,) * len(values)
        if bounded != values and bounded in self:
            return self[bounded]
        cell = self[bounded] = self._parent.labels(*bounded)
        return cell


class Metrics:
    """All metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        """Begin at zero; gauges appear once their sources are watched."""
        self.registry = CollectorRegistry()
        self.acquire_wait = Cells(self._histogram(ACQUIRE_WAIT))
        self.acquires = Cells(self._counter(ACQUIRES))
        self.dial = Cells(self._histogram(DIAL))
        self.dials = Cells(self._counter(DIALS))
        self.entry_age = Cells(self._histogram(ENTRY_AGE))
        self.idle_line = Cells(self._counter(IDLE_LINE))
        self.lease_held = Cells(self._histogram(LEASE_HELD))
        self.connections_closed = Cells(self._counter(CONNECTIONS_CLOSED))
        self.first_audio = Cells(self._histogram(FIRST_AUDIO))
        self.first_audible = Cells(self._histogram(FIRST_AUDIBLE))
        self.recover = Cells(self._histogram(RECOVER))
        self.recoveries = Cells(self._counter(RECOVERIES))
        self.resume = Cells(self._histogram(RESUME))
        self.rotations = Cells(self._counter(ROTATIONS))
        for result in ("ok", "failed"):  # a rate does not see the event that creates a series
            for cause in ("line_lost", "claimed", "resumed"):
                self.recoveries[cause, result].inc(0)
            self.rotations["expiry", result].inc(0)
        self.relay = Cells(self._histogram(RELAY))
        self.tokens = Cells(self._counter(TOKENS))
        self.cost = Cells(self._counter(COST))
        self.errors = Cells(self._counter(ERRORS))
        for reason in ("internal", "overloaded", "superseded"):  # what is watched for, and rare
            self.errors[reason,].inc(0)
        self.store_command = Cells(self._histogram(STORE_COMMAND))
        self.store_degraded = Gauge(STORE_DEGRADED.name, STORE_DEGRADED.help, registry=self.registry)
        self.loop_lag = self._histogram(LOOP_LAG)

    def watch_pools(self, source: PoolSource) -> None:
        """Read `source` at each scrape.

        Its pools' counters exist from now on: a rate does not see the event that creates a series.
        """
        self.registry.register(Gauges(partial(pool_gauges, source)))
        for pool in source.stats():
            for result in ACQUIRE_RESULTS:
                self.acquires[pool, result].inc(0)
            self.dials[pool, "ok"].inc(0)

    def watch_breakers(self, source: BreakerSource) -> None:
        """Read `source` at each scrape: whether dials are held back."""
        self.registry.register(Gauges(partial(breaker_gauges, source)))

    def watch_sessions(self, source: SessionSource) -> None:
        """Read `source` at each scrape: how many sessions are in which state."""
        self.registry.register(Gauges(partial(session_gauges, source)))

    def watch_health(self, source: HealthSource) -> None:
        """Read `source` at each scrape: which parts are not well."""
        self.registry.register(Gauges(partial(health_gauges, source)))

    def watch_certificate(self, source: CertificateSource) -> None:
        """Read `source` at each scrape: when the listener's certificate is valid, None = there is none."""
        self.registry.register(Gauges(partial(certificate_gauges, source)))

    def exposition(self, accept: str = "") -> tuple[str, Iterator[bytes]]:
        """Return the content type that suits an Accept header, and the text family by family.

        In parts, so that a server can let its loop breathe in between.
        """
        if _OPEN_METRICS not in accept:
            return plain.CONTENT_TYPE_PLAIN_0_0_4, self._parts(plain.generate_latest)
        return openmetrics.CONTENT_TYPE_LATEST, chain(self._parts(openmetrics.generate_latest), (_EOF,))

    def _parts(self, render: Callable[[Collector], bytes]) -> Iterator[bytes]:
        return (render(_One(each)).removesuffix(_EOF) for each in self.registry.collect())

    def _counter(self, family: Family) -> Counter:
        return Counter(family.name, family.help, family.labels, registry=self.registry)

    def _histogram(self, family: Family) -> Histogram:
        return Histogram(
            family.name,
            family.help,
            family.labels,
            buckets=family.buckets,
            registry=self.registry,
        )


class _One(Collector):
    """A registry of one family, without its `_created` series, which nobody reads."""

    def __init__(self, family: Metric) -> None:
        family.samples = [s for s in family.samples if not s.name.endswith("_created")]
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family
