"""What a session is given: the contract's own messages."""

from typing import Literal

from trunkline.v1.control_pb2 import (
    NoTurnDetection,
    SemanticVad,
    ServerVad,
    SessionOverrides,
    Tool,
    ToolResult,
    Tools,
    Transcription,
    TurnDetection,
)
from trunkline.v1.session_pb2 import Greet, HistoryItem, HistoryToolCall

Speaker = Literal["user", "assistant", "system"]

__all__ = [
    "Greet",
    "HistoryItem",
    "HistoryToolCall",
    "NoTurnDetection",
    "SemanticVad",
    "ServerVad",
    "SessionOverrides",
    "Speaker",
    "Tool",
    "ToolResult",
    "Tools",
    "Transcription",
    "TurnDetection",
]
