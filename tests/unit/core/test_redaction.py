"""What a provider says about an account does not reach a caller or a log."""

import pytest

from gateway.core.redaction import SENTENCE_MAX, redact


@pytest.mark.parametrize(
    ("said", "secret"),
    [
        ("Incorrect API key provided: sk-proj-ab12**********wxyz.", "ab12"),
        ("Your organization org-AbCdEf123456 is out of quota", "AbCdEf123456"),
        ("project proj_0123456789abcdef has no access", "0123456789abcdef"),
        ("session sess_E6U0txeK1UA23CH3RdweL has expired", "E6U0txeK1UA23CH3RdweL"),
        ("ephemeral key ek_68abcdef012345 is used up", "68abcdef012345"),
        ("user user-1234abcd is blocked", "1234abcd"),
        ("see https://platform.example/account/limits?org=secret", "secret"),
        ("connect wss://token@host.example/v1/realtime failed", "host.example"),
        ("from 10.20.30.40 refused", "10.20.30.40"),
        ("write to admin@example.org", "admin@example.org"),
        ("header Authorization: Bearer abc.def.ghi is wrong", "abc.def.ghi"),
    ],
)
def test_identifiers_of_the_account_are_taken_out(said: str, secret: str) -> None:
    assert secret not in redact(said)
    assert "[redacted]" in redact(said)


@pytest.mark.parametrize(
    "said",
    [
        "Invalid value: 'loud'. Supported values are: 'alloy' and 'marin'.",
        "Missing required parameter: 'session.type'.",
        "Conversation already has an active response in progress: resp_E6U0utdfn8rQdwHYPNrmv.",
        "Item with item_id not found: item_E6U0u6ZFxXUxYesuS1vaT",
        "You exceeded 5.2 requests at 12:30, version 1.2.3",
    ],
)
def test_a_useful_sentence_stays_as_it_is(said: str) -> None:
    assert redact(said) == said


def test_a_sentence_is_one_line_of_bounded_length() -> None:
    told = redact("too\nlong\r\n\t" * 1000)
    assert "\n" not in told
    assert len(told) == SENTENCE_MAX


def test_a_secret_across_the_cut_is_not_half_shown() -> None:
    assert "sk-" not in redact("x" * (SENTENCE_MAX - 4) + " sk-abcdefgh")
