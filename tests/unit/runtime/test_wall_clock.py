"""A wall clock that is set by an hour, either way, ends nothing: what is timed here is timed by the loop's clock."""

import asyncio
import time

import pytest

from gateway.core import events as out
from gateway.core.errors import GatewayError, Reason
from gateway.core.session import SessionState
from tests.support.virtual_time import turns
from tests.unit.runtime.resuming import Phone
from tests.unit.runtime.stage import Stage

HOUR: int = 3600


@pytest.fixture(params=[HOUR, -HOUR], ids=["forwards", "backwards"])
def jump(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> "Jump":
    return Jump(request.param, monkeypatch)


class Jump:
    """Sets the clock of the wall, once."""

    def __init__(self, seconds: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._seconds = seconds
        self._monkeypatch = monkeypatch

    def __call__(self) -> None:
        before, before_ns = time.time, time.time_ns
        self._monkeypatch.setattr(time, "time", lambda: before() + self._seconds)
        self._monkeypatch.setattr(time, "time_ns", lambda: before_ns() + self._seconds * 10**9)


async def test_a_jump_of_the_wall_clock_ends_no_call_no_lease_and_no_warm_line(stage: Stage, jump: Jump) -> None:
    await stage.warm()
    phone = Phone(stage)
    await phone.open()
    line, ready = stage.line, stage.pool.stats().ready
    jump()
    await asyncio.sleep(20.0)
    phone.say("Still there?")
    await turns(5)
    assert (stage.line, line.is_open) == (line, True)
    assert line.types() == ["conversation.item.create"]
    assert stage.pool.stats().ready == ready
    assert stage.observer.closed == []
    assert await phone.hang_up() is None


async def test_a_caller_that_comes_back_after_a_jump_finds_its_session(stage: Stage, jump: Jump) -> None:
    await stage.warm()
    phone = Phone(stage)
    await phone.open()
    line = stage.line
    await phone.drop()
    jump()
    await asyncio.sleep(5.0)
    assert stage.session.state is SessionState.DETACHED
    async with asyncio.timeout(5.0):
        resumed = await phone.come_back()
    assert resumed.outcome is out.ResumeOutcome.REATTACHED
    assert stage.line is line
    assert await phone.hang_up() is None


async def test_where_the_clocks_of_two_gateways_differ_by_an_hour_no_session_is_taken_over(
    stage: Stage, jump: Jump
) -> None:
    """A token names the moment of its issue: gateways have to agree about the time, within the token's life."""
    other = Stage(store=stage.store, form=stage.form, sealer=stage.sealer, gateway="gateway-2")
    await stage.warm()
    await other.warm()
    phone = Phone(stage)
    await phone.open()
    await phone.drop()
    phone.stage = other
    jump()
    error = await phone.resume()
    assert isinstance(error, GatewayError)
    assert error.reason is Reason.RESUME_REFUSED
    # At home it is worth what it was.
    phone.stage = stage
    async with asyncio.timeout(5.0):
        resumed = await phone.come_back()
    assert resumed.outcome is out.ResumeOutcome.REATTACHED
    assert await phone.hang_up() is None
    await other.clear()
