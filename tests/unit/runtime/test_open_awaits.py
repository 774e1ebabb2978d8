"""An open may be cut at every await: while it waits, redeems, dials, configures, greets. Nothing is left of it."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.core import events as out
from gateway.core.errors import CallerError, StoreError
from gateway.core.errors import Reason as Why
from tests.support.virtual_time import others, turns
from tests.unit.runtime.fakes import ACME, Caller
from tests.unit.runtime.holders import holding, wish
from tests.unit.runtime.stage import END_USER_LINE, UNRECOVERED, Stage

# When the open is cut: so much time after it came, and so many turns of the loop after that. The account lets
# a dial wait for 10 ms and the dial takes 50, so these are before, between and behind them.
MOMENTS = (0.0, 0.01, 0.06)
TURNS = range(45)
# Each of them takes its time; a few are looked at with every change.
CUTS = pytest.mark.parametrize("cuts", [TURNS[::4], pytest.param(TURNS, marks=pytest.mark.heavy)], ids=["some", "all"])
HISTORY: tuple[Mapping[str, Any], ...] = tuple(
    {"type": "conversation.item.create", "item": {"type": "message", "role": role}} for role in ("user", "assistant")
)


class Scene:
    """A gateway, perhaps a second one where the reservation was made, and one caller that wants everything."""

    def __init__(self, *, token: str, warm: bool, alone: bool = False) -> None:
        self.stage = Stage(line=END_USER_LINE, floor=1 if warm else 0, ceiling=2)
        self.stage.slots.turn_seconds, self.stage.exchange.delay_seconds = 0.01, 0.05
        self.other = Stage(line=END_USER_LINE, book=self.stage.book, sealer=self.stage.sealer, gateway="gateway-2")
        self.stage.exchange.answers = True
        self.maker = {"home": self.stage, "elsewhere": self.other}.get(token)
        self.alone = alone
        self.warm = warm
        self.token = ""
        self.caller = Caller()

    async def prepare(self) -> None:
        await self.other.warm()
        self.stage.group.start()
        if self.warm:
            await asyncio.sleep(1.0)
        if self.maker is not None:
            made = await self.maker.reservations.acquire(self.maker.pool, 30.0, wish())
            self.token = made.token
            await asyncio.sleep(6.0)
            for line in [] if self.warm else self.maker.exchange.open_lines:
                line.lose()  # the unit is still owed: the open must wait for its line
            await turns(3)
        for stage in (self.stage, self.other):
            stage.keep_reservations()

    def begin(self) -> "asyncio.Task[Any]":
        self.caller.say(
            out.OpenRequest(
                lease_token=self.token,
                safety_identifier="user-1" if self.alone else "",
                overrides={"instructions": "x"},
                history=HISTORY,
                greet=out.Greet(guard_ms=20),
            )
        )
        self.caller.control("conversation.item.create", item={})
        self.caller.say(out.Bye())
        return self.stage.serve(self.caller)

    async def nothing_is_left(self) -> None:
        """Neither a slot nor a waiter, a lease, a reservation or a task; and the next one is served."""
        await asyncio.sleep(1.5)
        await self.stage.everything_is_given_back()
        if self.maker is not None:
            await self.maker.reservations.release(self.token, ACME)
        assert [stage.pool.stats().reserved for stage in (self.stage, self.other)] == [0, 0]
        assert [stage.reservations._mine for stage in (self.stage, self.other)] == [{}, {}]
        assert self.stage.reservations._redeeming == set()
        assert self.stage.book.ends_at == {}
        assert len(self.stage.observer.results) <= 1
        following = await holding(self.stage)
        await following.end()
        await asyncio.sleep(0.5)
        await self.stage.everything_is_given_back()
        await self.stage.clear()
        await self.other.clear()
        assert self.stage.exchange.open_lines == self.other.exchange.open_lines == []
        assert all(line.closes <= 1 for line in self.stage.exchange.lines)
        assert await others() == set()


async def cut(scene: Scene, how: str, moment: float, steps: int) -> None:
    """Begin to open, and cut it after so much time and so many turns."""
    await scene.prepare()
    call = scene.begin()
    if moment:
        await asyncio.sleep(moment)
    await turns(steps)
    if how == "owner":
        for owner in list(scene.stage.directory._owners._tasks):
            owner.cancel()
    elif how == "vanishes":
        scene.caller.vanish()
    else:
        call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await scene.nothing_is_left()


@pytest.mark.parametrize("how", ["cancelled", "vanishes", "owner"])
@pytest.mark.parametrize("token", ["", "home", "elsewhere"])
@pytest.mark.parametrize(("warm", "moment"), [(True, 0.0), *((False, moment) for moment in MOMENTS)])
@CUTS
async def test_an_open_may_be_cut_at_every_await(
    *, cuts: range, moment: float, warm: bool, token: str, how: str
) -> None:
    for steps in cuts:
        await cut(Scene(token=token, warm=warm), how, moment, steps)


@pytest.mark.parametrize("token", ["", "home"])
@pytest.mark.parametrize("moment", MOMENTS)
@CUTS
async def test_an_open_for_one_end_user_may_be_cut_at_every_await(cuts: range, moment: float, token: str) -> None:
    for steps in cuts:
        await cut(Scene(token=token, warm=True, alone=True), "cancelled", moment, steps)


@pytest.mark.parametrize("book", ["slow", "away"])
@pytest.mark.parametrize("steps", range(30))
async def test_an_open_with_a_token_may_be_cut_while_the_book_does_not_answer(book: str, steps: int) -> None:
    scene = Scene(token="home", warm=True)
    await scene.prepare()
    if book == "slow":
        scene.stage.book.may_answer.clear()
    else:
        scene.stage.book.failure = StoreError(Why.STORE_UNAVAILABLE, "down")
    call = scene.begin()
    await turns(steps)
    if steps % 2:
        await asyncio.sleep(1.2)  # those who look after the reservations have looked meanwhile
        scene.stage.book.may_answer.set()
        await turns(steps)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    scene.stage.book.may_answer.set()
    scene.stage.book.failure = None
    await scene.nothing_is_left()


@pytest.mark.parametrize("steps", TURNS)
async def test_the_line_may_be_lost_at_every_await_of_an_open(steps: int) -> None:
    scene = Scene(token="home", warm=True)
    scene.stage.limit(recovery=UNRECOVERED)
    await scene.prepare()
    call = scene.begin()
    await turns(steps)
    scene.stage.exchange.lines[-1].lose()
    await call
    assert scene.caller.kinds().count(out.Closed) <= 1
    await scene.nothing_is_left()


@pytest.mark.parametrize("steps", range(30))
async def test_a_reservation_may_be_released_at_every_await_of_the_open_that_uses_it(steps: int) -> None:
    """Whoever comes first has it, and the other one is told."""
    scene = Scene(token="home", warm=True)
    await scene.prepare()
    call = scene.begin()
    await turns(steps)
    released = await scene.stage.reservations.release(scene.token, ACME)
    error = await call
    if released:
        assert isinstance(error, CallerError)
        assert error.reason is Why.LEASE_ENDED
    else:
        assert error is None
    await scene.nothing_is_left()
