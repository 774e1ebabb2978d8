"""The shell of the pool: every line dialled is accounted for, whoever is cancelled whenever."""

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import CapacityError, GatewayError, LeaseEndedError, Reason, UpstreamError
from gateway.core.events import LineSource
from gateway.runtime.ports import CallerGoneError
from tests.support.virtual_time import advance, now, others, turns
from tests.unit.runtime.holders import WAIT_SECONDS, Holder, holding, wish
from tests.unit.runtime.stage import Stage


async def idle(stage: Stage) -> None:
    """Nobody waits or holds, and every line that is open is either ready or being closed."""
    await stage.everything_is_given_back()


# Warmth.


async def test_nothing_is_dialled_before_the_start(stage: Stage) -> None:
    await turns(5)
    assert stage.exchange.dials == []


async def test_lines_are_made_ready_before_anybody_asks(stage: Stage) -> None:
    await stage.warm()
    assert stage.pool.stats().ready == 1
    assert stage.observer.dials == ["ok"]


async def test_a_line_is_dialled_with_the_template_applied(stage: Stage) -> None:
    await stage.warm()
    assert stage.exchange.dials == [(stage.template.line_class, {"instructions": "Be brief.", "type": "realtime"})]


async def test_a_warm_line_is_had_without_waiting(stage: Stage) -> None:
    await stage.warm()
    await asyncio.sleep(10.0)
    began = now()
    async with stage.pool.lease(wish()) as line:
        assert now() == began
        assert line.source is LineSource.WARM
        assert (line.entry_age_seconds, line.waited_seconds, line.granted_at) == (10.0, 0.0, began)
        assert line.upstream is stage.exchange.lines[0]
    assert stage.observer.acquires == [("hit", 0.0)]
    assert stage.observer.entry_ages == [10.0]
    assert stage.pool.acquires == {"hit": 1}


async def test_a_line_for_a_running_session_is_no_callers_acquire(stage: Stage) -> None:
    await stage.warm()
    async with stage.pool.lease(wish(recovers=True)):
        stage.exchange.delay_seconds = 3600.0
        with pytest.raises(CapacityError):
            await stage.pool.lease(wish(0.1, recovers=True)).__aenter__()
    assert (stage.observer.acquires, stage.pool.acquires) == ([], {})


async def test_a_hit_needs_no_turn_of_the_loop(stage: Stage) -> None:
    await stage.warm()
    holder = Holder(stage)
    await turns(1)
    assert holder.line is not None
    await holder.end()


async def test_a_line_that_had_to_be_waited_for_is_no_hit(stage: Stage) -> None:
    stage.exchange.delay_seconds = 0.5
    async with stage.pool.lease(wish()) as line:
        assert line.source is LineSource.WAITED
        assert (line.entry_age_seconds, line.waited_seconds) == (0.0, 0.5)
    assert stage.observer.acquires == [("wait", 0.5)]


