"""When a line is left before its end."""

from random import Random

import pytest

from gateway.core.rotation import RotationOptions, due

OPTIONS = RotationOptions()


def test_a_line_of_an_hour_is_left_two_minutes_before_its_end_give_or_take() -> None:
    found = [due(3600.0, OPTIONS, Random(seed)) for seed in range(200)]
    softs = [each.soft for each in found if each is not None]
    assert len(softs) == 200
    assert 3450 <= min(softs) < 3460
    assert 3500 < max(softs) <= 3510
    assert {each.hard for each in found if each is not None} == {3585.0}


@pytest.mark.parametrize("life", [10.0, 60.0, 900.0])
def test_of_a_short_life_the_times_are_parts(life: float) -> None:
    for seed in range(50):
        found = due(life, OPTIONS, Random(seed))
        assert found is not None
        assert life * 0.875 <= found.soft <= life * 0.925
        assert found.hard == pytest.approx(life * 0.9875)


def test_a_line_whose_end_is_not_known_is_not_left() -> None:
    assert due(None, OPTIONS, Random(1)) is None


def test_the_last_moment_is_never_before_the_first() -> None:
    options = RotationOptions(before_seconds=1.0, jitter_seconds=50.0, hard_seconds=5.0)
    for seed in range(50):
        found = due(3600.0, options, Random(seed))
        assert found is not None
        assert found.soft <= found.hard
