"""What one session has used: plain counts, read at its end and at scrape time."""

from dataclasses import dataclass, field
from typing import Any

from gateway.core import events as out
from gateway.core import realtime as wire
from gateway.core.watchdog import NOT_MENDED


@dataclass(slots=True)
class Tally:
    """Plain counts of one session; read at its end and at scrape time."""

    audio_in_bytes: int = 0
    audio_out_bytes: int = 0
    frames_in: int = 0
    frames_out: int = 0
    responses: int = 0
    # Answers in a row, up to the last one, that failed as they may not on another line.
    failures: int = 0
    usage: out.Usage = field(default_factory=out.Usage)

    def answered(self, status: str, error_code: str, usage: out.Usage) -> None:
        """Count the end of an answer."""
        self.responses += 1
        self.usage = self.usage + usage
        if status != "failed":
            self.failures = 0
        elif error_code not in NOT_MENDED:
            self.failures += 1


def usage_of(usage: wire.UsageObject | None) -> out.Usage:
    """Return the provider's counts in the contract's form; zeros where it gave none."""
    if usage is None:
        return out.Usage()
    given, made = usage.input_token_details, usage.output_token_details
    cached = given.cached_tokens_details
    return out.Usage(
        input_tokens=max(0, usage.input_tokens),
        output_tokens=max(0, usage.output_tokens),
        input_text_tokens=max(0, given.text_tokens),
        input_audio_tokens=max(0, given.audio_tokens),
        input_image_tokens=max(0, given.image_tokens),
        input_cached_tokens=max(0, given.cached_tokens),
        output_text_tokens=max(0, made.text_tokens),
        output_audio_tokens=max(0, made.audio_tokens),
        output_reasoning_tokens=max(0, made.reasoning_tokens),
        input_cached_text_tokens=max(0, cached.text_tokens) if cached else 0,
        input_cached_audio_tokens=max(0, cached.audio_tokens) if cached else 0,
        input_cached_image_tokens=max(0, cached.image_tokens) if cached else 0,
    )


def limit_of(limit: Any) -> out.RateLimit:
    """Return one of the account's limits; the contract's counts are not negative, a provider's may be."""
    return out.RateLimit(limit.name, max(0, limit.limit), max(0, limit.remaining), limit.reset_seconds)


def elapsed_ms(later: float | None, earlier: float | None) -> int:
    """Return the time between two moments in whole milliseconds; 0 where one of them is missing."""
    if later is None or earlier is None:
        return 0
    return max(0, round((later - earlier) * 1000))
