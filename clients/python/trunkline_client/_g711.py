"""G.711: one byte for a 16-bit sample, as telephones have it. Pure Python, by tables that are made once."""

from array import array
from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from typing import Final, TypeAlias

# Before Python 3.12 an array has no type parameters at run time.
Samples: TypeAlias = "array[int]"
Decode = Callable[[int], int]

_BIAS: Final = 0x84
_SIGN: Final = 0x80
_A_LAW_TOGGLE: Final = 0x55


def mu_law(code: int) -> int:
    """Return the sample that a byte of mu-law means."""
    code = ~code & 0xFF
    magnitude = ((((code & 0x0F) << 3) + _BIAS) << ((code >> 4) & 0x07)) - _BIAS
    return -magnitude if code & _SIGN else magnitude


def a_law(code: int) -> int:
    """Return the sample that a byte of A-law means."""
    code ^= _A_LAW_TOGGLE
    exponent = (code >> 4) & 0x07
    magnitude = ((code & 0x0F) << 4) + 8
    if exponent:
        magnitude = (magnitude + 0x100) << (exponent - 1)
    return magnitude if code & _SIGN else -magnitude


def decode(data: bytes, law: Decode) -> Samples:
    """Return the samples of G.711 bytes, at the same rate."""
    return array("h", map(_samples(law).__getitem__, data))


def encode(samples: Samples, law: Decode) -> bytes:
    """Return the nearest that G.711 has for each sample, at the same rate."""
    return bytes(map(_codes(law).__getitem__, samples))


@cache
def _samples(law: Decode) -> tuple[int, ...]:
    return tuple(law(code) for code in range(0x100))


@cache
def _codes(law: Decode) -> bytes:
    """Return the byte for each sample; a negative one counts from the end, as Python's indices do."""
    # Of the two zeros of mu-law the one that telephones send as silence.
    by_value = sorted(enumerate(_samples(law)), key=lambda pair: (pair[1], -pair[0]))
    values = [value for _, value in by_value]
    return bytes(by_value[_nearest(values, sample)][0] for sample in (*range(0x8000), *range(-0x8000, 0)))


def _nearest(values: list[int], sample: int) -> int:
    above = min(bisect_left(values, sample), len(values) - 1)
    below = max(above - 1, 0)
    return below if sample - values[below] <= values[above] - sample else above
