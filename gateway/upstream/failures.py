"""How a dial or a line failed → what it is called here: tables, and the functions that read them.

Nothing else in this room names a failure. Any end that nobody here asked for is a drop, whatever its
code: the library calls 1000, 1001 and 1005 a normal end, and the provider's 60-minute cap comes as 1001.
"""

import errno
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    SecurityError,
)
from websockets.http11 import Response

from gateway.core.errors import RETRYABLE, DialError, Reason, UpstreamClosedError
from gateway.core.realtime import ERROR_REASONS, ErrorObject
from gateway.core.redaction import redact, shown_code
from gateway.upstream import refusal


@dataclass(frozen=True, slots=True)
class Failure:
    """What one kind of failure is called; its reason says whether a retry can help."""

    reason: Reason
    # A sentence for the operator.
    text: str
    # The shortest wait that makes sense, also where the provider names none.
    retry_after_seconds: float | None = None


# Error codes of the provider, wherever they stand: in an `error` event, a refusal's body, a close reason.

CODE_TEXTS: Final[Mapping[str, str]] = {
    "invalid_api_key": "the provider does not know the account's key",
    "account_deactivated": "the provider has deactivated the account",
    "insufficient_quota": "the account's quota at the provider is used up",
    "billing_hard_limit_reached": "the account has reached its billing limit at the provider",
    "credit_balance_exhausted": "the account's prepaid credit at the provider is used up",
    "rate_limit_exceeded": "the provider limits the account's rate",
    "inference_rate_limit_exceeded": "the provider limits the account's rate of inference",
    "model_not_found": "the provider does not have the model, or not for this account",
    "session_expired": "the session's time at the provider is up",
    "server_error": "the provider met an error of its own",
    "beta_api_shape_disabled": "the provider no longer takes the beta form of the API",
}
# After one of these no line comes of a dial, whatever the event answers.
FATAL_CODES: Final = frozenset(
    {
        "insufficient_quota",
        "invalid_api_key",
        "account_deactivated",
        "billing_hard_limit_reached",
        "credit_balance_exhausted",
        "model_not_found",
        "session_expired",
        "beta_api_shape_disabled",
    }
)
REFUSED_CONFIGURATION: Final = Failure(Reason.CONFIG_REJECTED, "the provider refused the configuration")

# Answers to the handshake other than 101.

HTTP_FAILURES: Final[Mapping[int, Failure]] = {
    400: Failure(Reason.CONFIG_REJECTED, "the provider does not accept the handshake's request"),
    401: Failure(Reason.UPSTREAM_REFUSED_KEY, "the provider refuses the account's key"),
    402: Failure(Reason.BUDGET_EXHAUSTED, "the provider wants the account to pay first"),
    403: Failure(Reason.UPSTREAM_REFUSED_KEY, "the provider gives this account, project or region no access"),
    404: Failure(Reason.UNKNOWN_MODEL, "the provider does not have the model, or nothing at this address"),
    408: Failure(Reason.UPSTREAM_UNREACHABLE, "the provider did not get the handshake in time"),
    409: Failure(Reason.UPSTREAM_UNREACHABLE, "the provider is busy with something that stands in the way"),
    410: Failure(Reason.UNKNOWN_MODEL, "the provider no longer has the model, or this address"),
    421: Failure(Reason.UPSTREAM_UNREACHABLE, "the handshake reached a server of the provider that does not serve it"),
    425: Failure(Reason.UPSTREAM_UNREACHABLE, "the handshake came too early for the provider"),
    # Our request asks for the upgrade; what answers so has not seen that: a proxy in between.
    426: Failure(Reason.UPSTREAM_UNREACHABLE, "the request for a WebSocket was lost on the way to the provider"),
    429: Failure(Reason.UPSTREAM_RATE_LIMITED, "the provider limits this account"),
}
# An unknown status means what the x00 of its class means (RFC 9110, 15). Redirects are not followed:
# the key would go wherever they point.
HTTP_CLASSES: Final[Mapping[int, Failure]] = {
    3: Failure(Reason.UPSTREAM_UNREACHABLE, "the provider redirects the handshake, which is refused"),
    4: HTTP_FAILURES[400],
    5: Failure(Reason.UPSTREAM_UNREACHABLE, "the provider is in trouble"),
}
HTTP_OTHER: Final = Failure(Reason.UPSTREAM_UNREACHABLE, "the provider answered the handshake without an upgrade")

# Close codes that the provider sends. With 1002, 1003, 1007 and 1009 it says that a frame of ours was bad.
# The gateway makes every frame and knows the limits, so the fault is ours and comes again: INTERNAL, no retry.

