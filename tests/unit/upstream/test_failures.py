"""Every row of every table of failures, and that no failure is without one."""

import errno
import socket
import ssl
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidHandshake,
    InvalidHeaderValue,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
    NegotiationError,
    SecurityError,
    WebSocketException,
)
from websockets.frames import Close
from websockets.http11 import Response

from gateway.core.errors import RETRYABLE, DialError, Reason, UpstreamClosedError
from gateway.core.realtime import ERROR_REASONS, ErrorObject
from gateway.upstream import failures, refusal

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC).timestamp()
KEY = "sk-proj-Q7zW0123456789abcdef"
URL = "wss://user.example/v1/realtime?model=secret-model"
SECRETS = f"Incorrect API key provided: {KEY}, at {URL}, from 10.1.2.3, for org-Abc123456 and ann@example.org"
IN_SECRETS = (KEY, "Q7zW", URL, "secret-model", "10.1.2.3", "org-Abc123456", "ann@example.org")

# Written down once more, so that a slip in a table is seen: reason, and what the sentence must say.
HTTP = {
    400: (Reason.CONFIG_REJECTED, "does not accept"),
    401: (Reason.UPSTREAM_REFUSED_KEY, "key"),
    402: (Reason.BUDGET_EXHAUSTED, "pay"),
    403: (Reason.UPSTREAM_REFUSED_KEY, "no access"),
    404: (Reason.UNKNOWN_MODEL, "does not have the model"),
    408: (Reason.UPSTREAM_UNREACHABLE, "in time"),
    409: (Reason.UPSTREAM_UNREACHABLE, "busy"),
    410: (Reason.UNKNOWN_MODEL, "no longer"),
    421: (Reason.UPSTREAM_UNREACHABLE, "does not serve it"),
    425: (Reason.UPSTREAM_UNREACHABLE, "too early"),
    426: (Reason.UPSTREAM_UNREACHABLE, "lost on the way"),
    429: (Reason.UPSTREAM_RATE_LIMITED, "limits this account"),
    # By their class.
    200: (Reason.UPSTREAM_UNREACHABLE, "without an upgrade"),
    301: (Reason.UPSTREAM_UNREACHABLE, "redirects"),
    302: (Reason.UPSTREAM_UNREACHABLE, "refused"),
    418: (Reason.CONFIG_REJECTED, "does not accept"),
    500: (Reason.UPSTREAM_UNREACHABLE, "in trouble"),
    503: (Reason.UPSTREAM_UNREACHABLE, "in trouble"),
    599: (Reason.UPSTREAM_UNREACHABLE, "in trouble"),
}
CLOSES = {
    1000: (Reason.UPSTREAM_CLOSED, "ended the connection"),
    1001: (Reason.UPSTREAM_CLOSED, "goes away"),
    1002: (Reason.INTERNAL, "this gateway broke"),
    1003: (Reason.INTERNAL, "this gateway sent a kind of data"),
    1004: (Reason.UPSTREAM_CLOSED, "no meaning"),
    1005: (Reason.UPSTREAM_CLOSED, "without a code"),
    1006: (Reason.UPSTREAM_CLOSED, "without a close frame"),
    1007: (Reason.INTERNAL, "this gateway sent text"),
    1008: (Reason.CONFIG_REJECTED, "policy"),
    1009: (Reason.INTERNAL, "this gateway sent a message that is too large"),
    1010: (Reason.UPSTREAM_CLOSED, "extension"),
    1011: (Reason.UPSTREAM_CLOSED, "error of its own"),
    1012: (Reason.UPSTREAM_CLOSED, "restarts"),
    1013: (Reason.UPSTREAM_CLOSED, "later"),
    1014: (Reason.UPSTREAM_CLOSED, "proxy"),
    1015: (Reason.UPSTREAM_CLOSED, "TLS"),
    3000: (Reason.UPSTREAM_REFUSED_KEY, "key"),
    4000: (Reason.CONFIG_REJECTED, "form of the API"),
    # Without a row.
    3001: (Reason.UPSTREAM_CLOSED, "ended the connection"),
    4999: (Reason.UPSTREAM_CLOSED, "ended the connection"),
}
OWN = {
    1002: (Reason.UPSTREAM_CLOSED, "the provider broke"),
    1007: (Reason.UPSTREAM_CLOSED, "the provider sent text"),
    1009: (Reason.INTERNAL, "too large for this gateway"),
    1000: (Reason.UPSTREAM_CLOSED, "this gateway closed"),
}
CODES = {
    "invalid_api_key": (Reason.UPSTREAM_REFUSED_KEY, "does not know the account's key"),
    "account_deactivated": (Reason.UPSTREAM_REFUSED_KEY, "deactivated"),
    "insufficient_quota": (Reason.BUDGET_EXHAUSTED, "quota"),
    "billing_hard_limit_reached": (Reason.BUDGET_EXHAUSTED, "billing limit"),
    "credit_balance_exhausted": (Reason.BUDGET_EXHAUSTED, "credit"),
    "rate_limit_exceeded": (Reason.UPSTREAM_RATE_LIMITED, "rate"),
    "inference_rate_limit_exceeded": (Reason.UPSTREAM_RATE_LIMITED, "rate of inference"),
    "model_not_found": (Reason.UNKNOWN_MODEL, "model"),
    "session_expired": (Reason.UPSTREAM_CLOSED, "time at the provider is up"),
    "server_error": (Reason.UPSTREAM_CLOSED, "error of its own"),
    "beta_api_shape_disabled": (Reason.CONFIG_REJECTED, "beta"),
}
FATAL = {
    "insufficient_quota",
    "invalid_api_key",
    "account_deactivated",
    "billing_hard_limit_reached",
    "credit_balance_exhausted",
    "model_not_found",
    "session_expired",
    "beta_api_shape_disabled",
}
_SYSTEM = Reason.UPSTREAM_UNREACHABLE
NETWORK: list[tuple[Exception, Reason, str]] = [
    (ssl.SSLCertVerificationError(1, f"no match for {URL}"), _SYSTEM, "not trusted"),
    (ssl.SSLError(1, "WRONG_VERSION_NUMBER"), _SYSTEM, "TLS with the provider failed"),
    (ssl.SSLEOFError(8, "EOF"), _SYSTEM, "TLS with the provider failed"),
    (socket.gaierror(socket.EAI_NONAME, "user.example"), _SYSTEM, "no address"),
    (TimeoutError(), _SYSTEM, "in time"),
    (TimeoutError(errno.ETIMEDOUT, "10.1.2.3"), _SYSTEM, "in time"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "10.1.2.3"), _SYSTEM, "nothing listens"),
    (ConnectionResetError(errno.ECONNRESET, "10.1.2.3"), _SYSTEM, "broke"),
    (BrokenPipeError(errno.EPIPE, "x"), _SYSTEM, "broke"),
    (OSError(errno.ENETUNREACH, "10.1.2.3"), _SYSTEM, "no connection"),
    (OSError("Multiple exceptions: 10.1.2.3"), _SYSTEM, "no connection"),
    (OSError(errno.EMFILE, "x"), Reason.OVERLOADED, "no descriptor"),
    (OSError(errno.ENFILE, "x"), Reason.OVERLOADED, "no descriptor"),
    (OSError(errno.ENOBUFS, "x"), Reason.OVERLOADED, "memory"),
    (OSError(errno.ENOMEM, "x"), Reason.OVERLOADED, "memory"),
    (OSError(errno.EADDRNOTAVAIL, "x"), Reason.OVERLOADED, "port"),
    (InvalidUpgrade("Upgrade", URL), _SYSTEM, "another protocol"),
    (InvalidHeaderValue("Sec-WebSocket-Accept", URL), _SYSTEM, "not valid"),
    (NegotiationError(URL), _SYSTEM, "not offered"),
    (SecurityError(URL), _SYSTEM, "too large"),
    (InvalidMessage(URL), _SYSTEM, "not HTTP"),
    (InvalidHandshake(URL), _SYSTEM, "handshake with the provider failed"),
    (InvalidURI(URL, "no"), Reason.INTERNAL, "address"),
    (WebSocketException(URL), _SYSTEM, "WebSocket to the provider failed"),
]


