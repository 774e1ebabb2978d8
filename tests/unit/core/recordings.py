"""Recorded sessions of the real service, which stand beside the repository. Without them a test is skipped."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[3].parent / "shared" / "recordings"
NAMES = (
    "audio_in_server_vad_turn",
    "message_history_seeding",
    "text_in_audio_out_turn",
    "tool_call_round",
)


def recording(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Each message of one session: its direction, `sent` or `received`, and what it was."""
    path = FOLDER / f"openai--{name}.yaml"
    if not path.exists():
        pytest.skip(f"no recordings at {FOLDER}")
    messages = yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
    return [(each["direction"], each["data"]) for each in messages]


def received(name: str) -> list[bytes]:
    """What the server sent, as it was on the wire."""
    return [json.dumps(data).encode() for direction, data in recording(name) if direction == "received"]
