"""Log lines: JSON, one a line, on stderr. The only place that configures structlog.

Libraries' warnings come out of the same renderer. `redaction` says what may stand in a line.
"""

import logging
import sys
from contextlib import suppress
from typing import Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.runtime.observers import SessionReport
from gateway.telemetry.redaction import clean

Level = Literal["debug", "info", "warning", "error"]

# Controls, line ends and what turns the writing direction, each as its number.
_VISIBLE: Final = {
    code: f"\\x{code:02x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A))
}
_log = structlog.get_logger(__name__)


def configure(level: Level = "info", stream: TextIO | None = None, *, pretty: bool = False) -> None:
    """Send all logs to `stream` (stderr): ours from `level` on, libraries' from WARNING on.

    `pretty` is for a developer's terminal. May be called again: the last call holds.
    """
    out = sys.stderr if stream is None else stream
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(),
            _clean,
            *(_console(out) if pretty else [structlog.processors.JSONRenderer()]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Lines(out),
        cache_logger_on_first_use=False,
    )
    _route_libraries()


def canonical(report: SessionReport) -> None:
    """Write the one line that tells of a session, at its end."""
    usage = report.usage
    _log.info(
        "session",
        session_id=report.session_id,
        pool=report.pool,
        tenant=report.principal.tenant,
        caller=report.principal.caller,
        correlation_id=report.correlation_id,
        upstream_session_id=report.upstream_session_id,
        source=report.source,
        reason=report.reason.name.lower(),
        error=report.error,
        duration_seconds=round(report.duration_seconds, 3),
        waited_ms=round(report.waited_seconds * 1000, 3),
        audio_in_bytes=report.audio_in_bytes,
        audio_out_bytes=report.audio_out_bytes,
        frames_in=report.frames_in,
        frames_out=report.frames_out,
        responses=report.responses,
        cost_dollars=None if report.cost_dollars is None else round(report.cost_dollars, 6),
        **{name: getattr(usage, name) for name in usage.__struct_fields__},
        **_trace_of(report),
    )


def _trace_of(report: SessionReport) -> dict[str, str]:
    """Return which trace the session is in, where one is kept: of W3C's four parts the second, by the fourth."""
    parts = report.trace.split("-")
    return {"trace_id": parts[1]} if parts[-1] == "01" else {}


class _Lines:
    """Writes whole lines. A log that cannot be written is no reason for a session to fail."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        # ValueError: the stream is closed, or has no such character.
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


class _Libraries(logging.Handler):
    """Hands the standard library's records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a library's own mistake in its format string
            message = str(record.msg)
        write = _log.error if record.levelno >= logging.ERROR else _log.warning
        write("library", logger=record.name, message=message, exc_info=record.exc_info)


def _route_libraries() -> None:
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries())
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


def _clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return clean(event)


def _console(out: TextIO) -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)
    return [_escape_controls, renderer]


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep a value from steering the terminal or faking a line; JSON does that by itself."""
    for name, value in event.items():
        if isinstance(value, str):
            kept = {ord("\n"): "\n"} if name == "exception" else {}
            event[name] = value.translate(_VISIBLE | kept)
    return event
