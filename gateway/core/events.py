"""What a session tells its caller, and what a caller asks of it, as values.

They mirror the contract's messages, without knowing it. Audio from the caller has no class of its
own: it travels as plain `bytes`.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from msgspec import Struct

from gateway.core.errors import GatewayError, Reason
from gateway.core.session import SessionState


class LineSource(Enum):
    """Where a line came from."""

    WARM = auto()
    WAITED = auto()
    DIALLED = auto()


class Durability(Enum):
    """What outlives what: nothing, the stream, or the gateway process."""

    NONE = auto()
    PROCESS = auto()
    REPLICATED = auto()


class ConfigState(Enum):
    """Whether the provider has confirmed the configuration, or it is on its way."""

    APPLIED = auto()
    SENT = auto()


class InterruptionCause(Enum):
    """Why an answer was cut."""

    SPEECH = auto()
    CANCELLED = auto()
    UPSTREAM_LOST = auto()
    STUCK = auto()
    OVERRUN = auto()


class ClosedReason(Enum):
    """Why a session ended."""

    BYE = auto()
    BYE_NOW = auto()
    LIFE_OVER = auto()
    IDLE = auto()
    DRAINING = auto()
    SLOW_CALLER = auto()
    UPSTREAM = auto()
    STORE = auto()
    SUPERSEDED = auto()
    KILLED = auto()
    INTERNAL = auto()
    REFUSED = auto()


class Usage(Struct, frozen=True):
    """Tokens, as the provider counts them."""

    input_tokens: int = 0
    output_tokens: int = 0
    input_text_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    input_cached_tokens: int = 0
    output_text_tokens: int = 0
    output_audio_tokens: int = 0
    output_reasoning_tokens: int = 0
    input_cached_text_tokens: int = 0
    input_cached_audio_tokens: int = 0
    input_cached_image_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        """Add up, field by field."""
        return Usage(*(getattr(self, f) + getattr(other, f) for f in self.__struct_fields__))


# From the caller.


class Greet(Struct, frozen=True):
    """Let the model speak first; for `guard_ms` after its first audio the caller's hello does not cut it."""

    instructions: str = ""
    guard_ms: int = 0


class OpenRequest(Struct, frozen=True):
    """Ask for a line. `overrides` is a merge patch on the template's session object.

    An empty template is the reservation's, or `default`.
    """

    template: str = ""
    overrides: Mapping[str, Any] = {}
    resumable: bool = False
    # Its caller moves by itself, by PREPARE and CLAIM, when it is asked to.
    moves: bool = False
    lease_token: str = ""
    safety_identifier: str = ""
    metadata: Mapping[str, str] = {}
    correlation_id: str = ""
    life_max_seconds: int = 0
    idle_max_seconds: int = 0
    wait_max_ms: int = 0
    # What was said before, already in the provider's words: client events in order.
    history: tuple[Mapping[str, Any], ...] = ()
    greet: Greet | None = None
    # Names of fields that were set and are not served yet.
    unserved: tuple[str, ...] = ()


class OutputPosition(Struct, frozen=True):
    """How far a caller has come with an item, in samples since the item's start."""

    item_id: str = ""
    received: int = 0
    played: int = 0


class CallerAck(Struct, frozen=True):
    """What a caller has applied, and read of its present stream."""

    seq: int = 0
    read_bytes: int = 0
    output: OutputPosition = OutputPosition()


class EpochStart(Struct, frozen=True):
    """With which number an owner of the session began, as its caller saw it."""

    epoch: int
    first_seq: int


class ResumeRequest(Struct, frozen=True):
    """Go on with a session. `input_kept_from` in samples since the session began."""

    token: str
    # Nothing is claimed yet: a line is to be made ready.
    prepares: bool = False
    last_seq: int = 0
    epochs: tuple[EpochStart, ...] = ()
    input_kept_from: int = 0
    output: OutputPosition = OutputPosition()


class Bye(Struct, frozen=True):
    """No more input; `now` cuts."""

    now: bool = False
    cseq: int = 0


class Control(Struct, frozen=True):
    """One request to the session, already in the provider's words: client events in order."""

    client_events: tuple[Mapping[str, Any], ...]
    cseq: int = 0


