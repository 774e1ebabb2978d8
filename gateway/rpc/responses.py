"""Core events → the contract's messages to a caller. One entry per event; a test finds a missing one."""

from collections.abc import Callable
from typing import Any, Final

from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.core import events as out
from gateway.core.errors import RETRYABLE

PROTOCOL_REVISION: Final = 1
FORMATS: Final = {
    "audio/pcm": types.AUDIO_FORMAT_PCM_24K,
    "audio/pcmu": types.AUDIO_FORMAT_PCMU,
    "audio/pcma": types.AUDIO_FORMAT_PCMA,
}
# What a resumable session has in force.
RESUMABLE: Final = (types.FEATURE_RESUMABLE, types.FEATURE_PLAYED_POSITION)
MOVING: Final = (*RESUMABLE, types.FEATURE_PLANNED_MOVE)
_Fields = dict[str, Any]


def line_source(source: out.LineSource) -> types.LineSource.ValueType:
    """Return where a line came from, in the contract's words."""
    return types.LineSource.Value(f"LINE_SOURCE_{source.name}")


def response(outgoing: out.Outgoing) -> session.ConverseResponse:
    """Return the message for one event with its numbers."""
    told = outgoing.event
    if type(told) is out.OutputAudio:  # the one that comes many times a second
        return _audio(told, outgoing)
    if type(told) is out.Stored:  # with the numbers that it had
        return session.ConverseResponse.FromString(told.message)
    message = session.ConverseResponse(
        seq=outgoing.seq, after_seq=outgoing.after_seq, epoch=outgoing.epoch, **_FORMS[type(told)](told)
    )
    if outgoing.durable is not None:
        message.durable = outgoing.durable
    return message


def _audio(told: out.OutputAudio, outgoing: out.Outgoing) -> session.ConverseResponse:
    message = session.ConverseResponse(after_seq=outgoing.after_seq, epoch=outgoing.epoch)
    # Filled in place: a message given to the constructor is copied, 8 KiB of audio with it.
    audio = message.audio
    audio.data = told.data
    audio.response_id = told.response_id
    audio.item_id = told.item_id
    audio.position = told.position
    return message


def usage(counted: out.Usage) -> types.Usage:
    """Return token counts."""
    return types.Usage(**{name: getattr(counted, name) for name in counted.__struct_fields__})


def durability(level: out.Durability) -> types.Durability.ValueType:
    """Return a durability."""
    return types.Durability.Value(f"DURABILITY_{level.name}")


def error(told: out.ErrorEvent) -> errors.Error:
    """Return an error inside a stream."""
    return errors.Error(
        reason=errors.ErrorReason.Value(f"ERROR_REASON_{told.reason.name}"),
        message=told.message,
        retryable=told.reason in RETRYABLE,
        upstream_code=told.upstream_code,
        client_event_id=told.client_event_id,
        cseq=told.cseq,
    )


def _opened(told: out.Opened) -> _Fields:
    return {
        "opened": session.Opened(
            session_id=told.session_id,
            upstream_session_id=told.upstream_session_id,
            owner_address=told.owner_address,
            durability=durability(told.durability),
            limits=session.Limits(
                message_max_bytes=told.message_max_bytes,
                gateway_message_max_bytes=told.gateway_message_max_bytes,
                session_life_max_seconds=told.session_life_max_seconds,
                session_idle_max_seconds=told.session_idle_max_seconds,
                resume_window_seconds=told.resume_window_seconds,
            ),
            heartbeat_ms=told.heartbeat_ms,
            window_bytes=told.window_bytes,
            features=MOVING if told.moves else RESUMABLE if told.resumable else (),
            resume_token=told.resume_token,
            config=session.ConfigState.Value(f"CONFIG_STATE_{told.config.name}"),
            source=line_source(told.source),
            entry_age_ms=told.entry_age_ms,
            waited_ms=told.waited_ms,
            template=told.template,
            template_version=told.template_version,
            model=told.model,
            input_format=FORMATS.get(told.input_format, types.AUDIO_FORMAT_UNSPECIFIED),
            output_format=FORMATS.get(told.output_format, types.AUDIO_FORMAT_UNSPECIFIED),
            correlation_id=told.correlation_id,
            protocol_revision=PROTOCOL_REVISION,
            caller=told.caller,
            metadata=told.metadata,
            opened_at_unix_ms=told.opened_at_unix_ms,
        )
    }


def _resumed(told: out.Resumed) -> _Fields:
    gap = session.SeqRange(**{"from": told.gap_from, "to": told.gap_to}) if told.gap_to else None
    return {
        "resumed": session.Resumed(
            session_id=told.session_id,
            outcome=session.ResumeOutcome.Value(f"RESUME_OUTCOME_{told.outcome.name}"),
            replay_to=told.replay_to,
            next_cseq=told.next_cseq,
            input_position_wanted=told.input_position_wanted,
            gap=gap,
            unrestored_items=told.unrestored_items,
            resume_token=told.resume_token,
            owner_address=told.owner_address,
            upstream_session_id=told.upstream_session_id,
            durability=durability(told.durability),
        )
    }


