"""G.711 by table: 8-bit μ-law and A-law to 16-bit samples and back.

`audioop` would do it, but left the standard library in Python 3.13.
"""

from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]
Encode = Callable[[Samples], bytes]
Decode = Callable[[bytes], Samples]

_MU_LAW_BIAS: Final = 0x84
_SIGN: Final = 0x80
_A_LAW_TOGGLE: Final = 0x55


def decode_mu_law(wire: bytes) -> Samples:
    """Return samples at the rate of the wire."""
    return _mu_law_table()[np.frombuffer(wire, np.uint8)]


def decode_a_law(wire: bytes) -> Samples:
    """Return samples at the rate of the wire."""
    return _a_law_table()[np.frombuffer(wire, np.uint8)]


def encode_mu_law(samples: Samples) -> bytes:
    """One byte a sample: the nearest value that the code has."""
    return _encoder(_mu_law_table().tobytes())[samples.view(np.uint16)].tobytes()


def encode_a_law(samples: Samples) -> bytes:
    """One byte a sample: the nearest value that the code has."""
    return _encoder(_a_law_table().tobytes())[samples.view(np.uint16)].tobytes()


@cache
def _mu_law_table() -> Samples:
    code = ~np.arange(256, dtype=np.uint8)
    exponent = (code >> 4) & 0x07
    mantissa = (code & 0x0F).astype(np.int32)
    magnitude = (((mantissa << 3) + _MU_LAW_BIAS) << exponent) - _MU_LAW_BIAS
    return np.where(code & _SIGN, -magnitude, magnitude).astype(np.int16)


@cache
def _a_law_table() -> Samples:
    code = np.arange(256, dtype=np.uint8) ^ _A_LAW_TOGGLE
    exponent = ((code >> 4) & 0x07).astype(np.int32)
    magnitude = ((code & 0x0F).astype(np.int32) << 4) + 8
    magnitude = np.where(exponent > 0, (magnitude + 0x100) << np.maximum(exponent - 1, 0), magnitude)
    return np.where(code & _SIGN, magnitude, -magnitude).astype(np.int16)


@cache
def _encoder(table: bytes) -> npt.NDArray[np.uint8]:
    """Return the code of every 16-bit sample, indexed by its two's complement."""
    values = np.frombuffer(table, np.int16).astype(np.int32)
    order = np.argsort(values, kind="stable")
    ascending = values[order]
    boundaries = (ascending[:-1] + ascending[1:]) / 2
    samples = np.arange(0x10000, dtype=np.uint16).view(np.int16)
    return order[np.searchsorted(boundaries, samples)].astype(np.uint8)
