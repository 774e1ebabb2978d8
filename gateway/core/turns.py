"""How turns end and what audio is made of, read from the provider's session object."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.core.audio import BY_NAME, PCM_24K, AudioFormat


@dataclass(frozen=True, slots=True)
class TurnTaking:
    """How turns end, as the session is configured."""

    by_server: bool = True
    create_response: bool = True
    interrupt_response: bool = True
    silence_ms: int = 500
    input_format: AudioFormat = PCM_24K
    output_format: AudioFormat = PCM_24K
    transcribes: bool = False

    @classmethod
    def of(cls, session: Mapping[str, Any]) -> "TurnTaking":
        """Read the provider's session object; what it does not name has the provider's default."""
        audio = session.get("audio") or {}
        given, made = audio.get("input") or {}, audio.get("output") or {}
        detection = given.get("turn_detection", {})
        found = detection or {}
        return cls(
            by_server=detection is not None,
            create_response=found.get("create_response", True) is not False,
            interrupt_response=found.get("interrupt_response", True) is not False,
            silence_ms=int(found.get("silence_duration_ms") or 500),
            input_format=_format(given),
            output_format=_format(made),
            transcribes=bool(given.get("transcription")),
        )


def _format(direction: Mapping[str, Any]) -> AudioFormat:
    return BY_NAME.get((direction.get("format") or {}).get("type", ""), PCM_24K)
