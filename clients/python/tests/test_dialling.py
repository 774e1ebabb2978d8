"""Which gateway is taken of those that are dialled: tables, and a network that is away for a while."""

import dataclasses
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline_client import TrunklineError
from trunkline_client._dialling import Link, Race
from trunkline_client._resume import Attempt

ATTEMPT = Attempt(
    owner="owner:1",
    dials=1,
    is_link_doubtful=False,
    pause_seconds=0.0,
    patience_seconds=0.25,
    dial_seconds=1.0,
    answer_seconds=1.0,
)
DOUBTFUL = dataclasses.replace(ATTEMPT, is_link_doubtful=True)
OWNER, OTHER = (0, "owner:1"), (1, "gateway:1")
AGAIN = (2, "owner:1")


def begun(attempt: Attempt = ATTEMPT, address: str = "gateway:1") -> Race:
    race = Race(attempt, address, 0.0)
    race.due(0.0)
    return race


def test_the_owner_and_the_own_address_are_dialled_at_once() -> None:
    race = Race(dataclasses.replace(ATTEMPT, dials=3), "gateway:1", 0.0)
    assert race.due(0.0) == [OWNER, OTHER, (2, "gateway:1"), (3, "gateway:1")]
    assert [race.is_owner(number) for number in range(4)] == [True, False, False, False]
    assert race.due(0.1) == []


@pytest.mark.parametrize("address", ["owner:1", "dns:///owner:1"])
def test_an_owner_at_the_own_address_is_dialled_once(address: str) -> None:
    race = Race(DOUBTFUL, address, 0.0)
    assert race.due(0.0) == [(0, address)]
    race.note(0, Link.READY)
    assert race.due(0.1) == []
    assert (race.taken(0.1), race.is_owner(0)) == (0, False)


@pytest.mark.parametrize(
    ("owner", "other", "at_once", "after_patience"),
    [
        (Link.READY, Link.TRYING, 0, 0),
        (Link.READY, Link.READY, 0, 0),
        (Link.READY, Link.FAILED, 0, 0),
        (Link.TRYING, Link.READY, None, 1),
        (Link.FAILED, Link.READY, 1, 1),
        (Link.TRYING, Link.TRYING, None, None),
        (Link.TRYING, Link.FAILED, None, None),
        (Link.FAILED, Link.TRYING, None, None),
        (Link.FAILED, Link.FAILED, None, None),
    ],
)
def test_the_owner_is_taken_and_another_one_when_there_is_none(
    owner: Link, other: Link, at_once: int | None, after_patience: int | None
) -> None:
    race = begun()
    race.note(0, owner)
    race.note(1, other)
    assert race.due(0.1) == []
    assert (race.taken(0.1), race.taken(0.25)) == (at_once, after_patience)


@pytest.mark.parametrize("before", [Link.TRYING, Link.FAILED])
def test_an_owner_is_dialled_again_when_the_link_has_shown_that_it_is_back(before: Link) -> None:
    race = begun(DOUBTFUL)
    race.note(0, before)
    assert race.due(0.5) == []
    race.note(1, Link.READY)
    assert race.due(0.5) == [AGAIN]
    assert race.due(0.6) == []
    assert race.due_at() == 0.75
    assert race.taken(0.74) is None
    assert race.taken(0.75) == 1
    race.note(2, Link.READY)
    assert race.taken(0.74) == 2


def test_an_owner_that_is_refused_on_a_link_that_is_back_is_given_up_at_once() -> None:
    race = begun(DOUBTFUL)
    for number, link in ((0, Link.FAILED), (1, Link.READY)):
        race.note(number, link)
    race.due(0.1)
    race.note(2, Link.FAILED)
    assert race.taken(0.1) == 1


def test_an_owner_that_is_there_is_not_dialled_again() -> None:
    race = begun(DOUBTFUL)
    for number in (0, 1):
        race.note(number, Link.READY)
    assert race.due(0.1) == []
    assert race.taken(0.1) == 0


