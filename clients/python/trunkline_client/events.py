"""What a session yields: the contract's own messages, under the names that `match` needs."""

from trunkline.v1.errors_pb2 import Error
from trunkline.v1.event_pb2 import (
    Closed,
    ConfigRejected,
    GoAway,
    InputCommitted,
    Interrupted,
    ItemDeleted,
    ItemDone,
    ItemTruncated,
    OutputAudio,
    Queued,
    RateLimits,
    RawServerEvent,
    ResponseCreated,
    ResponseDone,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    StateChanged,
    TextDelta,
    Token,
    ToolCall,
    TranscriptDelta,
    UserTranscript,
)
from trunkline.v1.session_pb2 import Opened, Resumed

# `Queued` goes to `on_queued` and `Opened` is `session.opened`: iteration begins after them.
Event = (
    OutputAudio
    | TextDelta
    | TranscriptDelta
    | UserTranscript
    | SpeechStarted
    | SpeechStopped
    | InputCommitted
    | ItemDone
    | ItemDeleted
    | ItemTruncated
    | ToolCall
    | ResponseCreated
    | ResponseDone
    | Interrupted
    | RateLimits
    | SessionUpdated
    | ConfigRejected
    | StateChanged
    | GoAway
    | Resumed
    | Token
    | Error
    | Closed
    | RawServerEvent
)

__all__ = [
    "Closed",
    "ConfigRejected",
    "Error",
    "Event",
    "GoAway",
    "InputCommitted",
    "Interrupted",
    "ItemDeleted",
    "ItemDone",
    "ItemTruncated",
    "Opened",
    "OutputAudio",
    "Queued",
    "RateLimits",
    "RawServerEvent",
    "ResponseCreated",
    "ResponseDone",
    "Resumed",
    "SessionUpdated",
    "SpeechStarted",
    "SpeechStopped",
    "StateChanged",
    "TextDelta",
    "Token",
    "ToolCall",
    "TranscriptDelta",
    "UserTranscript",
]