def _response_done(told: out.ResponseDone) -> _Fields:
    known = event.ResponseStatus.keys()
    status = f"RESPONSE_STATUS_{told.status.upper()}"
    return {
        "response_done": event.ResponseDone(
            response_id=told.response_id,
            status=event.ResponseStatus.Value(status if status in known else "RESPONSE_STATUS_UNSPECIFIED"),
            status_reason=told.status_reason,
            error_code=told.error_code,
            usage=usage(told.usage),
            timings=event.ResponseTimings(
                speech_stopped_to_first_audio_ms=told.speech_stopped_to_first_audio_ms,
                created_to_first_audio_ms=told.created_to_first_audio_ms,
                created_to_done_ms=told.created_to_done_ms,
            ),
            metadata=told.metadata,
        )
    }


def _interrupted(told: out.Interrupted) -> _Fields:
    return {
        "interrupted": event.Interrupted(
            response_id=told.response_id,
            item_id=told.item_id,
            cause=event.InterruptionCause.Value(f"INTERRUPTION_CAUSE_{told.cause.name}"),
            sent_samples=told.sent_samples,
            had_tool_calls=told.had_tool_calls,
        )
    }


def _closed(told: out.Closed) -> _Fields:
    return {
        "closed": event.Closed(
            reason=event.ClosedReason.Value(f"CLOSED_REASON_{told.reason.name}"),
            error=error(told.error) if told.error else None,
            usage=usage(told.usage),
            duration_ms=told.duration_ms,
            detail=told.detail,
        )
    }


def _rate_limits(told: out.RateLimits) -> _Fields:
    limits = [
        event.RateLimit(
            name=each.name,
            limit=each.limit,
            remaining=each.remaining,
            reset_seconds=each.reset_seconds,
        )
        for each in told.limits
    ]
    return {"rate_limits": event.RateLimits(limits=limits)}


def _state_changed(told: out.StateChanged) -> _Fields:
    return {
        "state_changed": event.StateChanged(
            state=types.SessionState.Value(f"SESSION_STATE_{told.state.name}"),
            durability=durability(told.durability),
            cause=told.cause,
            lost_from=told.lost_from,
            lost_to=told.lost_to,
            unrestored_items=told.unrestored_items,
        )
    }


def _plain(name: str, message: type[Any], **renamed: str) -> Callable[[Any], _Fields]:
    """Return the form of an event whose fields have the contract's names, but for `renamed`."""

    def form(told: Any) -> _Fields:
        fields = {renamed.get(f, f): getattr(told, f) for f in told.__struct_fields__}
        return {name: message(**fields)}

    return form


_FORMS: Final[dict[type[Any], Callable[[Any], _Fields]]] = {
    out.Opened: _opened,
    out.Queued: _plain("queued", event.Queued),
    out.GoAway: _plain("go_away", event.GoAway),
    out.Token: lambda told: {"token": event.Token(resume_token=told.resume_token)},
    out.Resumed: _resumed,
    out.Prepared: _plain("prepared", session.Prepared),
    # What they say stands in the acknowledgement.
    out.Beat: lambda _: {},
    out.ControlTaken: lambda _: {},
    out.TextDelta: _plain("text_delta", event.TextDelta),
    out.TranscriptDelta: _plain("transcript_delta", event.TranscriptDelta),
    out.UserTranscriptDelta: _plain("user_transcript", event.UserTranscript, delta="text"),
    out.UserTranscript: lambda told: {
        "user_transcript": event.UserTranscript(text=told.text, item_id=told.item_id, final=True, failure=told.failure)
    },
    out.SpeechStarted: _plain("speech_started", event.SpeechStarted),
    out.SpeechStopped: _plain("speech_stopped", event.SpeechStopped),
    out.InputCommitted: _plain("input_committed", event.InputCommitted),
    out.ItemDone: _plain("item_done", event.ItemDone),
    out.ItemDeleted: _plain("item_deleted", event.ItemDeleted),
    out.ItemTruncated: _plain("item_truncated", event.ItemTruncated),
    out.ToolCall: _plain("tool_call", event.ToolCall),
    out.ResponseCreated: _plain("response_created", event.ResponseCreated),
    out.ResponseDone: _response_done,
    out.Interrupted: _interrupted,
    out.RateLimits: _rate_limits,
    out.SessionUpdated: _plain("session_updated", event.SessionUpdated),
    out.ConfigRejected: lambda told: {
        "config_rejected": event.ConfigRejected(error=error(told.error), param=told.param)
    },
    out.StateChanged: _state_changed,
    out.ErrorEvent: lambda told: {"error": error(told)},
    out.Closed: _closed,
    out.Raw: lambda told: {"raw": event.RawServerEvent(json=told.json, part=told.part, parts=told.parts)},
}
