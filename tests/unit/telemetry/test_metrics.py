"""Metrics are bounded, resolved once, and read where they stand."""

from collections import Counter as Tally
from dataclasses import replace

import pytest
from prometheus_client import Counter, Histogram
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from gateway.core.pool_limits import PoolStats
from gateway.core.session import SessionState
from gateway.rpc.server import Validity
from gateway.telemetry.health import Health, Status
from gateway.telemetry.metrics import CELLS_MAX, Metrics

STATS = PoolStats(
    dialling=1,
    ready=2,
    leased=3,
    draining=4,
    waiting=5,
    oldest_wait_seconds=0.25,
    floor=6,
    ceiling=16,
    draining_pool=False,
    last_failure=None,
)


class Pools:
    """A pool source whose numbers a test sets."""

    def __init__(self, **pools: PoolStats) -> None:
        self.pools = pools

    def stats(self) -> dict[str, PoolStats]:
        return self.pools


def scrape(metrics: Metrics, accept: str = "") -> str:
    _, parts = metrics.exposition(accept)
    return b"".join(parts).decode()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_pool_gauges_are_read_at_each_scrape() -> None:
    metrics, pools = Metrics(), Pools(default=STATS)
    metrics.watch_pools(pools)
    states = {
        state: value(metrics, "trunkline_connections", pool="default", state=state)
        for state in ("dialling", "ready", "leased", "draining")
    }
    assert states == {"dialling": 1, "ready": 2, "leased": 3, "draining": 4}
    pools.pools = {"default": replace(STATS, ready=9, floor=7)}
    assert value(metrics, "trunkline_connections", pool="default", state="ready") == 9
    assert value(metrics, "trunkline_pool_floor", pool="default") == 7
    assert value(metrics, "trunkline_pool_ceiling", pool="default") == 16
    assert value(metrics, "trunkline_waiters", pool="default") == 5
    assert value(metrics, "trunkline_oldest_wait_seconds", pool="default") == 0.25


def test_one_scrape_asks_its_source_once() -> None:
    asked: list[None] = []

    class Counting(Pools):
        def stats(self) -> dict[str, PoolStats]:
            asked.append(None)
            return super().stats()

    metrics = Metrics()
    metrics.watch_pools(Counting(default=STATS))
    asked.clear()
    scrape(metrics)
    assert len(asked) == 1


def test_a_session_state_that_nobody_is_in_reads_zero() -> None:
    metrics = Metrics()
    metrics.watch_sessions(lambda: {SessionState.ACTIVE: 3})
    assert value(metrics, "trunkline_sessions", state="active") == 3
    assert value(metrics, "trunkline_sessions", state="detached") == 0
    assert value(metrics, "trunkline_sessions", state="closed") is None


def test_each_part_tells_whether_it_is_well() -> None:
    metrics, health = Metrics(), Health(0.0)
    metrics.watch_health(health.unwell)
    health.set("store", Status.OK)
    health.set("configuration", Status.DEGRADED, "limits: a change needs a restart")
    health.set("pool:default", Status.STARTING)
    health.set("slots", Status.FAILING)
    shown = {each: value(metrics, "trunkline_degraded", component=each) for each in health.unwell()}
    assert shown == {"store": 0, "configuration": 1, "pool:default": 0, "slots": 1}
    assert "restart" not in scrape(metrics)


def test_without_a_certificate_none_is_told_of() -> None:
    metrics, shown = Metrics(), list[Validity | None]([None])
    metrics.watch_certificate(lambda: shown[-1])
    times = [f"trunkline_certificate_not_{each}_timestamp_seconds" for each in ("before", "after")]
    assert [value(metrics, each) for each in times] == [None, None]
    shown.append(Validity(1_700_000_000.0, 1_800_000_000.0))
    assert [value(metrics, each) for each in times] == [1_700_000_000.0, 1_800_000_000.0]


def test_a_watched_pools_counters_exist_before_their_first_event() -> None:
    metrics = Metrics()
    metrics.watch_pools(Pools(default=STATS))
    assert value(metrics, "trunkline_acquires_total", pool="default", result="hit") == 0
    assert value(metrics, "trunkline_dials_total", pool="default", result="ok") == 0


def test_labels_are_looked_up_once_per_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: Tally[str] = Tally()
    for kind in (Counter, Histogram):
        original = kind.labels

        def counting(self: Counter, *values: str, original: object = original) -> object:
            looked_up[self._name] += 1
            assert callable(original)
            return original(self, *values)

        monkeypatch.setattr(kind, "labels", counting)
    metrics = Metrics()
    looked_up.clear()
    for _ in range(100):
        metrics.acquires["default", "hit"].inc()
        metrics.first_audio["default", "speech_stopped"].observe(0.4)
        metrics.acquires["other-pool", "hit"].inc()
    assert looked_up == {"trunkline_acquires": 2, "trunkline_first_audio_seconds": 1}


@pytest.mark.parametrize("slip", ["it broke: 1006 abnormal", "", "a\nb", "x" * 65, 'say "hi"'])
def test_free_text_in_a_label_counts_as_other(slip: str) -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.connections_closed["default", slip].inc()
    name = "trunkline_connections_closed_total"
    assert value(metrics, name, pool="default", reason="other") == 2
    assert list(metrics.connections_closed) == [("default", "other")]


def test_a_flood_of_label_values_stays_within_its_bound() -> None:
    metrics = Metrics()
    for number in range(CELLS_MAX * 3):
        metrics.connections_closed["default", f"code_{number}"].inc()
    assert len(metrics.connections_closed) == CELLS_MAX + 1
    name = "trunkline_connections_closed_total"
    assert value(metrics, name, pool="other", reason="other") == CELLS_MAX * 2


def test_two_gateways_in_a_process_do_not_share_metrics() -> None:
    one, two = Metrics(), Metrics()
    one.acquires["default", "hit"].inc()
    assert value(two, "trunkline_acquires_total", pool="default", result="hit") is None


def test_plain_text_and_open_metrics_say_the_same() -> None:
    metrics = Metrics()
    metrics.watch_pools(Pools(default=STATS))
    metrics.acquire_wait["default", "hit"].observe(0.0007)
    plain = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(scrape(metrics))
        for sample in family.samples
    }
    accept = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    text = scrape(metrics, accept)
    opened = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_open_metrics(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    assert opened == plain
    assert text.count("# EOF") == 1
    assert text.endswith("# EOF\n")


def test_no_series_tells_when_it_was_made() -> None:
    metrics = Metrics()
    metrics.acquires["default", "hit"].inc()
    names = {sample.name for family in parse(scrape(metrics)) for sample in family.samples}
    assert "trunkline_acquires_total" in names
    assert not {name for name in names if name.endswith("_created")}


def test_buckets_tell_frames_apart_below_a_millisecond() -> None:
    metrics = Metrics()
    metrics.relay["up",].observe(0.0003)
    name = "trunkline_relay_seconds_bucket"
    assert value(metrics, name, direction="up", le="0.0005") == 1
    assert value(metrics, name, direction="up", le="0.00025") == 0
