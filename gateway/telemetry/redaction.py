"""What may stand in a log line: listed fields, each of one kind, under a net of patterns.

A field that is not listed is left out and named in `dropped_fields`. The kind does most of the
work: a name cannot hold a sentence, a number cannot hold a key. The net is for others' texts.
"""

import math
import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Final

REDACTED: Final = "[redacted]"
LIST_MAX: Final = 32
WORD_MAX: Final = 128
TEXT_MAX: Final = 500
TRACE_MAX: Final = 8_000
# A secret must not survive because the cut left less of it than a pattern wants.
_CUT_MARGIN: Final = 200

Plain = str | int | float | bool | None | list[str | int | float | bool | None]

# Each alternative is linear, or bounded: a line must not cost more than what it tells of.
_SECRETS: Final = re.compile(
    r"""
      (?<![^\W_])(?:sk|rk|pk)[-_][\w-]{8,}                    # keys of speech services
    | (?<![^\W_])(?:ek|tl)_[\w.~+/=-]{6,}                     # client secrets; our own tokens
    | \b(?:Bearer|Basic|Digest|Negotiate)\s+[\w.~+/=-]{6,}    # credentials in a header
    | \beyJ[\w-]{6,}(?:\.[\w-]*){0,4}                         # JWT
    | \b(?:org|proj)[-_][A-Za-z0-9]{8,}                       # whose account it is
    | (?<=://)[^\s/@]{1,200}@                                 # user and password in a URL
    | -----BEGIN[\ A-Z]{0,40}-----[\s\S]*                     # PEM
    | \bb'(?:[^'\\]|\\.)*'?                                   # bytes that somebody formatted
    | \bb"(?:[^"\\]|\\.)*"?
    # Keys and payloads in hex or base64: a digit and a letter, or both cases where it has slashes
    # (else it is a path); or simply too long to be anything else.
    | (?<![\w-])(?=[A-Z_-]{0,80}[0-9])(?=[0-9_-]{0,80}[A-Z])[A-Z0-9_-]{40,}={0,2}
    | (?<![\w+/])(?=[A-Z+/]{0,80}[0-9])(?-i:(?=[^a-z]{0,80}[a-z])(?=[^A-Z]{0,80}[A-Z]))
      [A-Z0-9+/]{40,}={0,2}
    | [A-Z0-9+/=_-]{120,}
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NAMED_SECRETS: Final = re.compile(
    r"""\b([\w-]{0,40}(?:password|passwd|secret|token|api[-_]?key))
        (["']?\s{0,4}[:=]\s{0,4})
        ("[^"]*"?|'[^']*'?|\S+)""",
    re.IGNORECASE | re.VERBOSE,
)
_SECRET_HEADERS: Final = re.compile(r"""\b(authorization|cookie)(["']?\s{0,4}[:=]\s{0,4})([^\r\n]+)""", re.IGNORECASE)
_WORD: Final = re.compile(r"[\w.:/@#+,=\[\]-]*")
_FIELD_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")


def redact(text: str, length_max: int = TEXT_MAX) -> str:
    """Return `text`, cut, with all that looks like a key, a token or a payload replaced."""
    shown = text[: length_max + _CUT_MARGIN]
    for pattern in (_SECRET_HEADERS, _NAMED_SECRETS):
        shown = pattern.sub(rf"\1\2{REDACTED}", shown)
    shown = _SECRETS.sub(REDACTED, shown)
    return shown if len(shown) <= length_max else shown[:length_max] + "…"


# Kinds. None of them calls `repr` or `str` on a foreign object: it may hold a key.


def number(value: object) -> Plain:
    """Admit numbers only."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float) else REDACTED


def word(value: object) -> Plain:
    """Admit names, identifiers, addresses and small lists of them: no blanks, so no sentences."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_one_word(each) for each in list(value)[:LIST_MAX]]
    return _one_word(value)


def text(value: object) -> Plain:
    """Admit a sentence that was written for operators."""
    if isinstance(value, BaseException):
        return redact(f"{type(value).__name__}: {value}")
    return redact(value) if isinstance(value, str) else _scalar(value)


def label(value: object) -> Plain:
    """Admit a name that people chose, blanks and all."""
    return redact(value, WORD_MAX) if isinstance(value, str) else _scalar(value)


def trace(value: object) -> Plain:
    """Admit a formatted traceback; its end says most."""
    if not isinstance(value, str):
        return REDACTED
    shown = value if len(value) <= TRACE_MAX else value[-TRACE_MAX:].partition("\n")[2]
    return redact(shown, TRACE_MAX)


def _one_word(value: object) -> str | int | float | bool | None:
    if not isinstance(value, str):
        return _scalar(value)
    return _shown_word(value)


# Nearly all words are a few names of ours, again and again; to look through one costs as much as to write the line.
@lru_cache(maxsize=1024)
def _shown_word(value: str) -> str:
    return redact(value, WORD_MAX) if _WORD.fullmatch(value) else REDACTED


def _scalar(value: object) -> str | int | float | bool | None:
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    plain = number(value)
    return f"[{type(value).__name__}]" if plain is REDACTED or isinstance(plain, list) else plain


_FIELDS_BY_KIND: Final[Mapping[Callable[[object], Plain], str]] = {
    word: """event level timestamp logger session_id pool upstream_session_id source state
        previous_state task stage result method status component target account provider
        model template template_version profile durability address owner_address peer signal
        version key_id connection_id lease_id waiter_id trace_id response_id item_id event_id upstream_code
        code command pools direction trigger outcome health rights names components""",
    label: "tenant caller correlation_id",
    text: "reason cause error message detail hint path",
    trace: "exception",
    number: """duration_seconds waited_ms waited_seconds audio_in_bytes audio_out_bytes frames_in
        frames_out responses input_tokens output_tokens input_text_tokens input_audio_tokens
        input_image_tokens input_cached_tokens output_text_tokens output_audio_tokens
        output_reasoning_tokens input_cached_text_tokens input_cached_audio_tokens
        input_cached_image_tokens cost_dollars seconds delay_seconds deadline_seconds retry_after_seconds
        life_seconds lag_seconds entry_age_ms attempt count epoch seq cseq size_bytes port pid
        worker floor ceiling total dialling ready leased warm draining waiting position sessions
        retryable durable now limit wanted dials_max waiters_max wait_max_ms""",
}
FIELDS: Final[Mapping[str, Callable[[object], Plain]]] = {
    name: kind for kind, names in _FIELDS_BY_KIND.items() for name in names.split()
}


def clean(fields: Mapping[str, object]) -> dict[str, object]:
    """Return what may be written of `fields`."""
    kept: dict[str, object] = {n: FIELDS[n](value) for n, value in fields.items() if n in FIELDS}
    dropped = [_field_name(name) for name in fields if name not in FIELDS]
    return {**kept, "dropped_fields": sorted(dropped)[:LIST_MAX]} if dropped else kept


def _field_name(name: str) -> str:
    return redact(name) if _FIELD_NAME.fullmatch(name) else REDACTED
