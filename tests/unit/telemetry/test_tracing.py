"""What a session did stands in one trace, below its caller's own span; what a dial took, in another one."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from gateway.core.errors import Reason
from gateway.core.events import ResponseDone, Usage
from gateway.runtime.observers import SessionReport
from gateway.runtime.ports import DialTimes
from gateway.telemetry.logs import canonical
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import ATTRIBUTE_MAX, STOP_SECONDS, TracedPools, TracedSessions, Tracing, TracingOptions
from tests.support.ports import free_port

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from gateway.runtime.observers import PoolObserver, SessionObserver

    def _ports(tracer: Tracer) -> tuple[PoolObserver, SessionObserver]:
        """The ports are kept: mypy reads this."""
        return TracedPools(Metrics(), tracer), TracedSessions(Metrics(), tracer)


Reports = Callable[..., SessionReport]
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
CALLER: Final = f"00-{TRACE}-b7ad6b7169203331-01"
UNSAMPLED: Final = f"00-{TRACE}-b7ad6b7169203331-00"
ROOT: Final = Path(__file__).parents[3]
NOWHERE: Final = "http://127.0.0.1:1"


class Scene:
    """Traced pools and sessions, and the spans that have left."""

    def __init__(self, sample_ratio: float = 1.0) -> None:
        self.out = InMemorySpanExporter()
        options = TracingOptions(NOWHERE, sample_ratio=sample_ratio, instance="10.0.0.1:50051", version="1")
        self.tracing = Tracing(options, self.out)
        self.reports: list[SessionReport] = []
        self.metrics = Metrics()
        self.pools = TracedPools(self.metrics, self.tracing.tracer)
        self.sessions = TracedSessions(self.metrics, self.tracing.tracer, self.reports.append)

    async def spans(self, what: Callable[[], object]) -> dict[str, ReadableSpan]:
        async with self.tracing:
            what()
        return {span.name: span for span in self.out.get_finished_spans()}


def done(**changes: object) -> ResponseDone:
    fields: dict[str, object] = {
        "response_id": "resp_1",
        "status": "completed",
        "status_reason": "",
        "error_code": "",
        "usage": Usage(input_tokens=7, output_tokens=11),
        "speech_stopped_to_first_audio_ms": 900,
        "created_to_first_audio_ms": 400,
        "created_to_done_ms": 2_000,
        "metadata": {},
    }
    return ResponseDone(**{**fields, **changes})  # type: ignore[arg-type]  # a test's own choice


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


async def test_all_of_a_session_is_one_trace_below_its_callers_span(report: Reports) -> None:
    scene = Scene()

    def live() -> None:
        observer = scene.sessions.of_session(CALLER)
        observer.leased("warm", 0.002, scene.pools.dialled("default", "ok", DialTimes({"tcp": 0.1}, 0.5)))
        observer.answered(done())
        observer.recovered("line_lost", "ok", 0.3)
        observer.rotated("expiry", "ok", 0.1)
        observer.resumed("rebuilt", 0.05)
        observer.session_ended(report(trace=observer.trace))

    spans = await scene.spans(live)

    assert set(spans) == {"session", "acquire", "turn", "recover", "rotate", "resume", "dial"}
    session = spans["session"]
    assert session.parent is not None
    assert f"{session.parent.span_id:016x}" == CALLER.split("-")[2]
    below = [span for name, span in spans.items() if name not in ("session", "dial")]
    assert {span.parent.span_id for span in below if span.parent} == {session.context.span_id}
    assert {f"{span.context.trace_id:032x}" for span in [session, *below]} == {TRACE}


async def test_a_line_is_linked_to_its_dial_which_is_a_trace_of_its_own() -> None:
    scene = Scene()

    def live() -> None:
        dial = scene.pools.dialled("default", "ok", DialTimes({"tcp": 0.1, "tls": 0.2}, 0.5))
        scene.sessions.of_session(CALLER).leased("warm", 0.0, dial)

    spans = await scene.spans(live)
    dial = spans["dial"]
    assert [link.context.span_id for link in spans["acquire"].links] == [dial.context.span_id]
    assert (dial.parent, f"{dial.context.trace_id:032x}" == TRACE) == (None, False)
    assert dict(dial.attributes or {}) == {
        "trunkline.pool": "default",
        "trunkline.dial.tcp_ms": 100,
        "trunkline.dial.tls_ms": 200,
    }
    assert seconds(dial) == pytest.approx(0.5, abs=0.001)


async def test_a_turn_lasts_from_the_end_of_speech_to_the_end_of_the_answer() -> None:
    scene = Scene()
    spans = await scene.spans(lambda: scene.sessions.of_session("").answered(done()))
    turn = spans["turn"]
    assert seconds(turn) == pytest.approx(2.5, abs=0.001)
    attributes = turn.attributes or {}
    assert (attributes["trunkline.first_audio_ms"], attributes["trunkline.from"]) == (900, "speech_stopped")
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (7, 11)


@pytest.mark.parametrize(
    ("status", "failed"), [("completed", False), ("cancelled", False), ("failed", True), ("incomplete", True)]
)
async def test_an_answer_that_failed_is_an_error_and_one_that_was_cut_is_none(status: str, *, failed: bool) -> None:
    scene = Scene()
    spans = await scene.spans(lambda: scene.sessions.of_session("").answered(done(status=status)))
    assert (not spans["turn"].status.is_ok and not spans["turn"].status.is_unset) == failed


async def test_what_failed_is_an_error_with_its_reason(report: Reports) -> None:
    scene = Scene()

    def live() -> None:
        scene.pools.dialled("default", "upstream_refused_key", DialTimes())
        observer = scene.sessions.of_session("")
        observer.recovered("line_lost", "failed", 20.0)
        observer.session_ended(report(error=Reason.UPSTREAM_CLOSED))

    spans = await scene.spans(live)
    words = {name: span.status.description for name, span in spans.items()}
    assert words == {"dial": "upstream_refused_key", "recover": "failed", "session": "upstream_closed"}


async def test_spans_are_counted_and_logged_as_without_them(report: Reports) -> None:
    scene = Scene()

    def live() -> None:
        scene.pools.dialled("default", "ok", DialTimes({"tcp": 0.1}))
        observer = scene.sessions.of_session("")
        observer.recovered("line_lost", "ok", 0.1)
        observer.session_ended(report())

    await scene.spans(live)
    counted = scene.metrics.registry.get_sample_value
    assert counted("trunkline_dials_total", {"pool": "default", "result": "ok"}) == 1
    assert counted("trunkline_recoveries_total", {"cause": "line_lost", "result": "ok"}) == 1
    assert len(scene.reports) == 1


async def test_no_name_of_a_caller_stands_in_a_span(report: Reports) -> None:
    scene = Scene()
    spans = await scene.spans(lambda: scene.sessions.of_session(CALLER).session_ended(report()))
    told = report()
    words = str(spans["session"].to_json())
    for secret in (told.principal.tenant, told.principal.caller, told.correlation_id):
        assert secret not in words


async def test_a_caller_decides_whether_its_session_is_traced() -> None:
    def live(scene: Scene, parent: str) -> Callable[[], None]:
        return lambda: scene.sessions.of_session(parent).answered(done())

    never, always = Scene(sample_ratio=0.0), Scene(sample_ratio=1.0)
    assert set(await never.spans(live(never, CALLER))) == {"turn"}
    assert set(await always.spans(live(always, UNSAMPLED))) == set()
    silent = Scene(sample_ratio=0.0)
    assert set(await silent.spans(live(silent, ""))) == set()


@pytest.mark.parametrize("parent", ["", "junk", "00-" + "0" * 32 + "-b7ad6b7169203331-01", "ä" * 55, CALLER + "-more"])
async def test_what_is_no_span_begins_a_trace_and_never_fails_a_call(parent: str) -> None:
    scene = Scene()
    spans = await scene.spans(lambda: scene.sessions.of_session(parent).answered(done()))
    assert f"{spans['turn'].context.trace_id:032x}" not in ("0" * 32, TRACE)


async def test_a_span_goes_on_where_another_gateway_takes_the_session_over() -> None:
    scene = Scene()

    def live() -> None:
        first = scene.sessions.of_session(CALLER)
        scene.sessions.of_session(first.trace).answered(done())

    spans = await scene.spans(live)
    assert f"{spans['turn'].context.trace_id:032x}" == TRACE


async def test_a_words_length_is_bounded() -> None:
    scene = Scene()
    spans = await scene.spans(lambda: scene.sessions.of_session("").answered(done(status_reason="x" * 10_000)))
    assert len(str((spans["turn"].attributes or {})["trunkline.status_reason"])) == ATTRIBUTE_MAX


async def test_a_collector_that_takes_and_never_answers_holds_no_stop_up() -> None:
    """Also at the end of the process: no thread is waited for."""
    program = """
