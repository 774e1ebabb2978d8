"""How turns end and what audio is made of, read from the provider's session object."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.audio import BY_NAME, PCM_24K, AudioFormat

# The provider's default, and the longest that is believed.
SILENCE_MS: Final = 500
SILENCE_MAX_MS: Final = 10_000


@dataclass(frozen=True, slots=True)
class TurnTaking:
    """How turns end, as the session is configured."""

    by_server: bool = True
    create_response: bool = True
    interrupt_response: bool = True
    silence_ms: int = SILENCE_MS
    input_format: AudioFormat = PCM_24K
    output_format: AudioFormat = PCM_24K
    transcribes: bool = False

    @classmethod
    def of(cls, session: Mapping[str, Any]) -> "TurnTaking":
        """Read the provider's session object; what it does not name has the provider's default."""
        audio = _below(session, "audio")
        given, made = _below(audio, "input"), _below(audio, "output")
        found = _below(given, "turn_detection")
        return cls(
            by_server=given.get("turn_detection", found) is not None,
            # Who only transcribes is never answered.
            create_response=found.get("create_response", True) is not False and session.get("type") != "transcription",
            interrupt_response=found.get("interrupt_response", True) is not False,
            silence_ms=_silence_ms(found.get("silence_duration_ms")),
            input_format=_format(given),
            output_format=_format(made),
            transcribes=bool(given.get("transcription")),
        )


def detection_of(session: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """How the server ends turns, as a session object has it; None = it does not, or what stands there is malformed."""
    if session.get("type") == "transcription":
        return None
    section: Any = session
    for name in ("audio", "input"):
        section = section.get(name, {})
        if not isinstance(section, Mapping):
            return None
    found = section.get("turn_detection", {"type": "server_vad"})
    return found if isinstance(found, Mapping) else None


def names_interruption(patch: object) -> bool:
    """Whether a patch on the session object says if speech interrupts."""
    for name in ("audio", "input", "turn_detection"):
        patch = patch.get(name) if isinstance(patch, Mapping) else None
    return isinstance(patch, Mapping) and "interrupt_response" in patch


# What is malformed is read as absent: the provider is the one to refuse it.


def _below(section: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = section.get(name)
    return value if isinstance(value, Mapping) else {}


def _silence_ms(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        return SILENCE_MS
    return min(max(value, 0), SILENCE_MAX_MS)


def _format(direction: Mapping[str, Any]) -> AudioFormat:
    name = _below(direction, "format").get("type")
    return BY_NAME.get(name, PCM_24K) if isinstance(name, str) else PCM_24K
