"""Tokens open for whom and what they were sealed, and are nothing at all otherwise."""

import base64
import string
from statistics import median
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runtime.ports import TokenSealer
from gateway.store.sealing_keys import DataKey, KeyUnknownError, SealingKeys
from gateway.store.tokens import CONTENT_MAX_BYTES, SealedTokens
from tests.support.slots import figures

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
ALPHABET = string.ascii_letters + string.digits + "-_"


def tokens(*ids: str) -> SealedTokens:
    material = {"old": OLD, "new": NEW, "stranger": bytes(32)}
    return SealedTokens(SealingKeys([DataKey(each, material[each]) for each in ids]))


SEALER: TokenSealer = tokens("old")


@given(st.text(max_size=20), st.binary(max_size=200))
def test_what_is_sealed_opens_for_its_purpose(purpose: str, content: bytes) -> None:
    token = SEALER.seal(purpose, content)
    assert SEALER.open(purpose, token) == content
    assert set(token) <= set(ALPHABET)
    assert SEALER.seal(purpose, content) != token


def test_any_letter_changed_left_out_or_added_and_it_does_not_open() -> None:
    token = SEALER.seal("resume", b"epoch 7")
    for at in range(len(token)):
        for letter in ALPHABET:
            if letter != token[at]:
                assert SEALER.open("resume", token[:at] + letter + token[at + 1 :]) is None
        assert SEALER.open("resume", token[:at] + token[at + 1 :]) is None
        assert SEALER.open("resume", token[:at] + "!" + token[at:]) is None
        assert SEALER.open("resume", token[:at]) is None
    assert SEALER.open("resume", token + "=") is None
    assert SEALER.open("resume", token + "A") is None
    assert SEALER.open("resume", token) == b"epoch 7"


def test_another_purpose_does_not_open_it() -> None:
    token = SEALER.seal("resume", b"x")
    for purpose in ("lease", "", "resume ", "Resume"):
        assert SEALER.open(purpose, token) is None


def test_another_key_does_not_open_it_not_even_under_the_same_id() -> None:
    token = SEALER.seal("resume", b"x")
    assert tokens("stranger").open("resume", token) is None
    assert SealedTokens(SealingKeys([DataKey("old", NEW)])).open("resume", token) is None


def test_a_new_key_comes_before_an_old_one_goes() -> None:
    before, between, after = tokens("old"), tokens("new", "old"), tokens("new")
    old, new = before.seal("resume", b"1"), between.seal("resume", b"2")
    assert between.open("resume", old) == b"1"
    assert between.open("resume", new) == b"2"
    assert after.open("resume", new) == b"2"
    assert after.open("resume", old) is None
    assert before.open("resume", new) is None


@given(
    st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
)
def test_whatever_comes_is_none_of_ours_and_no_error(token: str) -> None:
    assert SEALER.open("resume", token) is None


@pytest.mark.parametrize("token", ["", "A", "é", "\ud800", "AQ", "AQNvbGQ", "_" * 100_000, "\0" * 50])
def test_odd_words_are_none_of_ours(token: str) -> None:
    assert SEALER.open("resume", token) is None


def test_the_longest_content_opens_and_a_longer_one_is_not_sealed() -> None:
    sealer = SealedTokens(SealingKeys([DataKey("k" * 64, OLD)]))
    longest = bytes(CONTENT_MAX_BYTES)
    assert sealer.open("x", sealer.seal("x", longest)) == longest
    with pytest.raises(ValueError, match="at most"):
        sealer.seal("x", longest + b"\0")


def test_with_the_keys_thrown_away_nothing_opens() -> None:
    keys = SealingKeys([DataKey("old", OLD)])
    sealer = SealedTokens(keys)
    token = sealer.seal("resume", b"x")
    keys.throw_away()
    sealer.throw_away()
    assert sealer.open("resume", token) is None
    assert sealer.open("resume", "garbage") is None
    with pytest.raises(KeyUnknownError):
        sealer.seal("resume", b"x")


def test_a_word_without_form_costs_as_much_as_one_that_was_changed() -> None:
    token = SEALER.seal("resume", bytes(200))
    strange = tokens("stranger").seal("resume", bytes(200))
    words = {"changed": token[:-1] + ("A" if token[-1] != "A" else "Q"), "no_form": "A" * len(token), "key": strange}
    seconds: dict[str, list[float]] = {name: [] for name in words}
    for _ in range(3000):
        for name, word in words.items():
            started = perf_counter()
            SEALER.open("resume", word)
            seconds[name].append(perf_counter() - started)
    middle = {name: median(each) * 1e6 for name, each in seconds.items()}
    figures("opening a token", **{name: f"{each:.1f} µs" for name, each in middle.items()})
    assert max(middle.values()) < 2 * min(middle.values())
