"""A key does not show in what a provider says, whatever it looks like and wherever the words were cut."""

import pytest

from gateway.upstream.account import ApiKey

KEY = "a-key-of-no-known-form"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"no such key: {KEY}.", "no such key: [redacted]."),
        (f"{KEY}{KEY}", "[redacted][redacted]"),
        (f"cut: {KEY[:-1]}", "cut: [redacted]"),
        (f"cut: {KEY[:6]}", "cut: [redacted]"),
        (f"cut: {KEY[:5]}", f"cut: {KEY[:5]}"),
        ("another sentence", "another sentence"),
        ("", ""),
    ],
)
def test_a_key_is_taken_out_of_what_a_provider_says(said: str, shown: str) -> None:
    assert ApiKey(KEY).hide(said) == shown
