"""What an answer to the handshake says besides its status: the provider's error, and when to come back.

Reads and never raises: what it cannot read was not said. What it means stands in `failures.py`.
"""

import re
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from gateway.core.realtime import ErrorObject

# The library reads up to 1 MiB of a body; a refusal that explains itself is short.
BODY_MAX_BYTES: Final = 64 << 10
RETRY_AFTER_MAX_SECONDS: Final = 300.0

_SECONDS: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


class _Refusal(msgspec.Struct, frozen=True):
    error: ErrorObject = ErrorObject()


def error_in(body: bytes | bytearray) -> ErrorObject:
    """Return the error that a body describes; an empty one where it describes none, or at length."""
    if len(body) > BODY_MAX_BYTES:
        return ErrorObject()
    try:
        return msgspec.json.decode(body, type=_Refusal).error
    except (ValueError, RecursionError):
        return ErrorObject()


def retry_after(headers: Sequence[str], now: float) -> float | None:
    """Return the first header, seconds or a date, in seconds from `now`: 0 < x ≤ RETRY_AFTER_MAX_SECONDS."""
    header = headers[0].strip() if headers else ""
    if _SECONDS.fullmatch(header):
        seconds = float(header)
    else:
        try:
            date = parsedate_to_datetime(header)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    return min(seconds, RETRY_AFTER_MAX_SECONDS) if seconds > 0 else None
