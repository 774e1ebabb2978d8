"""Nothing secret and nothing said gets into a field; what operators need does."""

import base64
import math
import random
import time
from collections.abc import Iterator

import pytest

from gateway.core.errors import Reason
from gateway.core.events import ClosedReason
from gateway.telemetry import redaction
from gateway.telemetry.redaction import (
    FIELDS,
    LIST_MAX,
    REDACTED,
    clean,
    label,
    redact,
    text,
    trace,
)

_NOISE = random.Random(7).randbytes
CANARY = "cAnary7Zz"
SECRETS = [
    f"sk-{CANARY}0000000000",
    f"sk-proj-{CANARY}_-{CANARY}",
    f"sk-svcacct-{CANARY}",
    f"sk_{CANARY}{CANARY}",
    f"ek_{CANARY}",
    f"ek_68a1{CANARY}",
    f"tl_{CANARY}",
    f"tl_v1.{CANARY}.{CANARY}",
    f"Bearer {CANARY}",
    f"bearer   {CANARY}",
    f"Authorization: Bearer {CANARY}",
    f"authorization: Custom scheme {CANARY}",
    f"'Authorization': 'Bearer {CANARY}'",
    f"Basic {CANARY}==",
    f"api-key: {CANARY}",
    f'"api_key": "{CANARY}"',
    f"xi-api-key={CANARY}",
    f"x-apikey = {CANARY}",
    f"password={CANARY}",
    f"client_secret: '{CANARY} two'",
    f"resume_token={CANARY}",
    f"?token={CANARY}&x=1",
    f"Cookie: a=b; session={CANARY}",
    f"redis://default:{CANARY}@10.0.0.5:6379/0",
    f"rediss://:{CANARY}@redis/0",
    f"eyJhbGciOiJIUzI1NiJ9.{CANARY}.{CANARY}",
    f"openai.{CANARY * 5}",
    f"{CANARY}{'0123456789abcdef' * 3}",
    f"org-{CANARY}",
    f"proj_{CANARY}",
    f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
    f"got b'{CANARY}' instead",
    f'got b"{CANARY}" instead',
    f"task sk-{CANARY}, then",
    f"(tl_{CANARY})",
    f"lease_tl_{CANARY}",
]
PAYLOADS = [
    base64.b64encode(_NOISE(960)).decode(),
    base64.urlsafe_b64encode(_NOISE(32)).decode(),
    base64.b64encode(_NOISE(48)).decode(),
    _NOISE(32).hex(),
    base64.b64encode(bytes(960)).decode(),
    f"audio {base64.b64encode(_NOISE(120)).decode()} end",
]
TRANSCRIPTS = [
    "my card number is four two four two",
    "Grüezi, ich hätte gern einen Termin",
    "こんにちは 世界",
    "yes, please.",
    '{"type": "response.create", "instructions": "be kind"}',
]
_SENTENCES = frozenset(name for name, kind in FIELDS.items() if kind in (text, label, trace))


def _rendered(fields: dict[str, object]) -> str:
    return str(clean(fields))


@pytest.mark.parametrize("secret", SECRETS)
def test_no_field_shows_a_key_or_a_token(secret: str) -> None:
    for name in FIELDS:
        assert CANARY not in _rendered({name: secret})
        assert CANARY not in _rendered({name: f"it said: {secret}"})
        assert CANARY not in _rendered({name: [secret, (secret,)]})
        assert CANARY not in _rendered({name: ValueError(secret)})


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_field_shows_audio_or_a_key_in_base64_or_hex(payload: str) -> None:
    pieces = [payload[at : at + 30] for at in range(10, len(payload) - 40, 20)]
    for name in FIELDS:
        shown = _rendered({name: payload})
        assert not any(piece in shown for piece in pieces)


@pytest.mark.parametrize("said", TRANSCRIPTS)
def test_what_was_said_fits_in_no_field_but_operators_sentences(said: str) -> None:
    for name in FIELDS.keys() - _SENTENCES:
        assert said not in _rendered({name: said})
    for name in ("text", "delta", "transcript", "instructions", "arguments", "audio", "frame"):
        assert clean({name: said}) == {"dropped_fields": [name]}