class Refused(Struct, frozen=True):
    """A frame that cannot be carried out; the stream goes on."""

    error: GatewayError
    cseq: int = 0


class Ack(Struct, frozen=True):
    """An acknowledgement that travels alone."""


CallerMessage = bytes | Control | Bye | OpenRequest | ResumeRequest | Refused | Ack


# To the caller: live lane (class N), never held.


class OutputAudio(Struct, frozen=True, gc=False):
    """A piece of the model's speech; `position` in samples since the item's start."""

    data: bytes
    response_id: str
    item_id: str
    position: int


class TextDelta(Struct, frozen=True, gc=False):
    """A piece of a written answer."""

    delta: str
    response_id: str
    item_id: str


class TranscriptDelta(Struct, frozen=True, gc=False):
    """A piece of a spoken answer's transcript."""

    delta: str
    response_id: str
    item_id: str


class UserTranscriptDelta(Struct, frozen=True, gc=False):
    """A piece of what the user said."""

    delta: str
    item_id: str


class SpeechStarted(Struct, frozen=True):
    """The user began to speak; milliseconds of audio sent in this session."""

    item_id: str
    audio_start_ms: int


class SpeechStopped(Struct, frozen=True):
    """The user stopped."""

    item_id: str
    audio_end_ms: int


class ResponseCreated(Struct, frozen=True):
    """An answer began."""

    response_id: str
    metadata: Mapping[str, str]


class RateLimit(Struct, frozen=True):
    """One limit of the account."""

    name: str
    limit: int
    remaining: int
    reset_seconds: float


class RateLimits(Struct, frozen=True):
    """The account's limits as last told."""

    limits: tuple[RateLimit, ...]


class Raw(Struct, frozen=True, gc=False):
    """An event of the provider without a typed form, untouched; a large one comes in `parts`."""

    json: bytes
    part: int = 0
    parts: int = 1


class Queued(Struct, frozen=True):
    """The caller's place among those who wait."""

    position: int
    waited_ms: int
    remaining_ms: int


class GoAway(Struct, frozen=True):
    """The caller should leave, or move, before so long."""

    reason: str
    deadline_ms: int


class Token(Struct, frozen=True):
    """What `resume` shows from now on; `number` counts an owner's tokens."""

    resume_token: str
    number: int = 0


class ResumeOutcome(Enum):
    """What a caller came back to: its line, or one that is rebuilt from what was said."""

    REATTACHED = auto()
    REBUILT = auto()


class Resumed(Struct, frozen=True):
    """The session goes on, on another stream: what follows at once, what is wanted again, what is missing."""

    session_id: str
    outcome: ResumeOutcome
    replay_to: int
    next_cseq: int
    input_position_wanted: int
    resume_token: str
    owner_address: str
    upstream_session_id: str
    durability: Durability
    # Of the token.
    number: int = 0
    # Numbers of events that are lost, both included; 0 = none.
    gap_from: int = 0
    gap_to: int = 0
    unrestored_items: tuple[str, ...] = ()


class Prepared(Struct, frozen=True):
    """The session could be taken over at once: a line was told everything up to event `seq`."""

    seq: int


class Beat(Struct, frozen=True):
    """Nothing but what has been taken of the caller's."""


LiveEvent = (
    OutputAudio
    | TextDelta
    | TranscriptDelta
    | UserTranscriptDelta
    | SpeechStarted
    | SpeechStopped
    | ResponseCreated
    | RateLimits
    | Raw
    | Queued
    | GoAway
    | Token
    | Resumed
    | Prepared
    | Beat
)


# To the caller: control lane (class L), numbered, in order, stored first.


class Opened(Struct, frozen=True):
    """The session has its line."""

    session_id: str
    upstream_session_id: str
    owner_address: str
    durability: Durability
    message_max_bytes: int
    gateway_message_max_bytes: int
    session_life_max_seconds: int
    session_idle_max_seconds: int
    heartbeat_ms: int
    config: ConfigState
    source: LineSource
    entry_age_ms: int
    waited_ms: int
    template: str
    template_version: str
    model: str
    input_format: str
    output_format: str
    correlation_id: str
    caller: str = ""
    metadata: Mapping[str, str] = {}
    opened_at_unix_ms: int = 0
    # Of a session that outlives its stream.
    resumable: bool = False
    moves: bool = False
    resume_token: str = ""
    window_bytes: int = 0
    resume_window_seconds: int = 0


