"""The names of INTERFACES.md are the names that a scrape shows."""

import re
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.errors import Reason
from gateway.core.events import ClosedReason, Usage
from gateway.core.pool_limits import PoolStats
from gateway.core.principal import Principal
from gateway.core.session import SessionState
from gateway.rpc.server import Validity
from gateway.runtime.observers import SessionReport
from gateway.runtime.ports import DialTimes
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import PoolMetrics, SessionMetrics, StoreMetrics
from tests.support.reference_metrics import BEYOND

INTERFACES: Final = Path(__file__).parents[3] / "shared" / "INTERFACES.md"
FORBIDDEN: Final = {"caller", "tenant", "session", "session_id", "stream", "peer", "user"}
STATS: Final = PoolStats(1, 2, 3, 4, 5, 0.5, 2, 16, draining_pool=False, last_failure=None)


class Pools:
    """One pool."""

    def stats(self) -> dict[str, PoolStats]:
        return {"default": STATS}


def _report() -> SessionReport:
    return SessionReport(
        session_id="s1",
        pool="default",
        principal=Principal("acme", "billing-bot", frozenset()),
        correlation_id="",
        upstream_session_id="",
        source="WARM",
        reason=ClosedReason.BYE,
        error=None,
        duration_seconds=1.0,
        waited_seconds=0.0,
        audio_in_bytes=0,
        audio_out_bytes=0,
        frames_in=0,
        frames_out=0,
        responses=0,
        usage=Usage(input_tokens=1),
        cost_dollars=0.01,
    )


def _busy_metrics() -> Metrics:
    metrics = Metrics()
    metrics.watch_pools(Pools())
    metrics.watch_breakers(lambda: {("openai", "main"): Breaker(BreakerOptions())})
    metrics.watch_sessions(lambda: {SessionState.ACTIVE: 1})
    metrics.watch_health(lambda: {"configuration": False})
    metrics.watch_certificate(lambda: Validity(1.0, 2.0))
    pools, sessions = PoolMetrics(metrics), SessionMetrics(metrics, log=lambda _: None)
    pools.acquired("default", "hit", 0.001)
    pools.granted("default", 1.0)
    stages = ("tcp", "tls", "upgrade", "created", "updated")
    pools.dialled("default", "ok", DialTimes(dict.fromkeys(stages, 0.1)))
    pools.connection_closed("default", "lost")
    pools.lease_ended("default", 1.0)
    for since in ("speech_stopped", "response_created"):
        sessions.first_audio("default", since, 0.4)
    sessions.first_audible("default", 0.5)
    sessions.relayed("up", 0.001)
    sessions.recovered("line_lost", "ok", 0.01)
    sessions.resumed("reattached", 0.01)
    sessions.rotated("expiry", "ok", 0.1)
    sessions.resumed("reattached", 0.01)
    sessions.refused(Reason.QUEUE_FULL)
    sessions.session_ended(_report())
    StoreMetrics(metrics).command("append", 0.001)
    metrics.loop_lag.observe(0.001)
    return metrics


def _scraped() -> dict[str, tuple[set[str], dict[str, set[str]]]]:
    """Return each family's label names, and the values that each label took."""
    _, parts = _busy_metrics().exposition()
    families = {}
    for family in text_string_to_metric_families(b"".join(parts).decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        values: dict[str, set[str]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
        values.pop("le", None)
        families[name] = (set(values), values)
    return families


def _agreed() -> dict[str, dict[str, set[str]]]:
    """Return the label names of each metric of INTERFACES.md, with the values it lists."""
    if not INTERFACES.is_file():
        pytest.skip(f"{INTERFACES} is not here: names are compared where the contract lies")
    section = INTERFACES.read_text("utf-8").partition("## Metrics")[2].partition("\n## ")[0]
    agreed = {}
    for name, labels in re.findall(r"`(trunkline_\w+)(?:\{([^}]*)\})?`", section):
        pairs = [each.partition("=") for each in labels.split(",") if each]
        agreed[name] = {label: set(filter(None, v.split("|"))) for label, _, v in pairs}
    return agreed


def test_every_metric_is_agreed_and_every_agreed_one_has_a_place() -> None:
    agreed, scraped = _agreed(), _scraped()
    assert set(scraped) - BEYOND.keys() == set(agreed)


def test_label_names_are_the_agreed_ones() -> None:
    agreed, scraped = {**_agreed(), **BEYOND}, _scraped()
    assert {name: names for name, (names, _) in scraped.items()} == {name: set(agreed[name]) for name in scraped}


def test_listed_label_values_are_the_ones_in_use() -> None:
    scraped = _scraped()
    listed = {
        (name, label): values
        for name, labels in _agreed().items()
        for label, values in labels.items()
        if values and name in scraped
    }
    assert listed
    for (name, label), values in listed.items():
        assert scraped[name][1][label] == values


def test_no_label_names_a_caller_a_tenant_or_a_session() -> None:
    for names, values in _scraped().values():
        assert not names & FORBIDDEN
        assert not {"acme", "billing-bot", "s1"} & set().union(*values.values(), set())


def test_names_end_in_their_unit_and_help_says_it() -> None:
    _, parts = _busy_metrics().exposition()
    for family in text_string_to_metric_families(b"".join(parts).decode()):
        assert family.documentation.endswith(".")
        if family.name.endswith("_seconds"):
            assert family.documentation.startswith("Seconds")
        if family.type == "histogram":
            assert family.name.endswith("_seconds")
