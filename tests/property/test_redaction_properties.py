"""No identifier of the account comes through, wherever it stands in a sentence."""

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.redaction import SENTENCE_MAX, redact

# Words are in small letters, so that what is left of a secret cannot be one of them.
BODY = st.text(string.ascii_uppercase + string.digits + "_-", min_size=8, max_size=40).filter(
    lambda body: body[0] in string.ascii_uppercase
)
PREFIXES = ("sk-", "sk-proj-", "ek_", "org-", "proj_", "sess_", "user-")
KEYS = st.builds(str.__add__, st.sampled_from(PREFIXES), BODY)
OCTETS = st.lists(st.integers(0, 255), min_size=4, max_size=4)
ADDRESSES = OCTETS.map(lambda octets: ".".join(map(str, octets)))
URLS = st.builds("{}://{}.example/{}".format, st.sampled_from(("https", "wss", "http")), BODY, BODY)
BEARERS = st.builds("{} {}".format, st.sampled_from(("Bearer", "bearer", "BEARER")), BODY)
MAILS = st.builds("{}@HOST.EXAMPLE".format, BODY)
SECRETS = KEYS | ADDRESSES | URLS | BEARERS | MAILS

WORDS = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=8), max_size=8).map(" ".join)
# What may stand right before and right after a name in a sentence.
BEFORE = st.sampled_from((" ", ": ", " '", ' "', " (", "=", ", "))
AFTER = st.sampled_from((" ", ". ", "' ", '" ', ") ", ", ", "; ", ": "))


@given(SECRETS, WORDS, BEFORE, AFTER, WORDS)
def test_no_secret_comes_through(secret: str, head: str, before: str, after: str, tail: str) -> None:
    told = redact(f"{head}{before}{secret}{after}{tail}")
    assert secret.rsplit(maxsplit=1)[-1] not in told
    assert "[redacted]" in told


@pytest.mark.parametrize("prefix", PREFIXES)
@settings(max_examples=20)
@given(body=BODY, before=BEFORE, after=AFTER)
def test_no_kind_of_key_comes_through(prefix: str, body: str, before: str, after: str) -> None:
    assert body not in redact(f"the key{before}{prefix}{body}{after}is wrong")


@given(st.lists(SECRETS | WORDS, max_size=20).map(" ".join))
def test_a_sentence_stays_one_bounded_line(text: str) -> None:
    told = redact(text)
    assert len(told) <= SENTENCE_MAX
    assert told == " ".join(told.split()) or len(told) == SENTENCE_MAX


@given(st.text(max_size=400))
def test_any_text_is_taken(text: str) -> None:
    assert len(redact(text)) <= SENTENCE_MAX


@given(WORDS, st.text("\n\t\r \x0b\x0c\u2028", min_size=1, max_size=5), WORDS)
def test_no_line_of_a_log_can_be_forged(head: str, breaks: str, tail: str) -> None:
    assert len(redact(head + breaks + tail).splitlines()) <= 1


@given(st.lists(SECRETS | WORDS, max_size=5).map(" ".join))
def test_to_redact_twice_is_the_same_as_once(text: str) -> None:
    told = redact(text)
    if len(told) < SENTENCE_MAX:
        assert redact(told) == told