class Stored(Struct, frozen=True):
    """An event as it stands in the log, in the contract's words: for a caller that does not have it."""

    message: bytes


class ControlTaken(Struct, frozen=True):
    """A control of the caller's has had its effect."""

    cseq: int


class UserTranscript(Struct, frozen=True):
    """What the user said, whole; `failure` is the provider's code when there is none."""

    text: str
    item_id: str
    failure: str = ""


class InputCommitted(Struct, frozen=True):
    """The user's audio became an item."""

    item_id: str


class ItemDone(Struct, frozen=True):
    """An item is complete."""

    item_id: str
    type: str
    role: str
    text: str
    call_id: str = ""
    name: str = ""
    # How long its audio is; 0 = it has none, or that is not known.
    audio_ms: int = 0


class ItemDeleted(Struct, frozen=True):
    """An item is no part of the conversation any more."""

    item_id: str


class ItemTruncated(Struct, frozen=True):
    """An answer ends where its user stopped listening; what follows is no part of the conversation."""

    item_id: str
    audio_end_ms: int


class ToolCall(Struct, frozen=True):
    """The model calls a function."""

    call_id: str
    name: str
    arguments_json: str
    response_id: str
    item_id: str


class ResponseDone(Struct, frozen=True):
    """An answer ended. Times in milliseconds, 0 = did not happen."""

    response_id: str
    status: str
    status_reason: str
    error_code: str
    usage: Usage
    speech_stopped_to_first_audio_ms: int
    created_to_first_audio_ms: int
    created_to_done_ms: int
    metadata: Mapping[str, str]


class Interrupted(Struct, frozen=True):
    """An answer was cut: stop playing."""

    response_id: str
    item_id: str
    cause: InterruptionCause
    sent_samples: int
    had_tool_calls: bool


class SessionUpdated(Struct, frozen=True):
    """A configuration is in force."""

    session_json: str


class ErrorEvent(Struct, frozen=True):
    """A request was refused; the session goes on."""

    reason: Reason
    message: str
    upstream_code: str = ""
    client_event_id: str = ""
    cseq: int = 0
    # The event that was refused, as the provider knows it; the caller is not told.
    event_id: str = ""


class ConfigRejected(Struct, frozen=True):
    """The provider refused a configuration."""

    error: ErrorEvent
    param: str


class StateChanged(Struct, frozen=True):
    """The session moved."""

    state: SessionState
    durability: Durability
    cause: str
    # Events that the store has lost for good, both numbers included; 0 = none.
    lost_from: int = 0
    lost_to: int = 0
    # Items that a fresh line could not be told.
    unrestored_items: tuple[str, ...] = ()


class Closed(Struct, frozen=True):
    """The session has ended."""

    reason: ClosedReason
    usage: Usage
    duration_ms: int
    error: ErrorEvent | None = None
    # The words of the operator who ended it.
    detail: str = ""


ControlEvent = (
    Opened
    | Stored
    | ControlTaken
    | UserTranscript
    | InputCommitted
    | ItemDone
    | ItemDeleted
    | ItemTruncated
    | ToolCall
    | ResponseDone
    | Interrupted
    | SessionUpdated
    | ErrorEvent
    | ConfigRejected
    | StateChanged
    | Closed
)

SessionEvent = LiveEvent | ControlEvent


class GatewayAck(Struct, frozen=True, gc=False):
    """What has been taken of a caller's input: controls up to a number, audio in samples since the session began."""

    cseq: int
    input_samples: int


class Outgoing(Struct, frozen=True, gc=False):
    """One event with its numbers: `seq` on the control lane, `after_seq` on the live one."""

    event: SessionEvent
    seq: int = 0
    after_seq: int = 0
    epoch: int = 1
    durable: bool | None = None