CLOSE_FAILURES: Final[Mapping[int, Failure]] = {
    1000: Failure(Reason.UPSTREAM_CLOSED, "the provider ended the connection"),
    1001: Failure(Reason.UPSTREAM_CLOSED, "the provider goes away, or the session's time is up"),
    1002: Failure(Reason.INTERNAL, "the provider says that this gateway broke the WebSocket protocol"),
    1003: Failure(Reason.INTERNAL, "the provider says that this gateway sent a kind of data that it does not take"),
    1004: Failure(Reason.UPSTREAM_CLOSED, "the provider ended the connection with a code that has no meaning"),
    1005: Failure(Reason.UPSTREAM_CLOSED, "the provider ended the connection without a code"),
    1006: Failure(Reason.UPSTREAM_CLOSED, "the provider's connection broke without a close frame"),
    1007: Failure(Reason.INTERNAL, "the provider says that this gateway sent text that is not valid"),
    # What was sent comes from a template or a caller, and the provider's words say what is wrong with it.
    1008: Failure(Reason.CONFIG_REJECTED, "the provider says that what was sent is against its policy"),
    1009: Failure(Reason.INTERNAL, "this gateway sent a message that is too large for the provider"),
    1010: Failure(Reason.UPSTREAM_CLOSED, "the provider wants an extension that this gateway does not offer"),
    1011: Failure(Reason.UPSTREAM_CLOSED, "the provider met an error of its own"),
    1012: Failure(Reason.UPSTREAM_CLOSED, "the provider restarts"),
    1013: Failure(Reason.UPSTREAM_CLOSED, "the provider asks to come back later", 1.0),
    1014: Failure(Reason.UPSTREAM_CLOSED, "the provider's proxy got no valid answer behind it"),
    1015: Failure(Reason.UPSTREAM_CLOSED, "the provider's TLS connection broke"),
    3000: Failure(Reason.UPSTREAM_REFUSED_KEY, "the provider refuses the account's key"),
    4000: Failure(Reason.CONFIG_REJECTED, "the provider does not take this form of the API"),
}
CLOSE_OTHER: Final = CLOSE_FAILURES[1000]
# Close codes that this side sent first: the library does it when the provider's frames are bad.
OWN_CLOSES: Final[Mapping[int, Failure]] = {
    1002: Failure(Reason.UPSTREAM_CLOSED, "the provider broke the WebSocket protocol"),
    1007: Failure(Reason.UPSTREAM_CLOSED, "the provider sent text that is not valid"),
    # Our limit, and a provider that sends such a message sends it again.
    1009: Failure(Reason.INTERNAL, "the provider sent a message that is too large for this gateway"),
}
OWN_OTHER: Final = Failure(Reason.UPSTREAM_CLOSED, "this gateway closed the connection")

# What happens before an answer: the first row whose type fits counts. The words of such errors name hosts
# and addresses and are left out.

NETWORK_FAILURES: Final[Sequence[tuple[type[Exception], Failure]]] = (
    (ssl.SSLCertVerificationError, Failure(Reason.UPSTREAM_UNREACHABLE, "the provider's certificate is not trusted")),
    (ssl.SSLError, Failure(Reason.UPSTREAM_UNREACHABLE, "TLS with the provider failed")),
    (socket.gaierror, Failure(Reason.UPSTREAM_UNREACHABLE, "the provider's name has no address")),
    (TimeoutError, Failure(Reason.UPSTREAM_UNREACHABLE, "the provider did not answer in time")),
    (ConnectionRefusedError, Failure(Reason.UPSTREAM_UNREACHABLE, "nothing listens at the provider's address")),
    (ConnectionError, Failure(Reason.UPSTREAM_UNREACHABLE, "the connection to the provider broke")),
    (OSError, Failure(Reason.UPSTREAM_UNREACHABLE, "no connection to the provider")),
    (InvalidUpgrade, Failure(Reason.UPSTREAM_UNREACHABLE, "the provider answered with another protocol")),
    (InvalidHeader, Failure(Reason.UPSTREAM_UNREACHABLE, "the provider's answer to the handshake is not valid")),
    (NegotiationError, Failure(Reason.UPSTREAM_UNREACHABLE, "the provider chose what was not offered")),
    (SecurityError, Failure(Reason.UPSTREAM_UNREACHABLE, "the provider's answer to the handshake is too large")),
    (InvalidMessage, Failure(Reason.UPSTREAM_UNREACHABLE, "the provider hung up, or its answer is not HTTP")),
    (InvalidHandshake, Failure(Reason.UPSTREAM_UNREACHABLE, "the handshake with the provider failed")),
    # Settings are checked at the start, so it is no operator's mistake.
    (InvalidURI, Failure(Reason.INTERNAL, "the line class's address is not one of a WebSocket")),
    (Exception, Failure(Reason.UPSTREAM_UNREACHABLE, "the WebSocket to the provider failed")),
)
OWN_LIMIT: Final = Failure(Reason.OVERLOADED, "this gateway has no descriptor, port or memory left for a connection")
OWN_LIMIT_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})

# A dial's stage → what was missing when the time was up.

STAGE_TEXTS: Final[Mapping[str, str]] = {
    "tcp": "the TCP connection",
    "tls": "the TLS handshake",
    "upgrade": "the answer to the WebSocket handshake",
    "created": "session.created",
    "updated": "session.updated",
}

# Takes the account's key out of what the provider said, before anything of it is cut or quoted.
Hide = Callable[[str], str]
_KNOWN_CODE: Final = re.compile(rf"\b(?:{'|'.join(ERROR_REASONS)})\b")


