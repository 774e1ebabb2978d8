"""The session protocol holds whatever a fail-over forgets, and each of its rules is needed."""

import pytest

from tests.support.protocol_model import Schedule, first_noticed
from tests.support.protocol_model_record import ALL_RULES, Rule

WAITS = (True, False)
# Within so many schedules a missing rule is noticed; several times as many as it takes.
NOTICED_WITHIN = range(1000)


@pytest.mark.parametrize("waits", WAITS)
def test_every_event_and_control_counts_once_or_is_announced_as_lost(*, waits: bool) -> None:
    lost = sum(Schedule(seed, ALL_RULES, waits=waits).run() for seed in range(500))
    # Else nothing was tried. Where replicas are waited for, what is lost was never said to be durable.
    assert lost


@pytest.mark.heavy
@pytest.mark.parametrize("waits", WAITS)
def test_it_holds_in_thousands_of_other_schedules(*, waits: bool) -> None:
    assert first_noticed(ALL_RULES, range(1_000, 41_000), waits=waits) is None


@pytest.mark.parametrize("rule", Rule)
def test_no_rule_can_be_left_out(rule: Rule) -> None:
    assert first_noticed(ALL_RULES - {rule}, NOTICED_WITHIN, waits=False)


def test_to_wait_for_replicas_does_not_replace_the_floor_of_the_numbers() -> None:
    # An event that was told before it was stored is lost all the same, and its number is taken.
    assert first_noticed(ALL_RULES - {Rule.SEQ_FLOOR}, NOTICED_WITHIN, waits=True)


def test_the_same_seed_is_the_same_schedule() -> None:
    digests = []
    for seed in (7, 7, 8):
        schedule = Schedule(seed, ALL_RULES, waits=False)
        schedule.run()
        digests.append(schedule.digest())
    assert digests[0] == digests[1] != digests[2]
