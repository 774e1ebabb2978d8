"""Who hears what the runtime does: ports for whoever counts and writes it down."""

from dataclasses import dataclass
from typing import Protocol

from gateway.core.errors import Reason
from gateway.core.events import ClosedReason, ResponseDone, Usage
from gateway.core.pool_limits import PoolStats
from gateway.core.principal import Principal
from gateway.runtime.ports import DialTimes


@dataclass(frozen=True, slots=True)
class SessionReport:
    """What is known of one session at its end: for the canonical log line and the counters."""

    session_id: str
    pool: str
    principal: Principal
    correlation_id: str
    upstream_session_id: str
    source: str
    reason: ClosedReason
    error: Reason | None
    duration_seconds: float
    waited_seconds: float
    audio_in_bytes: int
    audio_out_bytes: int
    frames_in: int
    frames_out: int
    responses: int
    usage: Usage
    # None = the prices of the model are not known.
    cost_dollars: float | None = None
    # The session's span, as W3C `traceparent` says it; empty = it has none.
    trace: str = ""


class PoolObserver(Protocol):
    """Hears what pools do. Every method returns at once and never raises."""

    def acquired(self, pool: str, result: str, waited_seconds: float) -> None:
        """One acquire ended: hit, wait, dialled, timeout, shed or cancelled."""

    def granted(self, pool: str, entry_age_seconds: float) -> None:
        """A line that had stood ready for so long was handed out."""

    def dialled(self, pool: str, result: str, times: DialTimes) -> str:
        """One dial ended: `ok` or a reason in lower case. Return its span, for who gets the line; empty = none."""

    def connection_closed(self, pool: str, reason: str) -> None:
        """One line is closed."""

    def idled(self, pool: str, seconds: float) -> None:
        """One line that nobody took had stood ready for so long."""

    def lease_ended(self, pool: str, held_seconds: float) -> None:
        """One lease ended."""


class SessionObserver(Protocol):
    """Hears what sessions do. Every method returns at once and never raises."""

    @property
    def trace(self) -> str:
        """The span of the session, as W3C `traceparent` says it; empty = it has none."""

    def of_session(self, parent: str) -> "SessionObserver":
        """A session begins, below the span `parent` (empty = none): return who hears what happens in it."""

    def leased(self, source: str, waited_seconds: float, dial: str) -> None:
        """The session has a line from now on, whose dial was the span `dial`."""

    def answered(self, done: ResponseDone) -> None:
        """An answer ended now."""

    def session_ended(self, report: SessionReport) -> None:
        """One session ended."""

    def first_audio(self, pool: str, since: str, seconds: float) -> None:
        """An answer's first audio came; `since` = speech_stopped or response_created."""

    def first_audible(self, pool: str, seconds: float) -> None:
        """An answer could first be heard so long after the caller stopped speaking, or after it was asked for."""

    def recovered(self, cause: str, result: str, seconds: float) -> None:
        """A lost line was replaced (`ok`), or not (`failed`), after so long."""

    def resumed(self, outcome: str, seconds: float) -> None:
        """A caller that came back was answered after so long: `reattached` to its line, or `rebuilt` on another."""

    def rotated(self, trigger: str, result: str, seconds: float) -> None:
        """A line was left before its end: `ok`, or `failed` where its successor was lost at once. It took so long."""

    def relayed(self, direction: str, seconds: float) -> None:
        """One sampled frame was passed on; direction = up or down."""

    def refused(self, reason: Reason) -> None:
        """A caller was told this reason."""


class PoolSource(Protocol):
    """Where gauges are read from at scrape time."""

    def stats(self) -> dict[str, PoolStats]:
        """Return every pool's numbers now."""