def clean(error: DialError | UpstreamClosedError) -> None:
    """Hold what holds for every failure."""
    shown = f"{error.message} {error.upstream_code} {error}"
    assert not [each for each in IN_SECRETS if each in shown]
    assert error.reason in Reason
    assert error.message
    assert error.retryable is (error.reason in RETRYABLE)
    if error.retry_after_seconds is not None:
        assert error.retryable
        assert 0 < error.retry_after_seconds <= 300


def answered(status: int, body: Any = b"", **headers: str) -> DialError:
    given = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    error = failures.of_dial(InvalidStatus(Response(status, "", given, content)), NOW)
    clean(error)
    return error


def closed(code: int | None, reason: str = "") -> UpstreamClosedError:
    """End as the library tells it: 1000, 1001 and 1005 are a normal end to it."""
    theirs = None if code is None else Close(code, reason)
    kind = ConnectionClosedOK if code in (1000, 1001, 1005) else ConnectionClosedError
    error = failures.of_close(kind(theirs, theirs, None if theirs is None else True))
    clean(error)
    return error


def refused(error: Mapping[str, str | None]) -> DialError:
    named = failures.of_error_event(msgspec.convert(error, ErrorObject))
    clean(named)
    return named


# The handshake.


@pytest.mark.parametrize("status", HTTP)
def test_an_answer_to_the_handshake_has_its_name(status: int) -> None:
    reason, words = HTTP[status]
    error = answered(status)
    assert error.reason is reason
    assert words in error.message
    assert f"(HTTP {status})" in error.message
    assert error.upstream_code == str(status)
    assert error.retry_after_seconds is None


