"""What a session says of itself: `opened` at its beginning, the report at its end."""

import time
from typing import TYPE_CHECKING

from gateway.core import events as out
from gateway.core.errors import GatewayError
from gateway.core.prices import dollars
from gateway.core.principal import Principal
from gateway.core.template import Template
from gateway.runtime.lease import LeasedLine
from gateway.runtime.observers import SessionReport
from gateway.runtime.session_options import Ending, SessionOptions, SessionParts

if TYPE_CHECKING:
    from gateway.runtime.session import LiveSession


def life_max_seconds(request: out.OpenRequest, options: SessionOptions) -> int:
    """How long the session may live."""
    return bounded(request.life_max_seconds, options.session_life_max_seconds)


def idle_max_seconds(request: out.OpenRequest, options: SessionOptions) -> int:
    """How long nothing may happen in it."""
    return bounded(request.idle_max_seconds, options.session_idle_max_seconds)


def bounded(asked: int, limit: int) -> int:
    """What the caller asked for, within the gateway's limit; 0 asks for the limit."""
    return min(asked, limit) if asked else limit


def opened(
    session: "LiveSession", line: LeasedLine, template: Template, parts: SessionParts, resume_token: str
) -> out.Opened:
    """What the caller learns when it has its line; `resume_token` empty = its stream is a plain one."""
    options, turns, request = parts.options, session.conversation.turns, session.request
    return out.Opened(
        session_id=session.id,
        upstream_session_id=session.upstream_session_id,
        owner_address=parts.owner_address,
        durability=parts.lanes.store.durability,
        message_max_bytes=options.message_max_bytes,
        gateway_message_max_bytes=options.gateway_message_max_bytes,
        session_life_max_seconds=life_max_seconds(request, options),
        session_idle_max_seconds=idle_max_seconds(request, options),
        heartbeat_ms=options.heartbeat_ms,
        config=out.ConfigState.APPLIED if line.is_configured and not request.overrides else out.ConfigState.SENT,
        source=line.source,
        entry_age_ms=round(line.entry_age_seconds * 1000),
        waited_ms=round(line.waited_seconds * 1000),
        template=template.name,
        template_version=template.version,
        model=template.line_class.model,
        input_format=turns.input_format.name,
        output_format=turns.output_format.name,
        correlation_id=request.correlation_id,
        caller=session.principal.caller,
        metadata=request.metadata,
        opened_at_unix_ms=time.time_ns() // 1_000_000,
        resumable=request.resumable,
        moves=request.moves,
        resume_token=resume_token,
        window_bytes=options.resume.window_bytes if request.resumable else 0,
        resume_window_seconds=options.resume.window_seconds if request.resumable else 0,
    )


def total_usage(session: "LiveSession") -> out.Usage:
    """What a session has used, also at the gateways that had it before."""
    return session.used_before + session.conversation.tally.usage


def unopened(principal: Principal, error: GatewayError | None, seconds: float) -> SessionReport:
    """What is known of a stream that never became a session; no error = its caller went."""
    reason = out.ClosedReason.REFUSED if error else out.ClosedReason.BYE_NOW
    return SessionReport(
        session_id="",
        pool="",
        principal=principal,
        correlation_id="",
        upstream_session_id="",
        source="",
        reason=reason,
        error=error.reason if error else None,
        duration_seconds=seconds,
        waited_seconds=0.0,
        audio_in_bytes=0,
        audio_out_bytes=0,
        frames_in=0,
        frames_out=0,
        responses=0,
        usage=out.Usage(),
    )


def report(session: "LiveSession", ending: Ending, now: float) -> SessionReport:
    """What is known of the session at its end."""
    line, tally, error = session.first_line, session.conversation.tally, ending.error
    return SessionReport(
        session_id=session.id,
        pool=session.pool,
        principal=session.principal,
        correlation_id=session.request.correlation_id,
        upstream_session_id=session.upstream_session_id,
        source=line.source.name.lower() if line else "",
        reason=ending.reason,
        error=error.reason if error else None,
        duration_seconds=now - session.started_at,
        waited_seconds=line.waited_seconds if line else 0.0,
        audio_in_bytes=tally.audio_in_bytes,
        audio_out_bytes=tally.audio_out_bytes,
        frames_in=tally.frames_in,
        frames_out=tally.frames_out,
        responses=tally.responses,
        usage=tally.usage,
        cost_dollars=dollars(session.model, tally.usage),
        trace=session.observer.trace,
    )
