"""What a handshake carries."""

import pytest

from gateway.core.errors import DialError, Reason
from gateway.upstream import openai
from gateway.upstream.account import Account, ApiKey

ACCOUNT = Account("main", ApiKey("sk-test"), "org_1", "proj_1")
NAMED = {"Authorization": "Bearer sk-test", "OpenAI-Organization": "org_1", "OpenAI-Project": "proj_1"}


def test_a_line_without_a_safety_identifier_carries_no_such_header() -> None:
    assert openai.headers(ACCOUNT) == openai.headers(ACCOUNT, "") == NAMED


@pytest.mark.parametrize("identifier", ["u", "hash of ann", "a" * openai.SAFETY_IDENTIFIER_MAX, "~!@#%"])
def test_a_safety_identifier_goes_up_as_it_is(identifier: str) -> None:
    assert openai.headers(ACCOUNT, identifier) == {**NAMED, "OpenAI-Safety-Identifier": identifier}


@pytest.mark.parametrize(
    "identifier",
    ["a" * (openai.SAFETY_IDENTIFIER_MAX + 1), "a\r\nX-Forged: 1", "a\x00", "a\t", "\x7f", "ü", " quux", "quux ", " "],
)
def test_a_safety_identifier_that_cannot_stand_in_a_header_is_refused_and_not_repeated(identifier: str) -> None:
    with pytest.raises(DialError) as caught:
        openai.headers(ACCOUNT, identifier)
    assert caught.value.reason is Reason.SAFETY_IDENTIFIER_REFUSED
    assert not caught.value.retryable
    assert identifier == " " or identifier not in caught.value.message