def test_every_row_of_a_status_is_in_a_test() -> None:
    assert set(failures.HTTP_FAILURES) <= set(HTTP)
    assert {status // 100 for status in HTTP} >= set(failures.HTTP_CLASSES)


@pytest.mark.parametrize("status", [100, 103, 200, 204, *range(300, 600)])
def test_no_status_is_without_a_name(status: int) -> None:
    bare = answered(status)
    wordy = answered(status, {"error": {"message": SECRETS, "code": SECRETS, "type": SECRETS}}, Retry_After="7")
    assert bare.reason is wordy.reason
    assert wordy.upstream_code == str(status)
    assert wordy.retry_after_seconds == (7.0 if wordy.retryable else None)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 0.5 ", 0.5),
        ("300", 300.0),
        ("301", 300.0),
        ("999999999", 300.0),
        ("9999999999", None),
        ("0", None),
        ("-1", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("\u00b2", None),  # a digit to `str.isdigit`, and no number
        ("", None),
        ("soon", None),
        (format_datetime(datetime(2026, 11, 22, 12, 0, 9, tzinfo=UTC), usegmt=True), 9.0),
        (format_datetime(datetime(2026, 11, 23, tzinfo=UTC), usegmt=True), 300.0),
        (format_datetime(datetime(2026, 11, 22, 12, 0, 9), usegmt=False), 9.0),  # noqa: DTZ001 "-0000"
        (format_datetime(datetime(2026, 11, 22, 11, tzinfo=UTC), usegmt=True), None),
        ("Sun, 99 Nov 2026 12:00:09 GMT", None),
    ],
)
def test_a_retry_delay_is_taken_in_both_its_forms_and_within_bounds(header: str, seconds: float | None) -> None:
    assert answered(429, Retry_After=header).retry_after_seconds == seconds
    assert answered(503, Retry_After=header).retry_after_seconds == seconds
    assert answered(401, Retry_After=header).retry_after_seconds is None


@given(st.text(max_size=40) | st.text(string.digits + ":, GMT+-SunNov", max_size=40))
def test_no_retry_delay_is_beyond_its_bounds(header: str) -> None:
    seconds = refusal.retry_after([header], NOW)
    assert seconds is None or 0 < seconds <= refusal.RETRY_AFTER_MAX_SECONDS


def test_a_retry_delay_that_is_there_twice_is_read_once() -> None:
    headers = Headers([("Retry-After", "2"), ("Retry-After", "9")])
    error = failures.of_dial(InvalidStatus(Response(429, "", headers)), NOW)
    assert error.retry_after_seconds == 2.0


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_that_carries_a_known_code_has_the_codes_name(code: str) -> None:
    reason, words = CODES[code]
    error = answered(429, {"error": {"message": "No.", "code": code}}, Retry_After="3")
    assert (error.reason, error.upstream_code) == (reason, code)
    assert words in error.message
    assert "(HTTP 429)" in error.message
    assert error.retry_after_seconds == (3.0 if error.retryable else None)


