"""Spans for an OpenTelemetry collector: each session with its answers and its lines, and each dial. Off by default.

A span is made when what it tells of has ended, but for a session's own: the frames of a session cost nothing. No
word, no audio and no name of a caller stands in one. A thread of the library's sends them; what a collector does not
take in time is dropped.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation import set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.core.events import ResponseDone
from gateway.runtime.observers import SessionObserver, SessionReport
from gateway.runtime.ports import DialTimes
from gateway.telemetry.logs import canonical
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.observers import PoolMetrics, SessionMetrics

# Spans that wait for the collector, and how long their words may be: together a bound in bytes.
QUEUE_MAX: Final = 2048
BATCH_MAX: Final = 512
ATTRIBUTES_MAX: Final = 24
ATTRIBUTE_MAX: Final = 256
# How long a span waits for others, and a batch for its answer.
BATCH_SECONDS: Final = 2.0
EXPORT_SECONDS: Final = 5.0
# How long the last spans may take at a stop.
STOP_SECONDS: Final = 2.0
# A proxy variable of the machine must not steer where spans go.
_CHANNEL: Final[Any] = (("grpc.enable_http_proxy", 0),)
_W3C: Final = TraceContextTextMapPropagator()
Attributes = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class TracingOptions:
    """Where spans go.

    endpoint: http://HOST:PORT or https://HOST:PORT, OTLP over gRPC.
    credentials: what gRPC takes for TLS; None = the system's authorities.
    sample_ratio: of the sessions whose caller has not decided, and of the dials.
    instance: which gateway this is.
    """

    endpoint: str
    credentials: Any = None
    sample_ratio: float = 1.0
    instance: str = ""
    version: str = ""


class Tracing:
    """Makes spans while entered."""

    def __init__(self, options: TracingOptions, exporter: SpanExporter | None = None) -> None:
        """Prepare; `exporter` takes the place of the one that speaks to the collector."""
        resource = {
            "service.name": "trunkline",
            "service.version": options.version,
            "service.instance.id": options.instance,
        }
        # All that bounds memory is named, so that no variable of the library's own changes it.
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(options.sample_ratio)),
            resource=Resource(resource),
            shutdown_on_exit=False,
            span_limits=SpanLimits(
                max_attributes=ATTRIBUTES_MAX,
                max_events=1,
                max_links=1,
                max_span_attributes=ATTRIBUTES_MAX,
                max_event_attributes=1,
                max_link_attributes=1,
                max_attribute_length=ATTRIBUTE_MAX,
                max_span_attribute_length=ATTRIBUTE_MAX,
            ),
        )
        self._exporter = exporter or _exporter(options)
        self.tracer: Tracer = self._provider.get_tracer("trunkline", options.version)

    async def __aenter__(self) -> Self:
        """Begin to send."""
        processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=QUEUE_MAX,
            schedule_delay_millis=BATCH_SECONDS * 1000,
            max_export_batch_size=BATCH_MAX,
            export_timeout_millis=EXPORT_SECONDS * 1000,
        )
        self._provider.add_span_processor(processor)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Send what is left, within bounds: a pod has no time for a collector that is away."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # nobody waits any more: the loop is closed
                loop.call_soon_threadsafe(ended.set)

        # A thread that the end of the process does not wait for, as it does for those of an executor.
        threading.Thread(target=shut_down, name="tracing", daemon=True).start()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await ended.wait()
        except TimeoutError:
            self._exporter.shutdown()  # ends its tries


class TracedPools(PoolMetrics):
    """`PoolObserver` in metrics, and each dial as a trace of its own: it is made for nobody in particular."""

    def __init__(self, metrics: Metrics, tracer: Tracer) -> None:
        """Count in `metrics`, make spans with `tracer`."""
        super().__init__(metrics)
        self._tracer = tracer

    def dialled(self, pool: str, result: str, times: DialTimes) -> str:
        """Count one dial; return its span, for the session that gets its line."""
        super().dialled(pool, result, times)
        attributes: dict[str, str | int | float | bool] = {"trunkline.pool": pool}
        attributes |= {f"trunkline.dial.{stage}_ms": _ms(seconds) for stage, seconds in times.stages.items()}
        failure = "" if result == "ok" else result
        span = _ended(self._tracer, "dial", times.total, attributes, failure=failure, kind=SpanKind.CLIENT)
        return _traceparent(span.get_span_context())


class TracedSessions(SessionMetrics):
    """`SessionObserver` of all sessions: each gets one of its own."""

    def __init__(self, metrics: Metrics, tracer: Tracer, log: Callable[[SessionReport], None] = canonical) -> None:
        """Count in `metrics`, make spans with `tracer`."""
        super().__init__(metrics, log)
        self._tracer = tracer

    def of_session(self, parent: str) -> SessionObserver:
        """Begin a session's span."""
        return _TracedSession(self._metrics, self._tracer, parent, self._log)


