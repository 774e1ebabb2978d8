"""Figures of calls: percentiles beside their n, in the keys that `probe` and `demo` print."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

# Below so many values a 99th percentile is a guess; the maximum is a fact.
P99_MIN: Final = 100


@dataclass(slots=True)
class Call:
    """One call and what was measured of it, in milliseconds; None = did not happen."""

    kind: str
    number: int
    ok: bool = False
    warm_hit: bool = False
    error: str = ""
    open_ms: float | None = None
    first_audio_ms: float | None = None
    response_ms: float | None = None
    audio: bytearray = field(default_factory=bytearray)
    words: str = ""


def summary(calls: Sequence[Call]) -> dict[str, Any]:
    """Return `{calls, ok, failed, warm_hits, open_ms{…}, first_audio_ms{…}, response_ms{…}}`."""
    good = [call for call in calls if call.ok]
    return {
        "calls": len(calls),
        "ok": len(good),
        "failed": len(calls) - len(good),
        "warm_hits": sum(call.warm_hit for call in good),
        "open_ms": distribution([call.open_ms for call in good]),
        "first_audio_ms": distribution([call.first_audio_ms for call in good]),
        "response_ms": distribution([call.response_ms for call in good]),
    }


def distribution(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """Return `{n, p50, p90, p99, max}` in the values' unit; null where there is too little to say so."""
    known = sorted(value for value in values if value is not None)
    p99 = percentile(known, 0.99) if len(known) >= P99_MIN else None
    return {
        "n": len(known),
        "p50": percentile(known, 0.5),
        "p90": percentile(known, 0.9),
        "p99": p99,
        "max": round(known[-1], 2) if known else None,
    }


def percentile(ordered: Sequence[float], part: float) -> float | None:
    """Return the nearest rank: a value that was really measured."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * part // 1))
    return round(ordered[int(rank) - 1], 2)
