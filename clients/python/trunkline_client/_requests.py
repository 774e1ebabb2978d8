"""The messages that both shells send. Pure: arguments in, contract messages out."""

import json
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from trunkline.v1.control_pb2 import (
    OUTPUT_MODALITY_TEXT,
    OUTPUT_MODALITY_UNSPECIFIED,
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_USER,
    CancelResponse,
    ClearAudio,
    CommitAudio,
    Control,
    CreateResponse,
    RawEvent,
    Role,
    SessionOverrides,
    TextInput,
    ToolResult,
    TruncateItem,
    UpdateSession,
)
from trunkline.v1.lease_pb2 import AcquireResponse
from trunkline.v1.session_pb2 import Bye, ConverseRequest, Greet, HistoryItem, Open
from trunkline.v1.types_pb2 import FEATURE_PLANNED_MOVE, FEATURE_PLAYED_POSITION, FEATURE_RESUMABLE

from trunkline_client.inputs import Speaker

# The revision of the contract that this client was written for: the first.
PROTOCOL_REVISION: Final = 0
# What ends a session of which nothing is known but that it was asked for.
UNASK: Final = ConverseRequest(bye=Bye(now=True), cseq=1)

_FEATURES: Final = (FEATURE_RESUMABLE, FEATURE_PLAYED_POSITION, FEATURE_PLANNED_MOVE)
_ROLES: Final[Mapping[Speaker, Role.ValueType]] = {
    "user": ROLE_USER,
    "assistant": ROLE_ASSISTANT,
    "system": ROLE_SYSTEM,
}


def open_message(  # noqa: PLR0913 - one argument for each field of `Open`
    template: str,
    *,
    overrides: SessionOverrides | None,
    instructions: str | None,
    voice: str | None,
    correlation_id: str,
    metadata: Mapping[str, str] | None,
    history: Iterable[HistoryItem],
    lease_token: str,
    safety_identifier: str,
    greet: Greet | None,
    wait_max_ms: int,
    life_max_seconds: int,
    idle_max_seconds: int,
    resumable: bool,
) -> Open:
    """Return the first message; `instructions` and `voice` win over `overrides`."""
    return Open(
        template=template,
        overrides=_merged(overrides, instructions, voice),
        correlation_id=correlation_id,
        metadata=metadata,
        history=history,
        lease_token=lease_token,
        safety_identifier=safety_identifier,
        greet=greet,
        wait_max_ms=wait_max_ms,
        life_max_seconds=life_max_seconds,
        idle_max_seconds=idle_max_seconds,
        features=_FEATURES if resumable else (),
        protocol_revision=PROTOCOL_REVISION,
    )


class Acquired(Protocol):
    """A reservation of either kind."""

    @property
    def acquired(self) -> AcquireResponse:
        """What the gateway answered. Raises NOT_OPEN before."""


def token_of(lease: Acquired | None, lease_token: str) -> str:
    """Return what `open` shows. Raises ValueError for two reservations, NOT_OPEN before one is made."""
    if lease is None:
        return lease_token
    if lease_token:
        raise ValueError("give lease or lease_token, not both")
    return lease.acquired.lease_token


def _merged(overrides: SessionOverrides | None, instructions: str | None, voice: str | None) -> SessionOverrides | None:
    if instructions is None and voice is None:
        return overrides
    merged = SessionOverrides()
    if overrides is not None:
        merged.CopyFrom(overrides)
    merged.MergeFrom(SessionOverrides(instructions=instructions, voice=voice))
    return merged


def text(words: str, role: Speaker, item_id: str) -> Control:
    """Add words to the conversation."""
    return Control(text=TextInput(text=words, role=_ROLES[role], item_id=item_id))


def commit() -> Control:
    """End the user's turn."""
    return Control(commit=CommitAudio())


def clear() -> Control:
    """Forget the audio that was not committed."""
    return Control(clear=ClearAudio())


def create_response(
    instructions: str | None,
    metadata: Mapping[str, str] | None,
    *,
    text_only: bool,
    out_of_band: bool,
) -> Control:
    """Ask for an answer."""
    modality = OUTPUT_MODALITY_TEXT if text_only else OUTPUT_MODALITY_UNSPECIFIED
    return Control(
        create_response=CreateResponse(
            instructions=instructions,
            output_modality=modality,
            metadata=metadata,
            out_of_band=out_of_band,
        )
    )


def cancel(response_id: str) -> Control:
    """Stop an answer."""
    return Control(cancel=CancelResponse(response_id=response_id))


def truncate(item_id: str, audio_end_ms: int, content_index: int) -> Control:
    """Cut an answer at what was heard."""
    return Control(truncate=TruncateItem(item_id=item_id, audio_end_ms=audio_end_ms, content_index=content_index))


def tool_result(call_id: str, output: str, *, create_response: bool) -> Control:
    """Answer one tool call."""
    return Control(tool_result=ToolResult(call_id=call_id, output=output, create_response=create_response))


def update(overrides: SessionOverrides) -> Control:
    """Change the configuration."""
    return Control(update_session=UpdateSession(overrides=overrides))


def raw(event: str | Mapping[str, object]) -> Control:
    """Carry one of the provider's client events, untouched."""
    return Control(raw=RawEvent(json=event if isinstance(event, str) else json.dumps(event)))
