"""What can be looked at is read when somebody scrapes."""

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Final

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
# From when to when (Unix time, s) the listener's certificate is valid; None = there is none.
CertificateSource = Callable[[], tuple[float, float] | None]


class Gauges(Collector):
    """Families that are made of what a source says at each scrape."""

    def __init__(self, made: Callable[[], Iterator[Metric]]) -> None:
        """Call `made` at each scrape."""
        self._made = made

    def collect(self) -> Iterator[Metric]:
        """Make the gauges of this moment."""
        return self._made()


def pool_gauges(source: PoolSource) -> Iterator[Metric]:
    """Make every pool's numbers."""
    pools = source.stats()
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


def breaker_gauges(source: BreakerSource) -> Iterator[Metric]:
    """Make every breaker's; an account's key is refused when any of its targets refuses it."""
    breakers = source()
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


def session_gauges(source: SessionSource) -> Iterator[Metric]:
    """Make sessions by state; a state that nobody is in reads 0."""
    counts = source()
    gauge = _gauge(SESSIONS)
    for state in SessionState:
        if state is not SessionState.CLOSED:
            gauge.add_metric((state.name.lower(),), counts.get(state, 0))
    yield gauge


def health_gauges(source: HealthSource) -> Iterator[Metric]:
    """Make every part's state."""
    gauge = _gauge(DEGRADED)
    for component, unwell in source().items():
        gauge.add_metric((component,), int(unwell))
    yield gauge


def certificate_gauges(source: CertificateSource) -> Iterator[Metric]:
    """Make the certificate's two times; without one, families without a value."""
    times = source() or (None, None)
    for family, time in zip((CERTIFICATE_NOT_BEFORE, CERTIFICATE_NOT_AFTER), times, strict=True):
        gauge = _gauge(family)
        if time is not None:
            gauge.add_metric((), time)
        yield gauge


def _gauge(family: Family) -> GaugeMetricFamily:
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)