import asyncio, socket, sys, time
from gateway.runtime.ports import DialTimes
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import TracedPools, Tracing, TracingOptions

async def main():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", int(sys.argv[1])))
        silent.listen()
        async with Tracing(TracingOptions(f"http://127.0.0.1:{sys.argv[1]}")) as tracing:
            pools = TracedPools(Metrics(), tracing.tracer)
            for _ in range(2_000):
                pools.dialled("default", "ok", DialTimes({}, 0.1))
            began = time.monotonic()
        print(time.monotonic() - began)

asyncio.run(main())
print("over")
"""
    began = time.monotonic()
    command = [sys.executable, "-c", program, str(free_port())]
    ended = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=30, check=True, cwd=ROOT
    )
    seconds, over = ended.stdout.split()
    assert float(seconds) < STOP_SECONDS + 1.0
    assert over == "over"
    assert time.monotonic() - began < STOP_SECONDS + 6.0  # what it takes to begin is in that


@pytest.mark.parametrize(("trace", "logged"), [(CALLER, TRACE), (UNSAMPLED, None), ("", None)])
def test_the_log_leads_to_a_trace_that_is_kept_and_to_no_other(report: Reports, trace: str, logged: str | None) -> None:
    with capture_logs() as logs:
        canonical(report(trace=trace))
    assert logs[0].get("trace_id") == logged