async def test_a_taken_line_is_replaced_while_it_is_used(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    await turns(5)
    assert (stage.pool.stats().leased, stage.pool.stats().ready) == (1, 1)
    await holder.end()


# The end of a lease.


async def test_a_used_line_is_closed_and_never_given_again(stage: Stage) -> None:
    await stage.warm()
    used = set()
    for _ in range(6):
        holder = await holding(stage)
        assert holder.line is not None
        used.add(holder.line.upstream)
        await holder.end()
        await turns(5)
    assert len(used) == 6
    assert all(line.closes == 1 for line in used)  # type: ignore[attr-defined]
    await idle(stage)


async def test_after_its_end_a_lease_raises(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    line = holder.line
    await holder.end()
    assert line is not None
    with pytest.raises(LeaseEndedError) as caught:
        _ = line.upstream
    assert caught.value.reason is Reason.LEASE_ENDED


async def test_how_long_a_line_was_held_is_told(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    await asyncio.sleep(60.0)
    await holder.end()
    await turns(5)
    assert stage.observer.held == [60.0]
    assert stage.observer.closed == ["lease_ended"]


async def test_a_failure_of_the_holder_gives_the_line_back(stage: Stage) -> None:
    await stage.warm()
    with pytest.raises(RuntimeError):
        async with stage.pool.lease(wish()):
            raise RuntimeError("a fault")
    await idle(stage)
    assert stage.exchange.lines[0].closes == 1


async def test_a_cancelled_holder_gives_the_line_back(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    holder.task.cancel()
    await holder.error()
    await idle(stage)
    assert stage.exchange.lines[0].closes == 1


# Lines that end by themselves.


async def test_an_idle_line_that_is_lost_is_replaced(stage: Stage) -> None:
    await stage.warm()
    await asyncio.sleep(6.0)
    stage.exchange.lines[0].lose()
    await turns(10)
    assert stage.pool.stats().ready == 1
    assert len(stage.exchange.lines) == 2
    assert stage.observer.closed == ["lost"]


async def test_a_line_that_is_lost_as_soon_as_it_is_ready_is_replaced_a_little_later(stage: Stage) -> None:
    await stage.warm()
    stage.exchange.lines[0].lose()
    await turns(10)
    assert len(stage.exchange.dials) == 1, "a provider that accepts and drops is not to be run against"
    await asyncio.sleep(0.25)
    assert stage.pool.stats().ready == 1


async def test_a_lost_line_that_is_leased_ends_the_lease(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    stage.exchange.lines[0].lose()
    await turns(10)
    assert stage.pool.stats().leased == 0
    await holder.end()
    await idle(stage)
    assert stage.exchange.lines[0].closes == 0
    assert stage.observer.closed == ["lost"]


async def test_a_line_lost_between_grant_and_use_is_handed_over_and_says_so(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    holder = Holder(stage)
    await turns(3)
    stage.exchange.may_answer.set()
    while not stage.exchange.lines:
        await turns(1)
    stage.exchange.lines[0].lose()
    await turns(10)
    assert holder.line is not None
    with pytest.raises(UpstreamError) as caught:
        await holder.line.upstream.send(b"{}")
    assert caught.value.reason is Reason.UPSTREAM_CLOSED
    await holder.end()
    await idle(stage)


@pytest.mark.parametrize("steps", range(8))
async def test_a_line_may_be_lost_at_any_moment_of_its_close(stage: Stage, steps: int) -> None:
    await stage.warm()
    holder = await holding(stage)
    line = stage.exchange.lines[0]
    line.may_close.clear()
    holder.let_go()
    await turns(steps)
    line.lose()
    line.may_close.set()
    await idle(stage)
    assert stage.observer.closed in (["lost"], ["lease_ended"])
    assert stage.pool.stats().draining == 0


async def test_an_old_line_is_retired_and_replaced() -> None:
    stage = Stage(age_max_seconds=60.0)
    await stage.warm()
    await asyncio.sleep(61.0)
    assert stage.exchange.lines[0].closes == 1
    assert stage.observer.closed == ["aged"]
    assert stage.pool.stats().ready == 1
    await stage.clear()


async def test_a_line_knows_its_life(stage: Stage) -> None:
    stage.exchange.life_seconds = 100.0
    await stage.warm()
    await asyncio.sleep(21.0)
    assert stage.exchange.lines[0].closes == 1


# Refusals.


async def test_who_waits_too_long_is_told_how_full_the_pool_is(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    began = now()
    error = await Holder(stage).error()
    assert now() - began == WAIT_SECONDS
    assert isinstance(error, CapacityError)
    assert (error.reason, error.retryable) == (Reason.WAIT_TIMED_OUT, True)
    assert error.retry_after_seconds
    assert error.numbers is not None
    numbers = error.numbers
    assert (numbers.scope, numbers.pool) == ("pool", "default")
    assert (numbers.total, numbers.leased, numbers.warm, numbers.dialling, numbers.waiting) == (2, 0, 0, 2, 0)
    assert stage.observer.results == ["timeout"]
    assert stage.observer.acquires[0][1] == pytest.approx(WAIT_SECONDS)


@pytest.mark.parametrize("later", [0.1, 0.2, 0.3, 0.7, 1.1])
@pytest.mark.parametrize("wait_seconds", [0.1, 0.2, 0.7])
async def test_a_timeout_is_counted_as_one_whatever_the_clock_says(
    stage: Stage, later: float, wait_seconds: float
) -> None:
    stage.exchange.may_answer.clear()
    await asyncio.sleep(later)
    await Holder(stage, wait_seconds).error()
    assert stage.observer.results == ["timeout"]


async def test_a_full_queue_refuses_at_once() -> None:
    stage = Stage(waiters_max=1, floor=0)
    stage.exchange.may_answer.clear()
    first = Holder(stage)
    await turns(2)
    error = await Holder(stage).error()
    assert isinstance(error, CapacityError)
    assert error.reason is Reason.QUEUE_FULL
    assert error.numbers is not None
    assert error.numbers.waiting == 1
    assert stage.observer.acquires == [("shed", 0.0)]
    await first.error()
    await stage.clear()


@pytest.mark.parametrize(("leaves", "told"), [("gateway", False), ("pool", True)])
async def test_only_a_pool_that_is_drained_tells_its_numbers(stage: Stage, leaves: str, *, told: bool) -> None:
    """By them a caller knows whether another gateway would serve it."""
    stage.exchange.may_answer.clear()
    waiting = Holder(stage)
    await turns(2)
    (stage.pool._group if leaves == "gateway" else stage.pool).drain()
    error = await waiting.error()
    assert isinstance(error, CapacityError)
    assert (error.reason, error.numbers is not None) == (Reason.DRAINING, told)


async def test_a_drained_pool_refuses(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    waiting = Holder(stage)
    await turns(2)
    stage.pool.drain()
    for error in (await waiting.error(), await Holder(stage).error()):
        assert isinstance(error, CapacityError)
        assert error.reason is Reason.DRAINING
    assert stage.observer.results == ["shed", "shed"]


@pytest.mark.parametrize(
    "reason",
    [
        Reason.UPSTREAM_UNREACHABLE,
        Reason.UPSTREAM_REFUSED_KEY,
        Reason.UPSTREAM_RATE_LIMITED,
        Reason.UNKNOWN_MODEL,
        Reason.CONFIG_REJECTED,
    ],
)
async def test_a_caller_learns_why_no_line_can_be_dialled(stage: Stage, reason: Reason) -> None:
    stage.exchange.fail(reason, times=100)
    error = await Holder(stage).error()
    assert isinstance(error, UpstreamError)
    assert error.reason is reason
    assert set(stage.observer.dials) == {reason.lower()}
    # Whom no dial can reach in time is not kept waiting for nothing.
    assert stage.observer.results in (["shed"], ["timeout"])


@pytest.mark.parametrize("reason", [Reason.UPSTREAM_REFUSED_KEY, Reason.UPSTREAM_UNREACHABLE, Reason.UNKNOWN_MODEL])
async def test_who_cannot_come_back_is_not_told_when(stage: Stage, reason: Reason) -> None:
    stage.exchange.fail(reason, times=100)
    error = await Holder(stage).error()
    assert isinstance(error, GatewayError)
    assert (error.retry_after_seconds is not None) is error.retryable


async def test_a_dial_that_fails_is_tried_again_in_time(stage: Stage) -> None:
    stage.exchange.fail(Reason.UPSTREAM_UNREACHABLE, times=2)
    async with stage.pool.lease(wish()) as line:
        assert line.source is LineSource.WAITED
    assert stage.observer.dials[:3] == ["upstream_unreachable", "upstream_unreachable", "ok"]


async def test_a_fault_of_the_dialler_does_not_eat_a_place(stage: Stage) -> None:
    stage.exchange.failures.append(RuntimeError("a fault of ours"))
    with capture_logs() as logs:
        stage.group.start()
        await asyncio.sleep(10.0)
    assert stage.pool.stats().total == stage.pool.stats().ready == 1
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["dial_failed"]


# Late loops.


async def test_a_busy_loop_forgets_no_deadline(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    holder = Holder(stage)
    await turns(2)
    advance(WAIT_SECONDS + 1.0)
    stage.group._arm()  # as after an input that settled just before the deadline
    error = await holder.error()
    assert isinstance(error, CapacityError)


# Callers who go.


async def test_who_goes_while_it_waits_leaves_nothing(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    holder = Holder(stage)
    await turns(3)
    holder.abandoned.set_result(None)
    assert isinstance(await holder.error(), CallerGoneError)
    assert stage.observer.results == ["cancelled"]
    stage.exchange.may_answer.set()
    await idle(stage)


async def test_a_grant_to_a_caller_that_was_just_cancelled_leaks_nothing(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    holder = Holder(stage)
    await turns(3)
    stage.exchange.may_answer.set()
    while not stage.pool.stats().leased:  # granted; its task has not run since
        await turns(1)
    holder.task.cancel()
    await holder.error()
    assert stage.observer.results == ["cancelled"]
    await idle(stage)
    assert sum(line.closes for line in stage.exchange.lines) == 1


async def test_a_caller_cancelled_in_the_moment_before_its_grant_leaks_nothing(stage: Stage) -> None:
    stage.exchange.may_answer.clear()
    holder = Holder(stage)
    await turns(3)
    holder.task.cancel()
    stage.exchange.may_answer.set()
    await holder.error()
    await idle(stage)


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("warm", [True, False])
async def test_a_caller_may_be_cancelled_at_every_await(*, warm: bool, steps: int) -> None:
    stage = Stage(ceiling=2)
    if warm:
        await stage.warm()
    holder = Holder(stage)
    holder.let_go()
    await turns(steps)
    holder.task.cancel()
    await holder.error()
    await idle(stage)
    assert len(stage.observer.results) <= 1
    # Whoever comes next is served: no place was lost.
    for _ in range(4):
        following = await holding(stage)
        await following.end()
        await turns(5)
    await idle(stage)
    await stage.clear()


@pytest.mark.parametrize("steps", range(12))
async def test_a_caller_may_go_at_every_await(steps: int) -> None:
    stage = Stage()
    holder = Holder(stage)
    holder.let_go()
    await turns(steps)
    holder.abandoned.set_result(None)
    error = await holder.error()
    assert error is None or isinstance(error, CallerGoneError)
    assert stage.observer.results == [{True: "wait", False: "cancelled"}[error is None]]
    await idle(stage)
    await stage.clear()


@pytest.mark.parametrize("steps", range(10))
async def test_the_waiter_behind_a_cancelled_one_is_served(steps: int) -> None:
    stage = Stage(floor=0, ceiling=1)
    first, second = Holder(stage), Holder(stage)
    await turns(steps)
    first.task.cancel()
    await second.end()
    await first.error()
    await idle(stage)
    await stage.clear()


# The end of the pool.


async def test_a_stop_closes_every_line_and_leaves_no_task(stage: Stage) -> None:
    await stage.warm()
    await stage.group.stop()
    assert stage.exchange.open_lines == []
    assert [line.closes for line in stage.exchange.lines] == [1]
    assert stage.observer.closed == ["drained"]
    assert stage.pool.stats().total == 0
    assert await others() == set()


async def test_a_stop_gives_up_a_dial_that_is_under_way(stage: Stage) -> None:
    """Nobody wants that line any more, and a provider that does not answer must not hold the stop."""
    stage.exchange.delay_seconds = 3600.0
    stage.group.start()
    await turns(3)
    began = now()
    await stage.group.stop()
    assert now() == began
    assert stage.exchange.under_way == 0
    assert stage.exchange.open_lines == []
    assert await others() == set()


async def test_a_stop_waits_for_closes(stage: Stage) -> None:
    stage.exchange.close_seconds = 1.0
    await stage.warm()
    began = now()
    await stage.group.stop()
    assert now() - began == 1.0
    assert stage.exchange.open_lines == []
    assert stage.observer.closed == ["drained"]
    assert await others() == set()


@pytest.mark.parametrize("steps", range(10))
async def test_a_stop_may_come_at_any_moment(steps: int) -> None:
    stage = Stage(floor=2)
    stage.group.start()
    await turns(steps)
    await stage.group.stop()
    assert stage.exchange.open_lines == []
    assert stage.exchange.under_way == 0
    assert await others() == set()


async def test_a_stop_is_bounded_whoever_does_not_answer(stage: Stage) -> None:
    await stage.warm()
    stage.exchange.may_answer.clear()
    stage.exchange.lines[0].may_close.clear()
    holder = Holder(stage)
    await turns(3)
    began = now()
    await holder.end()
    await stage.group.stop()
    assert now() - began <= 10.0
    assert stage.exchange.under_way == 0
    assert await others() == set()


async def test_a_drain_leaves_leases_to_finish(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    await turns(5)
    stage.pool.drain()
    await turns(5)
    assert (stage.pool.stats().leased, stage.pool.stats().ready) == (1, 0)
    assert stage.exchange.lines[0].is_open
    await holder.end()
    await turns(5)
    assert stage.pool.stats().total == 0
    assert stage.exchange.open_lines == []


async def test_a_stopped_pool_rings_no_more(stage: Stage) -> None:
    await stage.warm()
    await stage.group.stop()
    dials = len(stage.exchange.dials)
    await asyncio.sleep(10_000.0)
    assert len(stage.exchange.dials) == dials