def test_a_server_in_trouble_is_unreachable_whatever_it_calls_itself() -> None:
    error = answered(500, {"error": {"message": "Oh.", "type": "server_error", "code": None}})
    assert error.reason is Reason.UPSTREAM_UNREACHABLE


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"null",
        b"[]",
        b'{"error":"no"}',
        b'{"error":{"code":7}}',
        b"\xff\xfe",
        b'{"x":' + b"[" * 50_000,
        b'{"error":{"code":"insufficient_quota"}}' + b" " * refusal.BODY_MAX_BYTES,
    ],
)
def test_a_body_that_says_nothing_leaves_the_status(body: bytes) -> None:
    error = answered(429, body)
    assert (error.reason, error.upstream_code) == (Reason.UPSTREAM_RATE_LIMITED, "429")
    assert "limits this account (HTTP 429)" in error.message


def test_a_code_that_nobody_here_knows_is_handed_on() -> None:
    error = answered(403, {"error": {"message": "No.", "code": "unsupported_country_region_territory"}})
    assert (error.reason, error.upstream_code) == (Reason.UPSTREAM_REFUSED_KEY, "unsupported_country_region_territory")


def test_the_providers_words_are_told_but_for_those_about_a_key() -> None:
    words = {"error": {"message": "You must provide a model parameter. 0dd-k3y", "code": "missing_model"}}
    assert "You must provide a model parameter." in answered(400, words).message
    assert "0dd-k3y" not in answered(401, words).message


# Close codes.


@pytest.mark.parametrize("code", CLOSES)
def test_a_close_code_has_its_name(code: int) -> None:
    reason, words = CLOSES[code]
    error = closed(None if code == 1006 else code)
    assert error.reason is reason
    assert words in error.message
    assert f"(close code {code})" in error.message
    assert error.upstream_code == str(code)
    assert error.retry_after_seconds == (1.0 if code == 1013 else None)


def test_every_row_of_a_close_code_is_in_a_test() -> None:
    assert set(failures.CLOSE_FAILURES) <= set(CLOSES)
    assert set(failures.OWN_CLOSES) <= set(OWN)


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 3000, 4000])
def test_what_would_come_again_is_not_to_be_tried_again(code: int) -> None:
    assert not closed(code).retryable


@pytest.mark.parametrize("code", [1000, 1001, 1005, None, 1011, 1012, 1013, 1015])
def test_an_end_that_is_nobodys_fault_may_be_tried_again(code: int | None) -> None:
    assert closed(code).retryable


@pytest.mark.parametrize("code", [None, *range(1000, 1016), *range(3000, 5000, 37), 3000, 4000, 4999])
def test_no_close_code_is_without_a_name(code: int | None) -> None:
    assert closed(code).reason is closed(code, SECRETS).reason
    in_dial = failures.of_dial(ConnectionClosedError(None if code is None else Close(code, SECRETS), None), NOW)
    clean(in_dial)
    assert isinstance(in_dial, DialError)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("form", ["{}", "invalid_request_error.{}", "Sorry: {}."])
def test_a_close_reason_that_carries_a_known_code_has_the_codes_name(code: str, form: str) -> None:
    reason, words = CODES[code]
    error = closed(1011, form.format(code))
    assert (error.reason, error.upstream_code) == (reason, code)
    assert words in error.message
    assert "(close code 1011)" in error.message


def test_a_word_that_only_begins_like_a_code_is_none() -> None:
    assert closed(1011, "server_errors are rare").upstream_code == "1011"
    assert closed(1011, "no_server_error").upstream_code == "1011"


@pytest.mark.parametrize(("code", "reason"), [(1013, Reason.UPSTREAM_RATE_LIMITED), (1011, None)])
def test_come_later_is_not_before_a_second_whatever_the_words(code: int, reason: Reason | None) -> None:
    error = closed(code, "rate_limit_exceeded")
    assert error.retry_after_seconds == (None if reason is None else 1.0)
    assert closed(code, "invalid_api_key").retry_after_seconds is None


def test_the_caps_close_is_a_drop_with_the_providers_words() -> None:
    error = closed(1001, "Your session hit the maximum duration of 60 minutes.")
    assert (error.reason, error.upstream_code) == (Reason.UPSTREAM_CLOSED, "1001")
    assert error.message.endswith(": Your session hit the maximum duration of 60 minutes.")


@pytest.mark.parametrize("code", OWN)
@pytest.mark.parametrize("echoed", [False, True])
def test_a_close_of_our_own_is_not_laid_on_the_provider(code: int, *, echoed: bool) -> None:
    reason, words = OWN[code]
    ours = Close(code, SECRETS)
    theirs = Close(code, "") if echoed else None
    error = failures.of_close(ConnectionClosedError(theirs, ours, False if echoed else None))
    clean(error)
    assert (error.reason, error.upstream_code) == (reason, "")
    assert words in error.message


