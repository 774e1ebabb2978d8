"""What a caller may do follows from its rights alone."""

from itertools import chain, combinations

import pytest

from gateway.core.principal import Principal, Right


def principal(*rights: Right) -> Principal:
    return Principal("acme", "bot", frozenset(rights))


@pytest.mark.parametrize(
    "rights", list(chain.from_iterable(combinations(Right, size) for size in range(len(Right) + 1)))
)
def test_a_right_is_held_when_given_and_admin_includes_read(rights: tuple[Right, ...]) -> None:
    who = principal(*rights)
    assert who.may(Right.CONVERSE) is (Right.CONVERSE in rights)
    assert who.may(Right.ADMIN) is (Right.ADMIN in rights)
    assert who.may(Right.READ) is bool({Right.READ, Right.ADMIN} & set(rights))


def test_without_rights_nothing_may_be_done() -> None:
    assert not any(principal().may(right) for right in Right)


def test_an_operator_may_not_converse() -> None:
    assert not principal(Right.ADMIN).may(Right.CONVERSE)


def test_a_principal_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        principal().tenant = "other"  # type: ignore[misc]
