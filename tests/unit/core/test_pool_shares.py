"""Several templates in one class: what each has for itself, and the bare lines that they share."""

import pytest

from gateway.core.backoff import BackoffOptions
from gateway.core.demand import DemandOptions
from gateway.core.effects import Close, Dial
from gateway.core.errors import Reason
from gateway.core.ids import ConnectionId, WaiterId
from gateway.core.share import BARE
from tests.unit.core.test_pool_stage import (
    OFF,
    ON,
    Stage,
    all_of,
    closes,
    dialled_pools,
    dials,
    grants,
    limits,
    one,
    rejects,
    reserves,
)


def rare(**changes: object) -> Stage:
    """Two templates that follow demand, with no floor of their own."""
    return Stage(a=limits(demand=ON, **changes), b=limits(demand=ON, **changes))


def with_bare(stage: Stage, lines: int = 1) -> list[ConnectionId]:
    """Let callers who leave again cause the bare lines, and be rid of the lines of their template."""
    waiters = [stage.ask() for _ in range(lines)]
    begun = [dial for _, effects in waiters for dial in all_of(Dial, effects)]
    for waiter_id, _ in waiters:
        stage.cancel(waiter_id)
    bare = list[ConnectionId]()
    while begun:
        dial = begun.pop(0)
        if dial.pool == BARE:
            begun += all_of(Dial, stage.ready(dial.connection_id))
            bare.append(dial.connection_id)
        else:
            stage.ready(dial.connection_id)
            begun += all_of(Dial, stage.lose_standing(dial.connection_id))
    assert stage.stats(BARE).ready == len(bare)
    return bare


# The bare share.


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Stage(a=limits(demand=ON)), False),
        (Stage(a=limits(demand=OFF), b=limits(demand=OFF)), False),
        (Stage(a=limits(demand=ON, floor=1), b=limits(demand=OFF)), False),
        (Stage(a=limits(demand=ON), b=limits(demand=OFF)), True),
        (Stage(a=limits(demand=ON), b=limits(demand=ON, floor=1)), True),
    ],
)
def test_bare_lines_are_kept_where_a_template_among_several_may_be_rarely_asked_for(
    stage: Stage,
    expected: bool,  # noqa: FBT001
) -> None:
    assert stage.core.has_bare is expected


def test_the_callers_of_rare_templates_are_counted_together() -> None:
    stage = rare()
    for pool in "abab":
        stage.cancel(stage.ask(pool)[0])
        stage.after(3.0)
    assert (stage.stats("a").floor, stage.stats("b").floor) == (0, 0)
    assert stage.stats(BARE).floor >= 1


def test_a_template_that_is_often_asked_for_has_its_own_floor() -> None:
    stage = rare()
    for _ in range(10):
        stage.cancel(stage.ask()[0])
    assert stage.stats("a").floor == 4  # its ceiling
    assert stage.stats("b").floor == 0


def test_a_bare_line_serves_any_template_and_says_that_it_is_not_configured() -> None:
    for pool in "ab":
        stage = rare()
        (line,) = with_bare(stage)
        (grant,) = grants(stage.ask(pool)[1])
        assert (grant.connection_id, grant.configured, grant.at_once) == (line, False, True)


def test_a_line_of_its_own_template_is_configured() -> None:
    stage = Stage(a=limits(demand=ON), b=limits(demand=ON, floor=1))
    stage.warm()
    assert stage.granted("b").configured


def test_its_own_line_comes_before_a_bare_one() -> None:
    stage = Stage(a=limits(demand=ON), b=limits(demand=ON, floor=1))
    (own,) = stage.warm()
    with_bare(stage)
    grant = stage.granted("b")
    assert (grant.connection_id, grant.configured) == (own, True)


def test_a_bare_line_counts_for_the_template_that_took_it() -> None:
    stage = rare()
    with_bare(stage)
    stage.granted("b")
    assert (stage.stats("b").leased, stage.stats(BARE).leased, stage.stats(BARE).ready) == (1, 0, 0)


def test_a_bare_line_does_not_lift_a_template_above_its_ceiling() -> None:
    stage = Stage(a=limits(demand=ON, ceiling=8), b=limits(demand=ON, ceiling=1))
    with_bare(stage)
    stage.settle_dials(stage.ask("b")[1])
    assert (stage.stats("b").leased, stage.stats(BARE).ready > 0) == (1, True)
    assert grants(stage.ask("b")[1]) == []
    assert len(grants(stage.ask("a")[1])) == 1


def test_a_template_that_does_not_follow_demand_never_gets_a_bare_line() -> None:
    stage = Stage(a=limits(demand=ON), b=limits(demand=OFF))
    with_bare(stage)
    _, effects = stage.ask("b")
    assert grants(effects) == []
    assert dialled_pools(effects) == ["b"]


def test_a_bare_line_is_not_reserved() -> None:
    stage = rare()
    with_bare(stage)
    _, effects = stage.reserve("b")
    assert reserves(effects) == []
    assert "b" in dialled_pools(effects)