class _TracedSession(SessionMetrics):
    """One session: its span, and one below it for each thing that happens."""

    def __init__(self, metrics: Metrics, tracer: Tracer, parent: str, log: Callable[[SessionReport], None]) -> None:
        super().__init__(metrics, log)
        self._tracer = tracer
        self._span = tracer.start_span("session", context=_context(parent), kind=SpanKind.SERVER)
        self._below = set_span_in_context(self._span, Context())

    @property
    def trace(self) -> str:
        """The session's span."""
        return _traceparent(self._span.get_span_context())

    def leased(self, source: str, waited_seconds: float, dial: str) -> None:
        """Tell how long a line was waited for, and which dial it came from."""
        self._happened("acquire", waited_seconds, {"trunkline.source": source}, link=dial)

    def answered(self, done: ResponseDone) -> None:
        """Tell of a turn: from the end of the caller's speech, or else from the answer's beginning, to its end."""
        speech_ms, first_ms = done.speech_stopped_to_first_audio_ms, done.created_to_first_audio_ms
        thinking_ms = max(0, speech_ms - first_ms)
        attributes: dict[str, str | int | float | bool] = {
            "trunkline.response_id": done.response_id,
            "trunkline.status": done.status,
            "trunkline.status_reason": done.status_reason,
            "gen_ai.usage.input_tokens": done.usage.input_tokens,
            "gen_ai.usage.output_tokens": done.usage.output_tokens,
        }
        if first_ms:  # else it was none to be heard
            attributes["trunkline.first_audio_ms"] = speech_ms or first_ms
            attributes["trunkline.from"] = "speech_stopped" if speech_ms else "response_created"
        failure = done.error_code or done.status if done.status in ("failed", "incomplete") else ""
        self._happened("turn", (done.created_to_done_ms + thinking_ms) / 1000, attributes, failure=failure)

    def recovered(self, cause: str, result: str, seconds: float) -> None:
        """Tell of a lost line's replacement."""
        super().recovered(cause, result, seconds)
        self._happened("recover", seconds, {"trunkline.cause": cause}, failure=_failure(result))

    def rotated(self, trigger: str, result: str, seconds: float) -> None:
        """Tell of a line that was left."""
        super().rotated(trigger, result, seconds)
        self._happened("rotate", seconds, {"trunkline.trigger": trigger}, failure=_failure(result))

    def resumed(self, outcome: str, seconds: float) -> None:
        """Tell of a caller that came back."""
        super().resumed(outcome, seconds)
        self._happened("resume", seconds, {"trunkline.outcome": outcome})

    def session_ended(self, report: SessionReport) -> None:
        """End the session's span."""
        super().session_ended(report)
        span = self._span
        span.set_attributes(
            {
                "session.id": report.session_id,
                "trunkline.pool": report.pool,
                "trunkline.source": report.source,
                "trunkline.reason": report.reason.name.lower(),
                "trunkline.waited_ms": _ms(report.waited_seconds),
                "trunkline.responses": report.responses,
                "trunkline.upstream_session_id": report.upstream_session_id,
                "gen_ai.usage.input_tokens": report.usage.input_tokens,
                "gen_ai.usage.output_tokens": report.usage.output_tokens,
            }
        )
        if report.error is not None:
            span.set_status(Status(StatusCode.ERROR, report.error.lower()))
        span.end()

    def _happened(
        self, name: str, seconds: float, attributes: Attributes, *, failure: str = "", link: str = ""
    ) -> None:
        _ended(self._tracer, name, seconds, attributes, failure=failure, link=link, context=self._below)


def _ended(  # noqa: PLR0913 what a span may have
    tracer: Tracer,
    name: str,
    seconds: float,
    attributes: Attributes,
    *,
    failure: str = "",
    link: str = "",
    context: Context | None = None,
    kind: SpanKind = SpanKind.INTERNAL,
) -> Span:
    """Make the span of what took so long and has ended now; without a context it begins a trace."""
    ended_ns = time.time_ns()
    began_ns = ended_ns - round(seconds * 1e9)
    linked = get_current_span(_context(link)).get_span_context()
    span = tracer.start_span(
        name,
        context=context or Context(),
        kind=kind,
        attributes={key: value for key, value in attributes.items() if value != ""},
        links=[Link(linked)] if linked.is_valid else [],
        start_time=began_ns,
    )
    if failure:
        span.set_status(Status(StatusCode.ERROR, failure))
    span.end(ended_ns)
    return span


def _exporter(options: TracingOptions) -> SpanExporter:
    return OTLPSpanExporter(
        endpoint=options.endpoint,
        insecure=options.endpoint.startswith("http:"),
        credentials=options.credentials,
        timeout=EXPORT_SECONDS,
        channel_options=_CHANNEL,
    )


def _context(traceparent: str) -> Context:
    """Read a span of somebody's; what is none begins a trace."""
    return _W3C.extract({"traceparent": traceparent}, Context())


def _traceparent(span: SpanContext) -> str:
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" if span.is_valid else ""


def _failure(result: str) -> str:
    return "" if result == "ok" else result


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