def of_dial(error: Exception, now: float, hide: Hide = str) -> DialError:
    """Name what a dial met: an exception of the library or of the system, at `now` on the wall clock."""
    if isinstance(error, InvalidStatus):
        return _of_response(error.response, now, hide)
    if isinstance(error, ConnectionClosed):
        end = of_close(error, hide)
        wait = end.retry_after_seconds
        return DialError(end.reason, end.message, upstream_code=end.upstream_code, retry_after_seconds=wait)
    if isinstance(error, OSError) and error.errno in OWN_LIMIT_ERRNOS and not isinstance(error, socket.gaierror):
        failure = OWN_LIMIT
    else:
        failure = next(failure for kind, failure in NETWORK_FAILURES if isinstance(error, kind))
    return DialError(failure.reason, f"{failure.text} ({_detail(error)})")


def of_deadline(stage: str, seconds: float) -> DialError:
    """Name a dial that was given up: `stage` did not end within `seconds`."""
    text = f"{STAGE_TEXTS[stage]} did not come within {seconds:g} s"
    return DialError(Reason.UPSTREAM_UNREACHABLE, text)


def of_garbage() -> DialError:
    """Name a line that sends what is not JSON while it is made ready."""
    return DialError(Reason.UPSTREAM_UNREACHABLE, "the provider sent a message that is not JSON")


def of_close(closed: ConnectionClosed, hide: Hide = str, *, quoting: bool = True) -> UpstreamClosedError:
    """Name the end of an open line, also one that the library calls normal; `quoting` what the provider said."""
    theirs, ours = closed.rcvd, closed.sent
    # An echo of our close is no word of the provider; a different code is, even if it crossed ours.
    if ours is not None and not closed.rcvd_then_sent and (theirs is None or theirs.code == ours.code):
        failure = OWN_CLOSES.get(ours.code, OWN_OTHER)
        return UpstreamClosedError(failure.reason, f"{failure.text} (own close code {ours.code})")
    number, words = (1006, "") if theirs is None else (theirs.code, theirs.reason)
    by_number = CLOSE_FAILURES.get(number, CLOSE_OTHER)
    code = _known_code(words)
    failure = _of_code(code) if code else by_number
    wait = by_number.retry_after_seconds if failure.reason in RETRYABLE else None
    text = f"{failure.text} (close code {number})" + (_quoted(failure.reason, hide(words)) if quoting else "")
    return UpstreamClosedError(failure.reason, text, upstream_code=code or str(number), retry_after_seconds=wait)


def of_error_event(error: ErrorObject, hide: Hide = str) -> DialError:
    """Name an `error` event that came while a line was being made ready."""
    code = _code_of(error)
    failure = _of_code(code) if code else REFUSED_CONFIGURATION
    text = failure.text + _quoted(failure.reason, hide(error.message))
    return DialError(failure.reason, text, upstream_code=code or shown_code(hide(error.code or "")))


def refuses(error: ErrorObject, own_event_id: str) -> bool:
    """Return whether an `error` event ends a dial whose only event was `own_event_id`.

    One that names no event does: some providers do not echo ours, and the dial would wait in vain.
    """
    return error.event_id in (None, "", own_event_id) or _code_of(error) in FATAL_CODES


def _of_response(response: Response, now: float, hide: Hide) -> DialError:
    status = response.status_code
    failure = HTTP_FAILURES.get(status) or HTTP_CLASSES.get(status // 100, HTTP_OTHER)
    error = refusal.error_in(response.body)
    # A 5xx that calls itself `server_error` is no end of a line: only a refusal is read closer.
    code = _code_of(error) if status // 100 == 4 else ""  # noqa: PLR2004 the class that refuses
    if code:
        failure = _of_code(code)
    wait = None
    if failure.reason in RETRYABLE:
        # A second header of the name makes `get` of the library raise.
        wait = refusal.retry_after(response.headers.get_all("Retry-After"), now)
    text = f"{failure.text} (HTTP {status})" + _quoted(failure.reason, hide(error.message))
    shown = code or shown_code(hide(error.code or "")) or str(status)
    return DialError(failure.reason, text, upstream_code=shown, retry_after_seconds=wait)


def _of_code(code: str) -> Failure:
    return Failure(ERROR_REASONS[code], CODE_TEXTS[code])


def _code_of(error: ErrorObject) -> str:
    """Return the code that this side knows; a type may be one, and a code may have its type before it."""
    return _known_code(error.code or "") or _known_code(error.type or "")


def _known_code(words: str) -> str:
    found = _KNOWN_CODE.search(words)
    return found[0] if found else ""


def _quoted(reason: Reason, words: str) -> str:
    # Who refuses a key tends to repeat it, in forms that no pattern knows.
    return f": {redact(words)}" if words and reason is not Reason.UPSTREAM_REFUSED_KEY else ""


def _detail(error: Exception) -> str:
    name = type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{name}, verify code {getattr(error, 'verify_code', '?')}"
    number = getattr(error, "errno", None)
    return name if number is None else f"{name}, errno {number}"