def test_two_closes_that_cross_are_the_providers() -> None:
    error = failures.of_close(ConnectionClosedError(Close(1012, ""), Close(1000, ""), rcvd_then_sent=False))
    assert error.upstream_code == "1012"


def test_a_drop_in_a_dial_keeps_all_that_is_known() -> None:
    error = failures.of_dial(ConnectionClosedError(Close(1013, "busy"), None), NOW)
    assert (error.reason, error.upstream_code, error.retry_after_seconds) == (Reason.UPSTREAM_CLOSED, "1013", 1.0)


# Error events.


@pytest.mark.parametrize("code", CODES)
def test_an_error_event_has_its_name(code: str) -> None:
    reason, words = CODES[code]
    for error in (
        {"code": code, "message": "No."},
        {"type": code, "message": "No."},
        {"type": code, "code": "other"},
        {"code": f"invalid_request_error.{code}"},
    ):
        named = refused(error)
        assert (named.reason, named.upstream_code) == (reason, code)
        assert words in named.message


def test_every_code_of_the_wire_has_its_sentence() -> None:
    assert set(failures.CODE_TEXTS) == set(ERROR_REASONS) == set(CODES)


@pytest.mark.parametrize("code", ["invalid_value", "unknown_parameter", "quite_new", None])
def test_another_code_refuses_the_configuration(code: str | None) -> None:
    error = refused({"code": code, "type": "invalid_request_error", "message": f"Invalid value. {SECRETS}"})
    assert (error.reason, error.upstream_code) == (Reason.CONFIG_REJECTED, code or "")
    assert "Invalid value." in error.message


@pytest.mark.parametrize("code", [KEY, URL, "two words", "", "7", "a" * 65, "line\nbreak"])
def test_a_code_that_is_no_code_is_not_handed_on(code: str) -> None:
    assert refused({"code": code}).upstream_code == ""


def test_the_fatal_codes_are_these() -> None:
    assert set(failures.FATAL_CODES) == FATAL


@pytest.mark.parametrize("code", [*CODES, "invalid_value", None])
@pytest.mark.parametrize("event_id", ["ours", "", None, "another"])
def test_only_a_fatal_error_refuses_under_another_events_name(code: str | None, event_id: str | None) -> None:
    error = ErrorObject(code=code, event_id=event_id)
    assert failures.refuses(error, "ours") is (event_id != "another" or code in FATAL)


# The system and the library.


@pytest.mark.parametrize(
    ("met", "reason", "words"), NETWORK, ids=lambda each: getattr(each, "__name__", repr(each)[:40])
)
def test_what_a_dial_meets_has_its_name(met: Exception, reason: Reason, words: str) -> None:
    error = failures.of_dial(met, NOW)
    clean(error)
    assert error.reason is reason
    assert words in error.message
    assert type(met).__name__ in error.message
    assert error.upstream_code == ""


def test_every_row_of_the_network_is_in_a_test() -> None:
    met = {next(row for kind, row in failures.NETWORK_FAILURES if isinstance(each, kind)) for each, *_ in NETWORK}
    assert met == {row for _, row in failures.NETWORK_FAILURES}
    numbers = {each.errno for each, reason, _ in NETWORK if isinstance(each, OSError) and reason is Reason.OVERLOADED}
    assert numbers == failures.OWN_LIMIT_ERRNOS


def test_a_name_without_an_address_is_no_lack_of_descriptors() -> None:
    for number in failures.OWN_LIMIT_ERRNOS:  # the resolver's numbers are others
        assert failures.of_dial(socket.gaierror(number, "x"), NOW).reason is Reason.UPSTREAM_UNREACHABLE


@pytest.mark.parametrize("stage", ["tcp", "tls", "upgrade", "created", "updated"])
def test_a_dial_that_is_given_up_says_what_it_waited_for(stage: str) -> None:
    error = failures.of_deadline(stage, 5.0)
    assert error.retryable
    assert error.message == f"{failures.STAGE_TEXTS[stage]} did not come within 5 s"


def test_a_missing_session_has_a_sentence_of_its_own() -> None:
    assert failures.of_deadline("created", 5.0).message == "session.created did not come within 5 s"


def test_garbage_may_be_tried_elsewhere() -> None:
    assert failures.of_garbage().retryable
