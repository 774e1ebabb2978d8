"""What the runtime reports arrives where an operator looks."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.core.errors import Reason
from gateway.core.events import Usage
from gateway.core.principal import Principal
from gateway.runtime.observers import SessionReport
from gateway.runtime.ports import DialTimes
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import PoolMetrics, SessionMetrics, StoreMetrics

if TYPE_CHECKING:
    from gateway.runtime.observers import PoolObserver, SessionObserver

    # The ports are kept: mypy reads this.
    _pool: PoolObserver = PoolMetrics(Metrics())
    _session: SessionObserver = SessionMetrics(Metrics())

Reports = Callable[..., SessionReport]
SERIES_MAX = 1_000


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_an_acquire_is_counted_with_its_wait() -> None:
    metrics = Metrics()
    PoolMetrics(metrics).acquired("default", "hit", 0.0003)
    labels = {"pool": "default", "result": "hit"}
    assert value(metrics, "trunkline_acquires_total", **labels) == 1
    assert value(metrics, "trunkline_acquire_wait_seconds_sum", **labels) == 0.0003


def test_a_failed_dial_still_shows_the_stages_it_reached() -> None:
    metrics = Metrics()
    PoolMetrics(metrics).dialled("default", "upstream_refused_key", DialTimes({"tcp": 0.02, "tls": 0.04}))
    name = "trunkline_dial_seconds_count"
    assert value(metrics, name, pool="default", stage="tls") == 1
    assert value(metrics, name, pool="default", stage="created") is None
    failed = {"pool": "default", "result": "upstream_refused_key"}
    assert value(metrics, "trunkline_dials_total", **failed) == 1


def test_a_lines_life_is_recorded_from_grant_to_close() -> None:
    metrics = Metrics()
    pools = PoolMetrics(metrics)
    pools.granted("default", 12.0)
    pools.lease_ended("default", 61.0)
    pools.connection_closed("default", "lease_ended")
    assert value(metrics, "trunkline_entry_age_seconds_sum", pool="default") == 12
    assert value(metrics, "trunkline_lease_held_seconds_sum", pool="default") == 61
    closed = {"pool": "default", "reason": "lease_ended"}
    assert value(metrics, "trunkline_connections_closed_total", **closed) == 1


def test_a_sessions_tokens_are_counted_by_kind(report: Reports) -> None:
    metrics = Metrics()
    sessions = SessionMetrics(metrics, log=lambda _: None)
    for _ in range(2):
        sessions.session_ended(report(usage=Usage(input_tokens=10, output_audio_tokens=7)))
    name = "trunkline_tokens_total"
    assert value(metrics, name, pool="default", kind="input") == 20
    assert value(metrics, name, pool="default", kind="output_audio") == 14
    assert value(metrics, name, pool="default", kind="input_text") is None


def test_a_providers_negative_count_is_left_out(report: Reports) -> None:
    metrics = Metrics()
    SessionMetrics(metrics, log=lambda _: None).session_ended(report(usage=Usage(input_tokens=-1)))
    assert value(metrics, "trunkline_tokens_total", pool="default", kind="input") is None


def test_a_session_is_logged_once_whatever_its_end(report: Reports) -> None:
    logged: list[SessionReport] = []
    ended = report(error=Reason.UPSTREAM_CLOSED)
    SessionMetrics(Metrics(), log=logged.append).session_ended(ended)
    assert logged == [ended]


def test_delays_and_refusals_are_recorded() -> None:
    metrics = Metrics()
    sessions = SessionMetrics(metrics)
    sessions.first_audio("default", "speech_stopped", 0.42)
    sessions.relayed("down", 0.0002)
    sessions.refused(Reason.QUEUE_FULL)
    delay = {"pool": "default", "from": "speech_stopped"}
    assert value(metrics, "trunkline_first_audio_seconds_sum", **delay) == 0.42
    assert value(metrics, "trunkline_relay_seconds_count", direction="down") == 1
    assert value(metrics, "trunkline_errors_total", reason="queue_full") == 1


def test_lines_that_were_replaced_are_counted_and_timed() -> None:
    metrics = Metrics()
    for cause in ("line_lost", "claimed", "resumed"):  # otherwise the first burst of failures is no increase
        assert value(metrics, "trunkline_recoveries_total", cause=cause, result="failed") == 0
    sessions = SessionMetrics(metrics)
    sessions.recovered("line_lost", "ok", 0.02)
    sessions.recovered("line_lost", "failed", 20.0)
    sessions.rotated("expiry", "ok", 0.1)
    for result in ("ok", "failed"):
        assert value(metrics, "trunkline_recoveries_total", cause="line_lost", result=result) == 1
    assert value(metrics, "trunkline_recover_seconds_sum", cause="line_lost") == 0.02
    assert value(metrics, "trunkline_rotations_total", trigger="expiry", result="ok") == 1


def test_the_store_tells_its_times_and_its_loss() -> None:
    metrics = Metrics()
    store = StoreMetrics(metrics)
    store.command("append", 0.0004)
    store.degraded(value=True)
    assert value(metrics, "trunkline_store_command_seconds_count", command="append") == 1
    assert value(metrics, "trunkline_store_degraded") == 1
    store.degraded(value=False)
    assert value(metrics, "trunkline_store_degraded") == 0


def test_a_thousand_tenants_make_no_more_series_than_one(report: Reports) -> None:
    metrics = Metrics()
    pools, sessions = PoolMetrics(metrics), SessionMetrics(metrics, log=lambda _: None)

    def one_call(number: int) -> None:
        pool = f"pool_{number % 3}"
        principal = Principal(f"tenant-{number}", f"caller-{number}", frozenset())
        for result in ("hit", "wait", "timeout"):
            pools.acquired(pool, result, 0.1)
        pools.granted(pool, 1.0)
        pools.dialled(pool, "ok", DialTimes(dict.fromkeys(("tcp", "tls", "upgrade"), 0.1)))
        pools.dialled(pool, "ok", DialTimes(dict.fromkeys(("created", "updated"), 0.1)))
        pools.lease_ended(pool, 10.0)
        pools.connection_closed(pool, "lease_ended")
        sessions.first_audio(pool, "speech_stopped", 0.4)
        sessions.first_audio(pool, "response_created", 0.4)
        sessions.relayed("up", 0.001)
        sessions.relayed("down", 0.001)
        sessions.refused(list(Reason)[number % len(Reason)])
        sessions.session_ended(report(pool=pool, principal=principal, session_id=f"s{number}"))

    def series() -> int:
        return sum(len(family.samples) for family in metrics.registry.collect())

    for number in range(len(Reason)):
        one_call(number)
    before = series()
    for number in range(1_000):
        one_call(number)
    assert series() == before <= SERIES_MAX
