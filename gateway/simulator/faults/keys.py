"""How the keys of a fault are read: typed from JSON and Python, as words from a command line.

A reader knows what it expects in words, for the sentence that refuses anything else.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

SECONDS_MAX: Final = 86_400.0
_REASON_MAX_BYTES: Final = 123
_GLOBS_MAX: Final = 50


class FaultError(ValueError):
    """A fault that cannot be: the sentence says what there is instead."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads one value. `convert` raises ValueError or TypeError on anything but what `expected` says."""

    expected: str
    convert: Callable[[Any], object]


def key(reader: Reader, **default: Any) -> Any:
    """Declare a key of a fault, required unless it has a `default`."""
    return field(metadata={"reader": reader}, **default)


def number(low: float, high: float) -> Reader:
    """Read a number within bounds."""

    def convert(value: Any) -> float:
        found = float(value)
        if isinstance(value, bool) or not low <= found <= high:  # NaN is within no bounds
            raise ValueError
        return found

    return Reader(f"a number from {low:g} to {high:g}", convert)


def whole(low: int, high: int) -> Reader:
    """Read a whole number within bounds."""

    def convert(value: Any) -> int:
        found = float(value)
        if isinstance(value, bool) or not low <= found <= high or not math.isclose(found, int(found)):
            raise ValueError
        return int(found)

    return Reader(f"a whole number from {low} to {high}", convert)


def choice(*allowed: str | int) -> Reader:
    """Read one of a few values."""
    by_word = {str(each): each for each in allowed}

    def convert(value: Any) -> str | int:
        if str(value) not in by_word:
            raise ValueError
        return by_word[str(value)]

    return Reader("one of " + ", ".join(by_word), convert)


def _close_code(value: Any) -> int:
    found = int(value)
    if isinstance(value, bool) or not (found == 0 or 1000 <= found <= 4999):  # noqa: PLR2004 - RFC 6455, 7.4
        raise ValueError
    return found


def _reason(value: Any) -> str:
    found = str(value)
    if len(found.encode()) > _REASON_MAX_BYTES:
        raise ValueError
    return found


def _globs(value: Any) -> tuple[str, ...]:
    given: Iterable[Any] = value.split("+") if isinstance(value, str) else value
    found = tuple(given)
    if not 0 < len(found) <= _GLOBS_MAX or not all(isinstance(each, str) and each for each in found):
        raise ValueError
    return found


CLOSE_CODE: Final = Reader("0 or a close code from 1000 to 4999", _close_code)
REASON: Final = Reader(f"a text of at most {_REASON_MAX_BYTES} bytes", _reason)
EVENT_GLOBS: Final = Reader("a list of event types, * for any part, joined with + on a command line", _globs)
SECONDS: Final = number(0, SECONDS_MAX)
PROBABILITY: Final = number(0, 1)
COUNT: Final = whole(1, 1_000_000_000)
