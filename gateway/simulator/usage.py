"""What a response costs, by the provider's own arithmetic where it is known and by plain estimates elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from gateway.simulator.items import Item, text_tokens

# The provider's prompt cache works in blocks: 85 known tokens were billed as 64 cached ones.
_CACHE_BLOCK_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one side of a response."""

    text: int = 0
    audio: int = 0
    image: int = 0

    @property
    def total(self) -> int:
        """All kinds together."""
        return self.text + self.audio + self.image

    def __add__(self, other: "Tokens") -> "Tokens":
        """Kind by kind."""
        return Tokens(self.text + other.text, self.audio + other.audio, self.image + other.image)

    def first(self, count: int) -> "Tokens":
        """At most `count` of them, text before audio before images."""
        text = min(self.text, count)
        audio = min(self.audio, count - text)
        return Tokens(text, audio, min(self.image, count - text - audio))


def item_tokens(items: Iterable[Item]) -> Tokens:
    """Count what these items cost as input."""
    return sum((Tokens(each.text_tokens, each.audio_tokens, each.image_tokens) for each in items), Tokens())


def cached_part(given: Tokens, known_tokens: int) -> Tokens:
    """Return the part of `given` that an earlier response, `known_tokens` long with its input, left in the cache."""
    blocks = min(known_tokens, given.total) // _CACHE_BLOCK_TOKENS
    return given.first(blocks * _CACHE_BLOCK_TOKENS)


def usage(given: Tokens, cached: Tokens, made: Tokens) -> dict[str, Any]:
    """Return the `usage` object of `response.done`."""
    return {
        "total_tokens": given.total + made.total,
        "input_tokens": given.total,
        "output_tokens": made.total,
        "input_token_details": {
            "text_tokens": given.text,
            "audio_tokens": given.audio,
            "image_tokens": given.image,
            "cached_tokens": cached.total,
            "cached_tokens_details": {
                "text_tokens": cached.text,
                "audio_tokens": cached.audio,
                "image_tokens": cached.image,
            },
        },
        "output_token_details": {"text_tokens": made.text, "audio_tokens": made.audio},
    }


def text_only(text: str) -> Tokens:
    """Count what plain words cost."""
    return Tokens(text=text_tokens(text))
