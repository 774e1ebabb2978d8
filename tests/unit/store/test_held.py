"""The counts of what is held never go below nothing."""

import pytest

from gateway.store.held import Held, OverReleaseError
from tests.support.slots import LEASED, SPARE, WARM


def test_what_is_added_can_be_left_once() -> None:
    held = Held()
    held.add(LEASED)
    held.add(SPARE)
    assert held.total == 2
    held.leave(LEASED)
    with pytest.raises(OverReleaseError, match="leased"):
        held.leave(LEASED)
    with pytest.raises(AssertionError, match="warm"):
        held.leave(WARM)
    assert held.by_kind == {LEASED: 0, WARM: 0, SPARE: 1}
