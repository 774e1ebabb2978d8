"""A session's report to vary."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.events import ClosedReason, Usage
from gateway.core.principal import Principal
from gateway.runtime.observers import SessionReport


@pytest.fixture(name="report")
def _report() -> Callable[..., SessionReport]:
    def report(**changes: object) -> SessionReport:
        fields: dict[str, Any] = {
            "session_id": "0192f3a4b5c6",
            "pool": "default",
            "principal": Principal("acme", "billing-bot", frozenset()),
            "correlation_id": "call-17",
            "upstream_session_id": "sess_DkX9aBcD",
            "source": "WARM",
            "reason": ClosedReason.BYE,
            "error": None,
            "duration_seconds": 12.34567,
            "waited_seconds": 0.0012,
            "audio_in_bytes": 480_000,
            "audio_out_bytes": 96_000,
            "frames_in": 500,
            "frames_out": 77,
            "responses": 3,
            "usage": Usage(input_tokens=120, output_tokens=45, input_audio_tokens=100),
        }
        return SessionReport(**{**fields, **changes})

    return report
