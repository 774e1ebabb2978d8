"""One table: how a dial or a line failed → what it is called here.

Any end that nobody here asked for is a drop, whatever its code: the library calls 1000, 1001 and
1005 a normal end, and the provider's own 60-minute cap comes as 1001.
"""

from collections.abc import Mapping
from typing import Final

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from gateway.core.errors import DialError, Reason, UpstreamClosedError
from gateway.core.realtime import ErrorObject, error_reason
from gateway.core.redaction import redact

HTTP_REASONS: Final[Mapping[int, Reason]] = {
    400: Reason.CONFIG_REJECTED,
    401: Reason.UPSTREAM_REFUSED_KEY,
    403: Reason.UPSTREAM_REFUSED_KEY,
    404: Reason.UNKNOWN_MODEL,
    429: Reason.UPSTREAM_RATE_LIMITED,
}
CLOSE_REASONS: Final[Mapping[int, Reason]] = {
    3000: Reason.UPSTREAM_REFUSED_KEY,
    4000: Reason.CONFIG_REJECTED,
}


def of_handshake(error: Exception) -> DialError:
    """Name a failure before the WebSocket was open."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        reason = HTTP_REASONS.get(status, Reason.UPSTREAM_UNREACHABLE)
        delay = _retry_after(error.response.headers.get("Retry-After"))
        text = f"the provider answered the handshake with HTTP {status}"
        return DialError(reason, text, upstream_code=str(status), retry_after_seconds=delay)
    if isinstance(error, TimeoutError):
        text = "the provider did not answer in time"
    elif isinstance(error, InvalidHandshake):
        text = f"the handshake failed: {type(error).__name__}"
    else:
        # The words of an OSError name addresses; its class and number say enough.
        number = getattr(error, "errno", None)
        text = f"no connection to the provider: {type(error).__name__}" + (f" (errno {number})" if number else "")
    return DialError(Reason.UPSTREAM_UNREACHABLE, text)


def of_close(closed: ConnectionClosed) -> UpstreamClosedError:
    """Name the end of an open line."""
    frame = closed.rcvd
    if frame is None:
        text = "the provider's connection broke without a close frame"
        return UpstreamClosedError(Reason.UPSTREAM_CLOSED, text, upstream_code="1006")
    reason = CLOSE_REASONS.get(frame.code, Reason.UPSTREAM_CLOSED)
    said = f": {redact(frame.reason)}" if frame.reason else ""
    text = f"the provider closed the connection with code {frame.code}{said}"
    return UpstreamClosedError(reason, text, upstream_code=str(frame.code))


def of_error_event(error: ErrorObject) -> DialError:
    """Name an `error` event that came while a line was being made ready."""
    reason = error_reason(error)
    if reason is Reason.INVALID_FRAME:  # the only frame sent so far was the configuration
        reason = Reason.CONFIG_REJECTED
    text = f"the provider refused: {redact(error.message)}"
    return DialError(reason, text, upstream_code=error.code or "")


def _retry_after(header: str | None) -> float | None:
    """Read the form in seconds; a date is not used by the provider."""
    return float(header) if header is not None and header.isdigit() else None
