"""What can be looked at is read when somebody scrapes."""

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Final, Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.core.breaker import Breaker
from gateway.core.session import SessionState
from gateway.runtime.observers import PoolSource
from gateway.telemetry.families import (
    BREAKER_OPEN,
    CERTIFICATE_NOT_AFTER,
    CERTIFICATE_NOT_BEFORE,
    CONNECTIONS,
    DEGRADED,
    KEY_REFUSED,
    OLDEST_WAIT,
    POOL_CEILING,
    POOL_FLOOR,
    SESSIONS,
    WAITERS,
    Family,
)

_STATES: Final = tuple((s, attrgetter(s)) for s in ("dialling", "ready", "leased", "draining"))
_POOL_GAUGES: Final = (
    (WAITERS, attrgetter("waiting")),
    (OLDEST_WAIT, attrgetter("oldest_wait_seconds")),
    (POOL_FLOOR, attrgetter("floor")),
    (POOL_CEILING, attrgetter("ceiling")),
)

# (target, account) → the breaker between them.
BreakerSource = Callable[[], Mapping[tuple[str, str], Breaker]]
SessionSource = Callable[[], Mapping[SessionState, int]]
# Component → whether it is degraded or failing.
HealthSource = Callable[[], Mapping[str, bool]]


class Certificate(Protocol):
    """When it is valid: Unix time, in seconds."""

    @property
    def not_before(self) -> float: ...  # noqa: D102
    @property
    def not_after(self) -> float: ...  # noqa: D102


CertificateSource = Callable[[], Certificate | None]


class PoolGauges(Collector):
    """Every pool's numbers at one moment."""

    def __init__(self, source: PoolSource) -> None:
        """Read `source` at each scrape."""
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Make the gauges of this moment."""
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


class BreakerGauges(Collector):
    """Every breaker at one moment; an account's key is refused when any of its targets refuses it."""

    def __init__(self, source: BreakerSource) -> None:
        """Read `source` at each scrape."""
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Make the gauges of this moment."""
        breakers = self._source()
        gauge = _gauge(BREAKER_OPEN)
        for names, breaker in breakers.items():
            gauge.add_metric(names, int(breaker.is_open))
        yield gauge
        refused: dict[str, int] = {}
        for (_, account), breaker in breakers.items():
            refused[account] = max(refused.get(account, 0), int(breaker.key_refused))
        gauge = _gauge(KEY_REFUSED)
        for account, value in refused.items():
            gauge.add_metric((account,), value)
        yield gauge


class SessionGauges(Collector):
    """Sessions by state; a state that nobody is in reads 0."""

    def __init__(self, source: SessionSource) -> None:
        """Read `source` at each scrape."""
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Make the gauges of this moment."""
        counts = self._source()
        gauge = _gauge(SESSIONS)
        for state in SessionState:
            if state is not SessionState.CLOSED:
                gauge.add_metric((state.name.lower(),), counts.get(state, 0))
        yield gauge


class HealthGauges(Collector):
    """Every part's state at one moment."""

    def __init__(self, source: HealthSource) -> None:
        """Read `source` at each scrape."""
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Make the gauge of this moment."""
        gauge = _gauge(DEGRADED)
        for component, unwell in self._source().items():
            gauge.add_metric((component,), int(unwell))
        yield gauge


class CertificateGauges(Collector):
    """When the listener's certificate is valid; without one, families without a value."""

    def __init__(self, source: CertificateSource) -> None:
        """Read `source` at each scrape."""
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Make the gauges of this moment."""
        shown = self._source()
        begins, ends = _gauge(CERTIFICATE_NOT_BEFORE), _gauge(CERTIFICATE_NOT_AFTER)
        if shown is not None:
            begins.add_metric((), shown.not_before)
            ends.add_metric((), shown.not_after)
        yield begins
        yield ends


def _gauge(family: Family) -> GaugeMetricFamily:
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)