def test_bare_lines_go_to_who_has_waited_longest() -> None:
    stage = rare(proof_max_seconds=10.0)
    (line,) = with_bare(stage)
    stage.now += 30.0
    second, _ = stage.ask("b")  # the line is there, and its proof is stale
    stage.now += 0.1
    stage.ask("a")
    assert [grant.waiter_id for grant in grants(stage.prove(line))] == [second]


def test_bare_lines_leave_the_other_templates_their_places() -> None:
    stage = Stage(a=limits(demand=ON, ceiling=1), b=limits(demand=OFF, ceiling=1))
    for _ in range(20):
        stage.cancel(stage.ask("a")[0])
    begun = [ConnectionId(1), ConnectionId(2)]
    for line in begun[: stage.stats("a").dialling + stage.stats(BARE).dialling]:
        stage.ready(line)
    assert len(dials(stage.ask("b")[1])) == 1


def test_bare_lines_are_drained_with_the_rest() -> None:
    stage = rare()
    (line,) = with_bare(stage)
    assert closes(stage.core.drain(stage.now)) == [Close(line, "drained")]


def test_bare_lines_stay_when_one_template_is_drained() -> None:
    stage = rare()
    (line,) = with_bare(stage)
    assert closes(stage.core.drain(stage.now, "a")) == []
    assert stage.granted("b").connection_id == line


def test_bare_lines_are_given_back_too() -> None:
    stage = rare()
    (line,) = with_bare(stage)
    assert closes(stage.core.give_back(1, stage.now)) == [Close(line, "recalled")]


# Templates side by side.


def test_a_template_that_is_refused_does_not_hold_up_another() -> None:
    stage = Stage(a=limits(), b=limits())
    for _ in range(9):
        _, effects = stage.ask("a")
        for line in dials(effects):
            stage.fail(line, Reason.CONFIG_REJECTED)
        stage.after(1.0)
    assert not stage.stats("a").breaker_open
    _, effects = stage.ask("b")
    assert [grant.at_once for grant in grants(stage.ready(dials(effects)[0]))] == [False]


def test_a_template_that_is_refused_is_not_forgiven_for_anothers_line() -> None:
    stage = Stage(a=limits(floor=1, backoff=BackoffOptions(first_seconds=1.0)), b=limits(floor=1))
    refused, good = dials(stage.start())
    for _ in range(2):
        stage.fail(refused, Reason.CONFIG_REJECTED)
        _, (refused,) = stage.until_dial()
    stage.ready(good)
    stage.after(5.0)
    stage.fail(refused, Reason.CONFIG_REJECTED)
    assert stage.until_dial()[0] == pytest.approx(30.0)


def test_a_line_that_stands_forgives_the_other_templates_what_the_provider_did() -> None:
    stage = Stage(a=limits(floor=1, backoff=BackoffOptions(first_seconds=1.0)), b=limits(floor=1))
    broken, good = dials(stage.start())
    for _ in range(3):
        stage.fail(broken)
        _, (broken,) = stage.until_dial()
    stage.ready(good)
    stage.after(5.0)
    stage.fail(broken)
    assert stage.until_dial()[0] == pytest.approx(1.0)


def test_a_waiter_is_not_hopeless_while_a_bare_line_is_on_its_way() -> None:
    stage = rare()
    waiter_id, effects = stage.ask("a")
    own, bare = (next(d.connection_id for d in all_of(Dial, effects) if d.pool == pool) for pool in ("a", BARE))
    assert rejects(stage.fail(own, retry_after=60.0)) == []
    assert [grant.waiter_id for grant in grants(stage.ready(bare))] == [waiter_id]


# Demand.


def test_without_demand_the_floor_is_what_is_configured() -> None:
    stage = one(floor=2, ceiling=9, demand=OFF)
    stage.warm()
    for _ in range(50):
        stage.cancel(stage.ask(wait=0.0)[0])
    assert stage.stats().floor == 2


def test_the_floor_follows_demand_and_never_falls_below_what_is_configured() -> None:
    stage = one(floor=2, ceiling=16, demand=ON)
    assert stage.stats().floor == 2
    for _ in range(20):
        stage.cancel(stage.ask()[0])
        stage.now += 0.1
    assert stage.stats().floor > 2
    stage.after(3600.0)
    assert stage.stats().floor == 2


def test_the_floor_goes_to_zero_when_nobody_comes() -> None:
    stage = one(ceiling=16, demand=ON)
    for _ in range(20):
        stage.cancel(stage.ask()[0])
    assert stage.stats().floor > 2
    stage.after(3600.0)
    assert stage.stats().floor == 0


def test_the_floor_never_passes_the_ceiling() -> None:
    stage = one(ceiling=5, demand=DemandOptions(enabled=True, k=9.0))
    for _ in range(100):
        stage.cancel(stage.ask()[0])
    assert stage.stats().floor == 5


def test_who_reserves_and_who_redeems_count_as_one_caller() -> None:
    plain, reserving = one(ceiling=16, demand=ON), one(ceiling=16, demand=ON)
    for stage in (plain, reserving):
        stage.settle_dials(stage.ask()[1])
    for _ in range(12):
        plain.ask()
        for made in reserves(reserving.reserve()[1]):
            reserving.redeem(made.lease_id)
    assert plain.stats().floor == reserving.stats().floor > 1


