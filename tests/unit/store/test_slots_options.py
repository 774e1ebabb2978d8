"""Limits that cannot work together are refused before anything starts."""

import pytest

from gateway.store.options import AccountSlots, SlotsOptions


@pytest.mark.parametrize(("cap", "kept"), [(1, 0), (7, 0), (8, 2), (40, 2), (41, 3), (100, 5), (101, 6)])
def test_five_in_a_hundred_places_are_kept_for_recovery(cap: int, kept: int) -> None:
    assert AccountSlots(cap, 1, 1).spare_kept == kept


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, float("nan"), 1)])
def test_an_account_that_nobody_could_dial_is_refused(numbers: tuple[int, float, int]) -> None:
    with pytest.raises(ValueError, match="account"):
        AccountSlots(*numbers)


def test_a_healthy_gateway_s_places_outlive_a_rejoin() -> None:
    with pytest.raises(ValueError, match="heartbeats"):
        SlotsOptions(ttl_seconds=2.5, heartbeat_seconds=1)
    with pytest.raises(ValueError, match="jitter"):
        SlotsOptions(heartbeat_jitter=0.5)
    assert SlotsOptions().frozen_seconds == pytest.approx(13.5)