@pytest.mark.parametrize(
    ("owner", "other", "now", "reason"),
    [
        (Link.FAILED, Link.FAILED, 0.0, "CONNECTION_LOST"),
        (Link.FAILED, Link.TRYING, 0.9, ""),
        (Link.FAILED, Link.TRYING, 1.0, "TIMED_OUT"),
        (Link.TRYING, Link.TRYING, 1.0, "TIMED_OUT"),
        (Link.TRYING, Link.READY, 1.0, ""),
    ],
)
def test_a_round_fails_when_all_have_or_when_its_time_is_over(
    owner: Link, other: Link, now: float, reason: str
) -> None:
    race = begun()
    race.note(0, owner)
    race.note(1, other)
    if reason:
        with pytest.raises(TrunklineError, match=reason):
            race.check(now)
    else:
        race.check(now)


def test_what_comes_behind_an_end_is_no_matter() -> None:
    race = begun()
    race.note(0, Link.FAILED)
    race.note(0, Link.READY)
    race.note(1, Link.READY)
    assert race.taken(0.0) == 1


# A network: each place answers a dial after its trip, or refuses it, while the link is there; a dial
# that begins before that is refused, or lost for good.
TRIPS = st.floats(0.001, 0.2)


@given(
    trips=st.fixed_dictionaries({"owner:1": TRIPS, "gateway:1": TRIPS}),
    is_refusing=st.booleans(),
    back_at=st.floats(0.0, 0.3),
    dials=st.sampled_from([1, 3]),
    skews=st.lists(st.floats(0.0, 0.01), min_size=8, max_size=8),
)
def test_an_owner_that_can_be_reached_when_another_one_can_is_always_taken(
    trips: Mapping[str, float], *, is_refusing: bool, back_at: float, dials: int, skews: list[float]
) -> None:
    race = Race(dataclasses.replace(DOUBTFUL, dials=dials), "gateway:1", 0.0)
    number = settled(race, trips, skews, back_at, Link.FAILED if is_refusing else Link.TRYING)
    assert number is None or race.is_owner(number)
    assert number is not None or back_at > 0


@given(other=TRIPS, owner=st.sampled_from([Link.TRYING, Link.FAILED]), attempt=st.sampled_from([ATTEMPT, DOUBTFUL]))
def test_without_an_owner_another_one_is_taken_soon(other: float, owner: Link, attempt: Attempt) -> None:
    race = Race(attempt, "gateway:1", 0.0)
    trips = {"gateway:1": other, "owner:1": 0.001 if owner is Link.FAILED else math.inf}
    ends = {"owner:1": owner, "gateway:1": Link.READY}
    number = settled(race, trips, [0.0] * 8, 0.0, Link.TRYING, ends)
    assert number is not None
    assert not race.is_owner(number)


def settled(
    race: Race,
    trips: Mapping[str, float],
    skews: list[float],
    back_at: float,
    while_away: Link,
    ends: Mapping[str, Link] | None = None,
) -> int | None:
    """Play a round as the shells do; return who is taken, None = nobody was reached."""
    now = 0.0
    coming: list[tuple[float, int, Link]] = []
    while True:
        for number, address in race.due(now):
            # One is sent a little after the other.
            sent_at = now + skews[number % len(skews)]
            link = while_away if sent_at < back_at else (ends or {}).get(address, Link.READY)
            if link is not Link.TRYING:
                coming.append((sent_at + (0.001 if sent_at < back_at else trips[address]), number, link))
        taken = race.taken(now)
        if taken is not None:
            return taken
        try:
            race.check(now)
        except TrunklineError:
            return None
        due_at = race.due_at()
        assert due_at > now
        now = min([due_at, *(at for at, _, _ in coming)])
        for at, number, link in coming:
            if at <= now:
                race.note(number, link)
        coming = [each for each in coming if each[0] > now]
