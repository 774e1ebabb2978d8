"""Reservations: a unit that is kept, a token that is honoured once, by the tenant that it was made for."""

import asyncio

import pytest

from gateway.core import events as out
from gateway.core.errors import CallerError, CapacityError, Reason
from gateway.runtime.reservations import Redeemed
from tests.support.virtual_time import turns
from tests.unit.runtime.fakes import ACME, EVIL, Caller, Sealer
from tests.unit.runtime.holders import Holder, wish
from tests.unit.runtime.reserving import TTL_SECONDS, reserved, session, source
from tests.unit.runtime.stage import Stage

# Kept.


async def test_what_is_reserved_is_given_to_nobody_else() -> None:
    stage = Stage(ceiling=1)
    await stage.warm()
    made = await reserved(stage)
    assert (made.at_once, made.waited_seconds) == (True, 0.0)
    assert isinstance(await Holder(stage, wait_seconds=0.5).error(), CapacityError)
    caller = await session(stage, made.token)
    assert source(caller) is out.LineSource.WARM
    await stage.clear()


async def test_a_reservation_waits_for_its_unit_and_is_told_when_there_is_none() -> None:
    stage = Stage(floor=0)
    stage.exchange.delay_seconds = 0.5
    made = await reserved(stage)
    assert (made.at_once, made.waited_seconds) == (False, 0.5)
    stage.exchange.may_answer.clear()
    with pytest.raises(CapacityError) as caught:
        await reserved(stage)
    assert caught.value.reason is Reason.WAIT_TIMED_OUT
    await stage.clear()


async def test_the_floor_is_kept_beside_what_is_reserved(home: Stage) -> None:
    await reserved(home)
    await turns(10)
    assert (home.pool.stats().ready, home.pool.stats().reserved) == (2, 1)


async def test_a_reserved_line_that_dies_is_replaced_unseen(home: Stage) -> None:
    made = await reserved(home)
    await asyncio.sleep(6.0)
    for line in home.exchange.open_lines:
        line.lose()
    await asyncio.sleep(1.0)
    caller = await session(home, made.token)
    assert source(caller) is out.LineSource.WARM


async def test_a_reservation_ends_by_itself(home: Stage) -> None:
    home.keep_reservations()
    made = await reserved(home)
    await asyncio.sleep(TTL_SECONDS - 0.1)
    assert home.pool.stats().reserved == 1
    await asyncio.sleep(1.2)
    assert home.pool.stats().reserved == 0
    assert await home.reservations.keep_alive(made.token, ACME) == (made.lease_id, 0.0)
    assert home.pool.reservations == {}
    assert home.exchange.lines[0].closes == 0, "what nobody used stands ready as before"


async def test_a_reservation_that_is_kept_alive_lives(home: Stage) -> None:
    home.keep_reservations()
    made = await reserved(home)
    for _ in range(10):
        await asyncio.sleep(TTL_SECONDS - 1.0)
        assert await home.reservations.keep_alive(made.token, ACME) == (made.lease_id, TTL_SECONDS)
    assert home.book.alive() == [made.lease_id]
    caller = await session(home, made.token)
    assert out.Opened in caller.kinds()


async def test_a_released_reservation_burns_nothing_and_ends_once(home: Stage) -> None:
    made = await reserved(home)
    assert await home.reservations.release(made.token, ACME)
    assert not await home.reservations.release(made.token, ACME)
    assert home.pool.stats().reserved == 0
    assert home.book.alive() == []
    assert home.exchange.lines[0].closes == 0


# Idempotency.


async def test_a_retry_with_the_same_key_finds_the_same_reservation(home: Stage) -> None:
    first, second = await reserved(home, "k"), await reserved(home, "k")
    assert first == second
    assert home.pool.stats().reserved == 1
    assert await reserved(home, "other") != first
    assert await reserved(home) != await reserved(home)


async def test_a_key_is_forgotten_with_its_reservation(home: Stage) -> None:
    first = await reserved(home, "k")
    await home.reservations.release(first.token, ACME)
    second = await reserved(home, "k")
    assert first.lease_id != second.lease_id
    assert len(home.reservations._by_key) == 1


async def test_a_key_finds_no_reservation_that_has_just_expired(home: Stage) -> None:
    """Before anybody has looked after it."""
    first = await reserved(home, "k")
    await asyncio.sleep(TTL_SECONDS + 0.01)
    second = await reserved(home, "k")
    assert first.lease_id != second.lease_id


async def test_two_calls_with_one_key_at_the_same_time_make_one(home: Stage) -> None:
    home.book.may_answer.clear()
    calls = [asyncio.ensure_future(reserved(home, "k")) for _ in range(3)]
    await turns(5)
    home.book.may_answer.set()
    assert len({each.lease_id for each in await asyncio.gather(*calls)}) == 1
    assert home.pool.stats().reserved == 1


async def test_a_key_whose_first_call_was_cut_serves_the_next(home: Stage) -> None:
    home.book.may_answer.clear()
    first, second = asyncio.ensure_future(reserved(home, "k")), asyncio.ensure_future(reserved(home, "k"))
    await turns(5)
    first.cancel()
    await turns(5)
    home.book.may_answer.set()
    made = await second
    assert home.pool.stats().reserved == 1
    assert home.reservations.look(made.token, ACME).lease_id == made.lease_id