# A line for one waiter alone.


def test_a_line_is_dialled_for_one_waiter_alone_and_is_no_hit() -> None:
    stage = one(floor=1)
    stage.warm()
    waiter_id, effects = stage.ask_alone()
    (dial,) = all_of(Dial, effects)
    assert (dial.dialled_for, grants(effects)) == (waiter_id, [])
    (grant,) = grants(stage.ready(dial.connection_id))
    assert (grant.waiter_id, grant.connection_id, grant.at_once) == (waiter_id, dial.connection_id, False)
    assert stage.stats().ready == 1


def test_a_line_for_one_waiter_alone_goes_to_nobody_else() -> None:
    stage = one(ceiling=8)
    first, effects = stage.ask()
    stage.ready(dials(effects)[0])
    alone, effects = stage.ask_alone()
    (line,) = dials(effects)
    other, more = stage.ask()
    assert len(dials(more)) == 1
    assert [grant.waiter_id for grant in grants(stage.ready(line))] == [alone]
    assert [grant.waiter_id for grant in grants(stage.ready(dials(more)[0]))] == [other]
    assert first != other


def test_a_dial_for_a_waiter_who_has_left_is_ended() -> None:
    stage = one()
    waiter_id, effects = stage.ask_alone()
    (line,) = dials(effects)
    assert stage.cancel(waiter_id) == [Close(line, "unwanted")]
    assert stage.ready(line) == []
    stage.closed(line)
    assert stage.stats().total == 0


def test_a_dial_for_a_waiter_who_is_late_is_ended() -> None:
    stage = one()
    waiter_id, effects = stage.ask_alone(wait=2.0)
    told = stage.after(2.0)
    assert rejects(told) == [(waiter_id, Reason.WAIT_TIMED_OUT)]
    assert closes(told) == [Close(dials(effects)[0], "unwanted")]


def test_a_line_for_one_waiter_alone_that_comes_at_the_deadline_is_too_late() -> None:
    stage = one()
    waiter_id, effects = stage.ask_alone(wait=2.0)
    stage.now += 2.0
    told = stage.ready(dials(effects)[0])
    assert (grants(told), rejects(told)) == ([], [(waiter_id, Reason.WAIT_TIMED_OUT)])
    assert closes(told) == [Close(dials(effects)[0], "unwanted")]
    assert stage.stats().ready == 0


def test_a_dial_for_one_waiter_alone_that_fails_is_tried_again() -> None:
    stage = one(backoff=BackoffOptions(first_seconds=0.25))
    waiter_id, effects = stage.ask_alone()
    stage.fail(dials(effects)[0])
    (dial,) = all_of(Dial, stage.after(0.25))
    assert dial.dialled_for == waiter_id


def test_a_hanging_dial_is_given_up_for_those_who_wait_alone_too() -> None:
    stage = one()
    first, effects = stage.ask_alone(wait=60.0)
    (line,) = dials(effects)
    stage.begun(line)
    stage.ask_alone(wait=60.0)
    effects = stage.after(4.0)
    assert closes(effects) == [Close(line, "hanging")]
    assert [dial.dialled_for for dial in all_of(Dial, effects)] == [first] == [WaiterId(1)]


def test_idle_lines_make_room_for_who_waits_alone() -> None:
    stage = one(floor=2, ceiling=2)
    oldest, _ = stage.warm()
    waiter_id, effects = stage.ask_alone()
    assert closes(effects) == [Close(oldest, "unwanted")]
    assert stage.after(0.5) == []
    (dial,) = all_of(Dial, stage.closed(oldest))
    assert dial.dialled_for == waiter_id


def test_no_line_that_somebody_is_owed_makes_room() -> None:
    stage = one(floor=1, ceiling=1)
    stage.warm()
    stage.reserved()
    assert closes(stage.ask_alone()[1]) == []


def test_who_alone_asks_for_what_is_refused_hears_it_at_once_and_nobody_else_suffers() -> None:
    stage = one(ceiling=8)
    for _ in range(3):
        waiter_id, effects = stage.ask_alone()
        told = stage.fail(dials(effects)[0], Reason.SAFETY_IDENTIFIER_REFUSED)
        assert rejects(told) == [(waiter_id, Reason.SAFETY_IDENTIFIER_REFUSED)]
    assert len(dials(stage.ask()[1])) == 1


def test_no_line_makes_room_for_a_dial_that_may_not_begin() -> None:
    stage = one(floor=1, ceiling=1)
    (line,) = stage.warm()
    for _ in range(3):
        stage.breaker.failed(Reason.UPSTREAM_REFUSED_KEY, stage.now)
    waiter_id, effects = stage.ask_alone()
    assert (closes(effects), rejects(effects)) == ([], [(waiter_id, Reason.UPSTREAM_REFUSED_KEY)])
    assert stage.granted().connection_id == line
