"""Every metric: name, help, labels and buckets stand here and nowhere else.

Labels name a template, a state or a reason, never a caller, tenant or session. What changes rarely
is counted when it happens; what can be looked at is read when somebody scrapes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from re import compile as pattern
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import exposition as plain
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from gateway.core.session import SessionState
from gateway.runtime.ports import PoolSource


@dataclass(frozen=True, slots=True)
class Family:
    """What a metric is called, what it means and in which steps it is measured."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# Pools. `pool` is the template's name.
ACQUIRE_WAIT: Final = Family(
    "trunkline_acquire_wait_seconds",
    "Seconds from asking a pool for a line to the answer, by result.",
    ("pool", "result"),
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25, 0.5, 1, 2, 5),
)
ACQUIRES: Final = Family(
    "trunkline_acquires_total",
    "Acquires ended, by result: hit, wait, dialled, timeout, shed or cancelled.",
    ("pool", "result"),
)
DIAL: Final = Family(
    "trunkline_dial_seconds",
    "Seconds that a stage of a dial took by itself: tcp, tls, upgrade, created, updated.",
    ("pool", "stage"),
    (0.005, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5),
)
DIALS: Final = Family(
    "trunkline_dials_total",
    "Dials ended, by result: ok, or the reason of the failure in lower case.",
    ("pool", "result"),
)
ENTRY_AGE: Final = Family(
    "trunkline_entry_age_seconds",
    "Seconds that a line had stood ready when it was handed out.",
    ("pool",),
    (0.1, 1, 5, 15, 30, 60, 120, 180, 240, 300, 600),
)
LEASE_HELD: Final = Family(
    "trunkline_lease_held_seconds",
    "Seconds from the grant of a lease to its end.",
    ("pool",),
    (1, 5, 15, 30, 60, 180, 300, 600, 1200, 1800, 3600, 7200),
)
CONNECTIONS: Final = Family(
    "trunkline_connections",
    "Lines to the Realtime API now, by state: dialling, ready, leased or draining.",
    ("pool", "state"),
)
CONNECTIONS_CLOSED: Final = Family(
    "trunkline_connections_closed_total",
    "Lines closed, by reason; lost = nobody here asked for it.",
    ("pool", "reason"),
)
WAITERS: Final = Family("trunkline_waiters", "Callers waiting for a line now.", ("pool",))
OLDEST_WAIT: Final = Family(
    "trunkline_oldest_wait_seconds",
    "Seconds that the first waiter waits; 0 = none.",
    ("pool",),
)
POOL_FLOOR: Final = Family("trunkline_pool_floor", "Ready lines that the pool tries to keep now.", ("pool",))
POOL_CEILING: Final = Family("trunkline_pool_ceiling", "Lines that the pool may have in any state.", ("pool",))

# Sessions.
FIRST_AUDIO: Final = Family(
    "trunkline_first_audio_seconds",
    "Seconds from speech_stopped or response_created to the answer's first audio.",
    ("pool", "from"),
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5),
)
RELAY: Final = Family(
    "trunkline_relay_seconds",
    "Seconds that a frame spent in the gateway, sampled; direction up = towards the model.",
    ("direction",),
    (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.25),
)
SESSIONS: Final = Family("trunkline_sessions", "Sessions that live here now, by state.", ("state",))
TOKENS: Final = Family(
    "trunkline_tokens_total",
    "Tokens of ended sessions, by kind; input and output are totals that contain the other kinds.",
    ("pool", "kind"),
)
ERRORS: Final = Family("trunkline_errors_total", "Errors that callers were told, by reason in lower case.", ("reason",))

# The process.
STORE_COMMAND: Final = Family(
    "trunkline_store_command_seconds",
    "Seconds from sending a command to Redis to its answer.",
    ("command",),
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 2),
)
STORE_DEGRADED: Final = Family("trunkline_store_degraded", "1 while sessions go on without their store, else 0.")
LOOP_LAG: Final = Family(
    "trunkline_loop_lag_seconds",
    "Seconds by which the event loop was late, measured ten times a second.",
    (),
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)

ACQUIRE_RESULTS: Final = ("hit", "wait", "dialled", "timeout", "shed", "cancelled")
OTHER: Final = "other"
CELLS_MAX: Final = 500

_WORD: Final = pattern(r"[\w.:/-]{1,64}")
_OPEN_METRICS: Final = "application/openmetrics-text"
_EOF: Final = b"# EOF\n"
_STATES: Final = tuple((s, attrgetter(s)) for s in ("dialling", "ready", "leased", "draining"))
_POOL_GAUGES: Final = (
    (WAITERS, attrgetter("waiting")),
    (OLDEST_WAIT, attrgetter("oldest_wait_seconds")),
    (POOL_FLOOR, attrgetter("floor")),
    (POOL_CEILING, attrgetter("ceiling")),
)

Cell = TypeVar("Cell", Counter, Histogram)
SessionSource = Callable[[], Mapping[SessionState, int]]


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
        self.lease_held = Cells(self._histogram(LEASE_HELD))
        self.connections_closed = Cells(self._counter(CONNECTIONS_CLOSED))
        self.first_audio = Cells(self._histogram(FIRST_AUDIO))
        self.relay = Cells(self._histogram(RELAY))
        self.tokens = Cells(self._counter(TOKENS))
        self.errors = Cells(self._counter(ERRORS))
        self.store_command = Cells(self._histogram(STORE_COMMAND))
        self.store_degraded = Gauge(STORE_DEGRADED.name, STORE_DEGRADED.help, registry=self.registry)
        self.loop_lag = self._histogram(LOOP_LAG)

    def watch_pools(self, source: PoolSource) -> None:
        """Read `source` at each scrape.

        Its pools' counters exist from now on: a rate does not see the event that creates a series.
        """
        self.registry.register(_PoolGauges(source))
        for pool in source.stats():
            for result in ACQUIRE_RESULTS:
                self.acquires[pool, result].inc(0)
            self.dials[pool, "ok"].inc(0)

    def watch_sessions(self, source: SessionSource) -> None:
        """Read `source` at each scrape: how many sessions are in which state."""
        self.registry.register(_SessionGauges(source))

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


class _PoolGauges(Collector):
    """Every pool's numbers at one moment."""

    def __init__(self, source: PoolSource) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        pools = self._source.stats()
        lines = _gauge(CONNECTIONS)
        for pool, stats in pools.items():
            for state, count in _STATES:
                lines.add_metric((pool, state), count(stats))
        yield lines
        for family, value in _POOL_GAUGES:
            gauge = _gauge(family)
            for pool, stats in pools.items():
                gauge.add_metric((pool,), value(stats))
            yield gauge


class _SessionGauges(Collector):
    """Sessions by state; a state that nobody is in reads 0."""

    def __init__(self, source: SessionSource) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        counts = self._source()
        gauge = _gauge(SESSIONS)
        for state in SessionState:
            if state is not SessionState.CLOSED:
                gauge.add_metric((state.name.lower(),), counts.get(state, 0))
        yield gauge


def _gauge(family: Family) -> GaugeMetricFamily:
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)
