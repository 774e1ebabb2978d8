"""One event, one line of JSON, whatever is in it; libraries speak through the same mouth."""

import asyncio
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.errors import Reason
from gateway.core.events import ClosedReason, Usage
from gateway.core.principal import Principal
from gateway.runtime.observers import SessionReport
from gateway.telemetry.logs import canonical, configure
from gateway.telemetry.redaction import FIELDS, REDACTED

Reports = Callable[..., SessionReport]
CANARY = "cAnary7Zz"
INJECTIONS = [
    'call\n{"event": "session", "tenant": "other"}',
    "call\r\nX-Injected: yes",
    "\x1b[2J\x1b[31mred",
    "\x00\x07\x08\x7f\x85",
    "line\u2028separator\u2029paragraph",
    "\u202eright to left",
    '"},{"event":"x',
    "\ud800 lone surrogate",
    "back\\slash \\n",
]


@dataclass
class Log:
    """What was written, as text and as parsed lines."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture(name="log")
def _log() -> Iterator[Log]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    log = Log()
    configure("debug", log.stream)
    yield log
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_a_line_has_time_level_and_event(log: Log) -> None:
    structlog.get_logger().warning("dial_failed", pool="default")
    (line,) = log.lines
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "dial_failed", "level": "warning", "pool": "default"}


def test_a_session_ends_with_one_line_that_tells_all(log: Log, report: Reports) -> None:
    canonical(report(error=Reason.UPSTREAM_CLOSED, reason=ClosedReason.UPSTREAM))
    (line,) = log.lines
    del line["timestamp"]
    assert line == {
        "event": "session",
        "level": "info",
        "session_id": "0192f3a4b5c6",
        "pool": "default",
        "tenant": "acme",
        "caller": "billing-bot",
        "correlation_id": "call-17",
        "upstream_session_id": "sess_DkX9aBcD",
        "source": "WARM",
        "reason": "upstream",
        "error": "UPSTREAM_CLOSED",
        "duration_seconds": 12.346,
        "waited_ms": 1.2,
        "audio_in_bytes": 480_000,
        "audio_out_bytes": 96_000,
        "frames_in": 500,
        "frames_out": 77,
        "responses": 3,
        "cost_dollars": None,
        **dict.fromkeys(Usage.__struct_fields__, 0),
        "input_tokens": 120,
        "output_tokens": 45,
        "input_audio_tokens": 100,
    }


@pytest.mark.parametrize("injected", INJECTIONS)
def test_a_caller_cannot_forge_a_line(log: Log, report: Reports, injected: str) -> None:
    principal = Principal(injected, injected, frozenset())
    canonical(report(correlation_id=injected, principal=principal))
    assert log.text.count("\n") == 1
    assert re.fullmatch(r"[\x20-\x7e]+\n", log.text)
    assert log.lines[0]["correlation_id"] == injected


def test_a_correlation_id_is_cut(log: Log, report: Reports) -> None:
    canonical(report(correlation_id="call " * 1_000))
    assert len(log.lines[0]["correlation_id"]) == 129


@given(
    fields=st.dictionaries(
        st.sampled_from(sorted(FIELDS.keys() - {"event", "level", "timestamp"})),
        st.one_of(st.text(), st.floats(), st.integers(), st.binary(), st.none(), st.lists(st.text())),
        max_size=5,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_logged_is_one_line_of_json(log: Log, fields: dict[str, Any]) -> None:
    before = len(log.lines)
    structlog.get_logger().info("anything", **fields)
    assert len(log.lines) == before + 1
    line = log.text.splitlines()[-1]
    json.loads(line, parse_constant=pytest.fail)


def test_an_event_is_a_word_and_never_a_sentence(log: Log) -> None:
    structlog.get_logger().info(f"user said {CANARY}")
    assert log.lines[0]["event"] == REDACTED


def test_an_exception_shows_its_frames_and_neither_locals_nor_keys(log: Log) -> None:
    def dial() -> None:
        secret = f"local-{CANARY}"
        message = f"401 for sk-{CANARY}{len(secret)}"
        raise ConnectionError(message)

    try:
        dial()
    except ConnectionError:
        structlog.get_logger().exception("task_failed", task="pool:default:dial")
    (line,) = log.lines
    assert "in dial" in line["exception"]
    assert f"ConnectionError: 401 for {REDACTED}" in line["exception"]
    assert CANARY not in log.text


def test_a_cause_and_a_group_are_shown_without_their_keys(log: Log) -> None:
    inner = ValueError(f"tl_{CANARY}")
    inner.add_note(f"Authorization: Bearer {CANARY}")
    group = ExceptionGroup("two of them", [inner, OSError(f"Bearer {CANARY}")])
    structlog.get_logger().error("task_failed", exc_info=group)
    assert "two of them" in log.lines[0]["exception"]
    assert CANARY not in log.text


def test_a_long_traceback_keeps_its_end(log: Log) -> None:
    error = ValueError("\n".join(f"line {n} of many words" for n in range(2_000)) + "\nthe end")
    structlog.get_logger().error("task_failed", exc_info=error)
    shown = log.lines[0]["exception"]
    assert shown.rstrip().endswith("the end")
    assert len(shown) <= 8_001


@pytest.mark.parametrize("library", ["grpc._server", "aiohttp.server", "asyncio", "websockets"])
def test_libraries_warn_in_our_format_and_else_are_silent(log: Log, library: str) -> None:
    logger = logging.getLogger(library)
    logger.debug("frame %s", CANARY)
    logger.info("connected")
    logger.warning("slow: %s", f"Bearer {CANARY}")
    (line,) = log.lines
    del line["timestamp"]
    assert line == {
        "event": "library",
        "level": "warning",
        "logger": library,
        "message": f"slow: {REDACTED}",
    }


def test_a_librarys_bad_format_string_is_no_error(log: Log) -> None:
    (ours,) = (each for each in logging.getLogger().handlers if "telemetry" in type(each).__module__)
    ours.handle(logging.LogRecord("grpc", logging.ERROR, "", 0, "%d of %d", ("x",), None))
    assert log.lines[0]["message"] == "%d of %d"


async def test_a_task_that_nobody_awaited_is_logged_as_json(log: Log) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": "nobody asked", "exception": ValueError(f"sk-{CANARY}")}
    )
    assert log.lines[0]["logger"] == "asyncio"
    assert CANARY not in log.text


def test_a_process_writes_nothing_but_json() -> None:
    program = (
        "import logging, warnings; from gateway.telemetry.logs import configure; configure();"
        "warnings.warn('old api'); logging.getLogger('grpc').error('lost')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert ended.stdout == ""
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["py.warnings", "grpc"]


def test_context_of_a_stream_is_part_of_its_lines(log: Log) -> None:
    with structlog.contextvars.bound_contextvars(session_id="s1", plan="x"):
        structlog.get_logger().info("session_state", state="active")
    assert log.lines[0]["session_id"] == "s1"
    assert log.lines[0]["dropped_fields"] == ["plan"]


@pytest.mark.usefixtures("log")
def test_a_level_silences_what_is_below() -> None:
    stream = io.StringIO()
    configure("error", stream)
    structlog.get_logger().warning("quiet")
    logging.getLogger("grpc").warning("quiet")
    structlog.get_logger().error("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


def test_configuring_twice_logs_once(log: Log) -> None:
    configure("info", log.stream)
    logging.getLogger("grpc").warning("once")
    assert len(log.lines) == 1


@pytest.mark.usefixtures("log")
def test_a_log_that_cannot_be_written_stops_nobody(report: Reports) -> None:
    class Broken(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for stream in (Broken(), closed):
        configure("info", stream)
        canonical(report())


@pytest.mark.usefixtures("log")
def test_a_developers_lines_cannot_steer_the_terminal() -> None:
    stream = io.StringIO()
    configure("info", stream, pretty=True)
    for injected in INJECTIONS:
        structlog.get_logger().info("session", correlation_id=injected)
    structlog.get_logger().error("task_failed", exc_info=ValueError("a\x1b[2Jb"))
    assert "\\x1b[2J" in stream.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", stream.getvalue())
    assert len([x for x in stream.getvalue().splitlines() if "session" in x]) == len(INJECTIONS)