async def test_a_key_whose_first_call_was_refused_serves_the_next() -> None:
    stage = Stage(floor=0)
    stage.exchange.may_answer.clear()
    calls = [
        asyncio.ensure_future(stage.reservations.acquire(stage.pool, TTL_SECONDS, wish(seconds), "k"))
        for seconds in (0.5, 5.0)
    ]
    await asyncio.sleep(1.0)
    assert isinstance(calls[0].exception(), CapacityError)
    stage.exchange.may_answer.set()
    await calls[1]
    assert stage.pool.stats().reserved == 1
    await stage.clear()


# Used.


async def test_a_token_is_good_for_one_session(home: Stage) -> None:
    made = await reserved(home)
    first = await session(home, made.token)
    assert out.Opened in first.kinds()
    assert home.pool.stats().reserved == 0
    again = Caller()
    again.say(out.OpenRequest(lease_token=made.token))
    error = await home.serve(again)
    assert isinstance(error, CallerError)
    assert error.reason is Reason.LEASE_ENDED


async def test_of_two_who_show_a_token_at_once_one_has_it(home: Stage) -> None:
    made = await reserved(home)
    callers = [Caller(), Caller()]
    await asyncio.gather(*(session(home, made.token, caller) for caller in callers))
    assert [out.Opened in caller.kinds() for caller in callers].count(True) == 1


async def test_a_token_names_its_template(home: Stage) -> None:
    made = await reserved(home)
    found = home.reservations.look(made.token, ACME)
    assert found == Redeemed("default", made.lease_id, foreign=False, home=home.pool)


@pytest.mark.parametrize("shown", ["", "x", "reservation.", "reservation.1.zz", "other.1.00"])
async def test_a_forged_token_is_unknown(home: Stage, shown: str) -> None:
    class Strict(Sealer):
        def open(self, purpose: str, token: str) -> bytes | None:
            return None

    home.reservations._sealer = Strict()
    with pytest.raises(CallerError) as caught:
        home.reservations.look(shown, ACME)
    assert caught.value.reason is Reason.LEASE_UNKNOWN
    with pytest.raises(CallerError):
        await home.reservations.redeem(shown, ACME)
    assert await home.reservations.keep_alive(shown, ACME) == ("", 0.0)
    assert not await home.reservations.release(shown, ACME)


async def test_a_token_of_another_tenant_is_as_unknown_as_a_forged_one(home: Stage) -> None:
    made = await reserved(home)
    assert await home.reservations.keep_alive(made.token, EVIL) == ("", 0.0)
    assert not await home.reservations.release(made.token, EVIL)
    thief = Caller(EVIL)
    thief.say(out.OpenRequest(lease_token=made.token))
    error = await home.serve(thief)
    assert isinstance(error, CallerError)
    assert error.reason is Reason.LEASE_UNKNOWN
    assert home.pool.stats().reserved == 1
    assert out.Opened in (await session(home, made.token)).kinds()


async def test_a_token_of_an_earlier_life_of_this_gateway_is_another_gateways(home: Stage) -> None:
    made = await reserved(home)
    reborn = Stage(book=home.book, sealer=home.sealer, gateway="gateway-1-again")
    await reborn.warm()
    assert reborn.reservations.look(made.token, ACME) == Redeemed("default", None, foreign=True)
    await reborn.clear()


# Callers who go.


@pytest.mark.parametrize("steps", range(12))
@pytest.mark.parametrize("warm", [True, False])
async def test_a_reservation_may_be_cancelled_at_every_await(*, warm: bool, steps: int) -> None:
    stage = Stage(ceiling=2)
    if warm:
        await stage.warm()
    stage.book.may_answer.clear()
    making = asyncio.ensure_future(reserved(stage, "k"))
    await turns(steps)
    if steps % 2:
        stage.book.may_answer.set()
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    stage.book.may_answer.set()
    await stage.everything_is_given_back()
    left = 0 if making.cancelled() else 1
    assert stage.pool.stats().reserved == len(stage.pool.reservations) == left
    assert len(stage.reservations._mine) == len(stage.reservations._by_key) == left
    assert len(stage.reservations._unshared) == 0
    await stage.clear()


async def test_a_drain_ends_every_reservation(home: Stage) -> None:
    home.keep_reservations()
    made = await reserved(home)
    home.pool.drain()
    await asyncio.sleep(1.1)
    assert home.pool.stats().reserved == 0
    assert home.reservations._mine == {}
    assert await home.reservations.keep_alive(made.token, ACME) == (made.lease_id, 0.0)


async def test_looking_after_reservations_leaves_nothing_of_those_that_have_ended(home: Stage) -> None:
    home.keep_reservations()
    made = [await reserved(home, f"k{number}") for number in range(3)]
    await home.reservations.release(made[0].token, ACME)
    await session(home, made[1].token)
    await asyncio.sleep(TTL_SECONDS + 2.0)
    each = home.reservations
    assert (each._mine, each._by_key, each._unshared) == ({}, {}, set())
    assert home.pool.reservations == {}
