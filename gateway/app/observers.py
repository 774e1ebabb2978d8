"""Who hears what pools and sessions do: metrics, and spans where they are wanted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gateway import __version__
from gateway.rpc.credentials import trusting
from gateway.runtime.observers import PoolObserver, SessionObserver
from gateway.settings import Settings, SettingsError
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import PoolMetrics, SessionMetrics


@dataclass(frozen=True, slots=True)
class Observers:
    """Who hears."""

    pools: PoolObserver
    sessions: SessionObserver


@asynccontextmanager
async def observers(settings: Settings, metrics: Metrics) -> AsyncIterator[Observers]:
    """Count in `metrics`, and make spans while entered if there is a collector. Raises `SettingsError`."""
    chosen = settings.tracing
    if chosen.endpoint is None:
        yield Observers(PoolMetrics(metrics), SessionMetrics(metrics))
        return
    try:
        # Only here: the packages are large, and most gateways make no spans.
        from gateway.telemetry.tracing import TracedPools, TracedSessions, Tracing, TracingOptions  # noqa: PLC0415
    except ImportError:
        raise SettingsError("tracing.endpoint: spans need the packages of trunkline[tracing]") from None
    try:
        credentials = trusting(chosen.ca_file) if chosen.endpoint.startswith("https:") else None
    except OSError as error:
        raise SettingsError(f"tracing.ca_file: {chosen.ca_file} cannot be read: {error.strerror}") from None
    instance = settings.grpc.advertise or settings.grpc.address
    options = TracingOptions(chosen.endpoint, credentials, chosen.sample_ratio, instance, __version__)
    async with Tracing(options) as tracing:
        tracer = tracing.tracer
        yield Observers(TracedPools(metrics, tracer), TracedSessions(metrics, tracer))
