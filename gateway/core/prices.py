"""What tokens cost. The provider's published prices of 2026, in US dollars; check them before you rely on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.core.events import Usage

_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million tokens: as input, as cached input, as output."""

    text: tuple[float, float, float]
    audio: tuple[float, float, float]
    image: tuple[float, float]


_FULL: Final = Prices((4.0, 0.40, 24.0), (32.0, 0.40, 64.0), (5.0, 0.50))
PRICES: Final[Mapping[str, Prices]] = {
    "gpt-realtime-2.1-mini": Prices((0.60, 0.06, 2.40), (10.0, 0.30, 20.0), (0.80, 0.08)),
    "gpt-realtime-2.1": _FULL,
    "gpt-realtime-2": _FULL,
    "gpt-realtime-1.5": Prices((4.0, 0.40, 16.0), (32.0, 0.40, 64.0), (5.0, 0.50)),
}


def dollars(model: str, usage: Usage) -> float | None:
    """Return what a session's tokens cost; None = the model's prices are not known. Transcription is billed apart."""
    prices = _of(model)
    if prices is None:
        return None
    text, audio, image = (
        usage.input_cached_text_tokens,
        usage.input_cached_audio_tokens,
        usage.input_cached_image_tokens,
    )
    total = (
        _input(usage.input_text_tokens, text, prices.text)
        + _input(usage.input_audio_tokens, audio, prices.audio)
        + _input(usage.input_image_tokens, image, prices.image)
        + usage.output_text_tokens * prices.text[2]
        + usage.output_audio_tokens * prices.audio[2]
    )
    return total / _MILLION


def _input(tokens: int, cached: int, price: tuple[float, ...]) -> float:
    return max(0, tokens - cached) * price[0] + cached * price[1]


def _of(model: str) -> Prices | None:
    """The prices of a model, or of the one that it is a dated edition of."""
    known = [name for name in PRICES if model == name or model.startswith(f"{name}-2")]
    return PRICES[max(known, key=len)] if known else None
