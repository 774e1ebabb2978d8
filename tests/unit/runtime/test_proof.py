"""A line that stands ready is alive, and who holds one is there: proof by ping, and leases that are taken back."""

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import LeaseEndedError, Reason, UpstreamClosedError
from gateway.runtime.liveness import prove
from tests.support.virtual_time import advance, now, others, turns
from tests.unit.runtime.fakes import Line
from tests.unit.runtime.holders import Holder, holding, until
from tests.unit.runtime.stage import Stage

HALF_SECONDS = 5.0


# One line.


async def test_a_line_that_answers_is_alive() -> None:
    line, began = Line("sess_1"), now()
    await prove(line, 3.0)
    assert (line.pings, now()) == (1, began)


async def test_a_line_that_does_not_answer_in_time_is_dead() -> None:
    line, began = Line("sess_1"), now()
    line.may_answer.clear()
    with pytest.raises(UpstreamClosedError) as caught:
        await prove(line, 3.0)
    assert caught.value.reason is Reason.UPSTREAM_CLOSED
    assert now() - began == pytest.approx(3.0, abs=0.11)
    assert await others() == set()


async def test_a_line_that_cannot_be_asked_is_dead() -> None:
    line = Line("sess_1")
    line.lose()
    with pytest.raises(UpstreamClosedError):
        await prove(line, 3.0)


@pytest.mark.parametrize("stalls", [1, 5])
async def test_our_own_stalls_are_not_its_silence(stalls: int) -> None:
    """The answer lies in the socket while the loop stands still; it must get its chance to be read."""
    line = Line("sess_1")
    line.may_answer.clear()
    proof = asyncio.ensure_future(prove(line, 3.0))
    for _ in range(stalls):
        await asyncio.sleep(0.05)
        advance(5.0)
    await turns(3)
    line.may_answer.set()
    await proof


async def test_a_proof_that_is_cancelled_leaves_nothing() -> None:
    line = Line("sess_1")
    line.may_answer.clear()
    proof = asyncio.ensure_future(prove(line, 3.0))
    await asyncio.sleep(1.0)
    proof.cancel()
    await asyncio.gather(proof, return_exceptions=True)
    assert await others() == set()


# Lines that stand ready.


async def test_a_ready_line_is_asked_every_half_of_the_time_that_a_proof_counts(stage: Stage) -> None:
    await stage.warm()
    await asyncio.sleep(60.5)
    (line,) = stage.exchange.lines
    assert line.pings == 12
    assert stage.pool.stats().ready == 1


async def test_a_ready_line_that_does_not_answer_is_lost_and_replaced(stage: Stage) -> None:
    await stage.warm()
    line = stage.exchange.lines[0]
    line.may_answer.clear()
    with capture_logs() as logs:
        await asyncio.sleep(HALF_SECONDS + 3.5)
    assert (line.closes, line.is_open) == (1, False)
    assert stage.observer.closed == ["lost"]
    assert [log["event"] for log in logs if "lost" in log["event"]] == ["line_lost"]
    assert [each.is_open for each in stage.exchange.lines] == [False, True]
    assert stage.pool.stats().ready == stage.slots.total == 1


async def test_a_ready_line_of_which_a_ping_fails_is_lost_at_once(stage: Stage) -> None:
    await stage.warm()
    stage.exchange.lines[0].ping_failure = UpstreamClosedError(Reason.UPSTREAM_CLOSED, "reset")
    await asyncio.sleep(HALF_SECONDS + 0.5)
    assert stage.observer.closed == ["lost"]
    assert stage.pool.stats().ready == stage.slots.total == 1


async def test_a_line_whose_proof_has_a_fault_of_ours_is_not_kept_unproven(stage: Stage) -> None:
    await stage.warm()
    stage.exchange.lines[0].ping_failure = RuntimeError("a fault of ours")
    with capture_logs():
        await asyncio.sleep(30.0)
    holder = Holder(stage)
    await turns(2)
    assert holder.line is not None, "the line that stands ready is one that nobody can have"
    await holder.end()
    await stage.everything_is_given_back()


async def test_a_stall_of_ours_kills_no_line() -> None:
    """A callback that blocks for five seconds: what was answered meanwhile has not been read."""
    stage = Stage(floor=3)
    await stage.warm()
    lines = list(stage.exchange.lines)
    await asyncio.sleep(HALF_SECONDS - 0.05)
    for line in lines:
        line.may_answer.clear()
    await asyncio.sleep(0.1)
    assert [line.pings for line in lines] == [1, 1, 1]
    for _ in range(3):
        asyncio.get_running_loop().call_soon(advance, 5.0)
        await asyncio.sleep(0.05)
    for line in lines:
        line.may_answer.set()
    await asyncio.sleep(10.0)
    assert [line.is_open for line in lines] == [True] * 3
    assert stage.observer.closed == []
    assert stage.pool.stats().ready == 3
    await stage.clear()


