"""Values as an operator reads them, in few characters."""

import math
from typing import Final

_SHORT_SECONDS: Final = 10
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_THOUSAND: Final = 1000
_FEW: Final = 10
# 0.29 times 100 is a little less than 29.
_ROUNDING: Final = 1e-9


def printable(value: object) -> str:
    """Keep what was named elsewhere from writing into the terminal: no escapes, line ends or turns of direction."""
    return "".join(character if character.isprintable() else "?" for character in str(value))


def duration(milliseconds: float) -> str:
    """Return a time in at most five characters: 0.3s, 42s, 3m05, 2h04, 3d02h."""
    seconds = milliseconds / 1000
    if seconds < _SHORT_SECONDS:
        return f"{int(seconds * 10) / 10:.1f}s"
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def amount(number: float) -> str:
    """Return a count or a size in at most five characters: 980, 1.2k, 48k, 3.1M."""
    units = iter("kMGTPE")
    unit = ""
    while number >= _THOUSAND:
        number, unit = number / _THOUSAND, next(units)
    if unit and number < _FEW:
        return f"{int(number * 10) / 10:.1f}{unit}"
    return f"{int(number)}{unit}"


def ratio(part: float | None) -> str:
    """Return a share of 1 as a percentage, which says 100 only when it is; `-` for none."""
    return "-" if part is None else f"{math.floor(part * 100 + _ROUNDING)}%"