@pytest.mark.parametrize("value", [b"canary", bytearray(b"canary"), memoryview(b"canary")])
def test_bytes_are_shown_by_their_length(value: object) -> None:
    assert clean({"message": value, "state": value, "count": value}) == {
        "message": "[6 bytes]",
        "state": "[6 bytes]",
        "count": REDACTED,
    }


def test_a_foreign_object_is_never_asked_for_its_text() -> None:
    class Key:
        def __repr__(self) -> str:
            raise AssertionError

        __str__ = __repr__

    for name in FIELDS:
        assert clean({name: Key()})[name] in ("[Key]", REDACTED)


def test_no_field_is_of_two_kinds() -> None:
    names = " ".join(redaction._FIELDS_BY_KIND.values()).split()
    assert sorted(names) == sorted(FIELDS)


def test_unknown_fields_are_dropped_and_named() -> None:
    assert clean({"event": "x", "transcript": "hello", "payload": b"1"}) == {
        "event": "x",
        "dropped_fields": ["payload", "transcript"],
    }


def test_a_dropped_fields_name_cannot_carry_anything() -> None:
    odd = {"sk-" + CANARY: 1, "two words": 1, "Über": 1, "a" * 41: 1, "a\nb": 1}
    assert clean(odd) == {"dropped_fields": [REDACTED] * 5}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("error", Reason.UPSTREAM_CLOSED, "UPSTREAM_CLOSED"),
        ("state", ClosedReason.BYE_NOW, "bye_now"),
        ("upstream_session_id", "sess_DkX9aBcDeFgHiJkLmNoP", "sess_DkX9aBcDeFgHiJkLmNoP"),
        ("session_id", "0192f3a4b5c67d8e9f00112233445566", "0192f3a4b5c67d8e9f00112233445566"),
        ("session_id", "0192f3a4-b5c6-7d8e-9f00-112233445566", None),
        ("connection_id", 17, 17),
        ("address", "[::1]:50051", "[::1]:50051"),
        ("task", "pool:default:watch", "pool:default:watch"),
        ("rights", ("converse", "read"), ["converse", "read"]),
        ("tenant", "Acme Ltd", "Acme Ltd"),
        ("durable", True, True),
        ("retry_after_seconds", None, None),
        ("reason", "close code 1006, no close frame", None),
        ("message", "token bucket is empty; tokens: 5", None),
        ("count", math.nan, "nan"),
        ("error", ConnectionError("peer went away"), "ConnectionError: peer went away"),
    ],
)
def test_what_operators_need_is_shown(name: str, value: object, shown: object) -> None:
    assert clean({name: value}) == {name: value if shown is None and value else shown}


def test_a_path_in_a_traceback_stays_readable() -> None:
    path = '  File "/usr/lib/python3/site-packages/gateway/telemetry/redaction.py", line 12'
    assert redact(path) == path


def test_everything_is_cut() -> None:
    fields = dict.fromkeys(FIELDS, "ab " * 100_000)
    assert all(len(str(value)) <= 8_001 for value in clean(fields).values())
    assert len(str(clean({"names": ["x"] * 1_000})["names"])) <= LIST_MAX * 5
    assert len(str(label("call " * 100))) <= 129


def _hostile() -> Iterator[str]:
    for piece in ("a", "a-", "b'", "eyJ", "token", "token=", "://", "sk-", "=", "+a", "a1", "\\"):
        yield piece * (8_000 // len(piece))


@pytest.mark.parametrize("hostile", list(_hostile()), ids=lambda each: each[:8])
def test_no_text_makes_the_net_slow(hostile: str) -> None:
    before = time.process_time()
    redact(hostile, 8_000)
    # Milliseconds in truth; a pattern that backtracks would need minutes.
    assert time.process_time() - before < 1