async def test_who_asks_when_no_ready_line_is_known_to_be_alive_gets_one_that_is(stage: Stage) -> None:
    """After a stall of ours every proof is too old; the line may have died with nobody there to notice."""
    stage.exchange.delay_seconds = 0.5
    await stage.warm()
    await asyncio.sleep(1.0)
    stage.exchange.lines[0].may_answer.clear()
    advance(20.0)
    began = now()
    holder = await holding(stage)
    assert holder.line is not None
    assert holder.line.upstream is stage.exchange.lines[1]
    assert now() - began <= 0.6
    await holder.end()


async def test_a_proof_that_waits_delays_no_stop_beyond_its_bound(stage: Stage) -> None:
    await stage.warm()
    stage.exchange.lines[0].may_answer.clear()
    await asyncio.sleep(HALF_SECONDS + 0.5)
    began = now()
    await stage.group.stop()
    assert now() - began <= 0.5
    assert await others() == set()


@pytest.mark.parametrize("steps", range(8))
async def test_a_stop_may_come_at_every_await_of_a_proof_that_fails(steps: int) -> None:
    stage = Stage()
    await stage.warm()
    line = stage.exchange.lines[0]
    line.may_answer.clear()
    line.may_close.clear()
    await asyncio.sleep(HALF_SECONDS + 3.0)
    await until(lambda: line.closes > 0 or not stage.pool.stats().ready)
    await turns(steps)
    await stage.group.stop()
    assert stage.slots.total == 0, stage.slots.acts
    assert await others() == set()


async def test_a_line_that_turns_out_dead_while_it_is_leased_ends_for_its_holder(stage: Stage) -> None:
    await stage.warm()
    line = stage.exchange.lines[0]
    line.may_answer.clear()
    await asyncio.sleep(HALF_SECONDS + 1.0)
    holder = await holding(stage)
    assert holder.line is not None
    assert holder.line.upstream is line
    await asyncio.sleep(2.5)
    assert not line.is_open
    await holder.end()
    await stage.everything_is_given_back()
    assert line.closes == 1


# Leases that nobody uses.


async def test_a_lease_that_is_renewed_is_kept(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    await asyncio.sleep(3600.0)
    assert stage.pool.stats().leased == 1
    await holder.end()
    await stage.everything_is_given_back()
    assert stage.observer.held == [3600.0]


async def test_a_lease_that_nobody_renews_is_taken_back_and_ends_for_its_holder(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    leased = holder.line
    assert leased is not None
    holder.renews = False
    began = now()
    await until(lambda: not stage.pool.stats().leased)
    assert 10.0 <= now() - began <= 13.0
    await turns(5)
    assert stage.exchange.lines[0].closes == 1
    with pytest.raises(LeaseEndedError):
        _ = leased.upstream
    assert stage.pool.leases == {}
    await holder.end()
    await stage.everything_is_given_back()
    assert stage.observer.closed == ["leaked"]
    assert stage.slots.acts.count("release LEASED") == 1


async def test_the_log_names_whose_lease_was_taken_back_and_holds_no_token(stage: Stage) -> None:
    await stage.warm()
    holder = await holding(stage)
    lease_id = holder.line.lease_id if holder.line else ""
    holder.renews = False
    with capture_logs() as logs:
        await asyncio.sleep(15.0)
    (revoked,) = [log for log in logs if log["event"] == "lease_revoked"]
    assert revoked == {
        "event": "lease_revoked",
        "log_level": "error",
        "pool": "default",
        "lease_id": lease_id,
        "tenant": "acme",
        "caller": "bot",
        "session_id": "sess_x",
        "correlation_id": "c-1",
    }
    assert "token" not in json.dumps(revoked)
    await holder.end()


async def test_a_fence_closes_every_line_and_ends_every_lease() -> None:
    stage = Stage(floor=2)
    await stage.warm()
    holder = await holding(stage)
    leased = holder.line
    stage.exchange.may_answer.clear()
    stage.group.perform(stage.core.fence(stage.group.now()))
    await turns(5)
    assert [line.closes for line in stage.exchange.lines] == [1] * len(stage.exchange.lines)
    assert leased is not None
    with pytest.raises(LeaseEndedError):
        _ = leased.upstream
    stage.exchange.may_answer.set()
    await holder.end()
    await asyncio.sleep(1.0)
    await stage.everything_is_given_back()
    assert stage.pool.stats().ready == 2, "a gateway that was fenced begins anew"
    await stage.clear()
