"""Reservations that every gateway can see: used elsewhere, with a book that is slow, away, or empty."""

import asyncio

from structlog.testing import capture_logs

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason, StoreError
from tests.support.virtual_time import now, turns
from tests.unit.runtime.fakes import ACME
from tests.unit.runtime.holders import Holder, holding, until
from tests.unit.runtime.reserving import TTL_SECONDS, caller_with, reserved, session, source
from tests.unit.runtime.stage import Stage

# Elsewhere.


async def test_a_token_is_honoured_at_another_gateway_and_ends_at_home_within_a_second(
    home: Stage, away: Stage
) -> None:
    home.keep_reservations()
    made = await reserved(home)
    caller = await session(away, made.token)
    assert source(caller) is out.LineSource.WARM
    began = now()
    await until(lambda: not home.pool.stats().reserved)
    assert now() - began <= 1.05
    assert home.pool.reservations == {}
    error = await home.serve(caller_with(made.token))
    assert isinstance(error, CallerError)
    assert error.reason is Reason.LEASE_ENDED


async def test_a_token_that_was_used_at_home_is_no_good_elsewhere(home: Stage, away: Stage) -> None:
    made = await reserved(home)
    await session(home, made.token)
    error = await away.serve(caller_with(made.token))
    assert isinstance(error, CallerError)
    assert error.reason is Reason.LEASE_ENDED
    assert away.pool.stats().leased == 0


async def test_who_comes_with_another_gateways_token_goes_before_those_without() -> None:
    home = Stage()
    away = Stage(book=home.book, sealer=home.sealer, gateway="gateway-2", floor=0, ceiling=1)
    await home.warm()
    made = await reserved(home)
    taken = await holding(away)
    plain = Holder(away, wait_seconds=60.0)
    await turns(5)
    redeeming = asyncio.ensure_future(session(away, made.token))
    await turns(5)
    await taken.end()
    caller = await redeeming
    assert out.Opened in caller.kinds()
    assert plain.line is None
    plain.abandoned.set_result(None)
    await plain.error()
    await home.clear()
    await away.clear()


async def test_a_reservation_released_elsewhere_ends_at_home(home: Stage, away: Stage) -> None:
    home.keep_reservations()
    made = await reserved(home)
    assert await away.reservations.release(made.token, ACME)
    await asyncio.sleep(1.05)
    assert home.pool.stats().reserved == 0


async def test_a_reservation_that_is_kept_alive_elsewhere_lives_at_home(home: Stage, away: Stage) -> None:
    home.keep_reservations()
    made = await reserved(home)
    for _ in range(5):
        await asyncio.sleep(TTL_SECONDS - 1.0)
        assert await away.reservations.keep_alive(made.token, ACME) == (made.lease_id, TTL_SECONDS)
    assert home.pool.stats().reserved == 1
    assert out.Opened in (await session(home, made.token)).kinds()


async def test_a_reservation_that_nobody_keeps_alive_any_more_ends_at_home_too(home: Stage, away: Stage) -> None:
    home.keep_reservations()
    made = await reserved(home)
    await asyncio.sleep(TTL_SECONDS - 1.0)
    await away.reservations.keep_alive(made.token, ACME)
    await asyncio.sleep(TTL_SECONDS + 3.0)
    assert home.pool.stats().reserved == 0
    assert await away.reservations.keep_alive(made.token, ACME) == (made.lease_id, 0.0)


async def test_a_keep_alive_learns_of_a_use_elsewhere(home: Stage, away: Stage) -> None:
    made = await reserved(home)
    await session(away, made.token)
    assert await home.reservations.keep_alive(made.token, ACME) == (made.lease_id, 0.0)
    assert home.pool.stats().reserved == 0


# The book is slow, or not there.


async def test_a_look_while_a_reservation_is_being_entered_does_not_end_it(home: Stage) -> None:
    home.keep_reservations()
    home.book.may_add.clear()
    making = asyncio.ensure_future(reserved(home))
    await asyncio.sleep(3.5)
    home.book.may_add.set()
    made = await making
    await asyncio.sleep(2.5)
    assert out.Opened in (await session(home, made.token)).kinds()


async def test_a_look_while_a_token_is_being_used_does_not_take_the_line_away(home: Stage) -> None:
    home.keep_reservations()
    made = await reserved(home)
    home.book.may_answer.clear()
    opening = asyncio.ensure_future(session(home, made.token))
    await asyncio.sleep(3.5)
    home.book.may_answer.set()
    assert out.Opened in (await opening).kinds()


async def test_without_the_book_everything_works_at_home(home: Stage) -> None:
    home.keep_reservations()
    home.book.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    with capture_logs() as logs:
        made, other = await reserved(home, "k"), await reserved(home)
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["reservation_not_shared"] * 2
    assert made.token not in str(logs)
    await asyncio.sleep(TTL_SECONDS - 5.0)
    assert await home.reservations.keep_alive(made.token, ACME) == (made.lease_id, TTL_SECONDS)
    assert await reserved(home, "k") == made
    assert await home.reservations.release(other.token, ACME)
    assert not await home.reservations.release(other.token, ACME)
    await asyncio.sleep(TTL_SECONDS - 5.0)
    assert out.Opened in (await session(home, made.token)).kinds()
    error = await home.serve(caller_with(made.token))
    assert isinstance(error, CallerError)
    assert error.reason is Reason.LEASE_ENDED
    assert home.pool.stats().reserved == 0


async def test_a_book_that_is_away_for_a_moment_ends_nothing(home: Stage, away: Stage) -> None:
    made = await reserved(home)
    home.book.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    for stage in (home, away):
        assert await stage.reservations.keep_alive(made.token, ACME) == (made.lease_id, TTL_SECONDS)
    home.book.failure = None
    assert home.pool.stats().reserved == 1
    assert out.Opened in (await session(home, made.token)).kinds()


async def test_without_the_book_an_ended_token_of_ours_is_still_known_to_have_ended(home: Stage) -> None:
    home.keep_reservations()
    made = await reserved(home)
    assert await home.reservations.release(made.token, ACME)
    home.book.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    await asyncio.sleep(1.5)
    error = await home.serve(caller_with(made.token))
    assert isinstance(error, CallerError)
    assert error.reason is Reason.LEASE_ENDED


async def test_a_book_that_comes_back_empty_ends_nothing(home: Stage) -> None:
    """Used elsewhere, or forgotten by a store that was started again: after an outage nobody can tell."""
    home.keep_reservations()
    made = await reserved(home)
    home.book.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    await asyncio.sleep(2.0)
    home.book.ends_at.clear()
    home.book.failure = None
    await asyncio.sleep(5.0)
    assert await home.reservations.keep_alive(made.token, ACME) == (made.lease_id, TTL_SECONDS)
    assert out.Opened in (await session(home, made.token)).kinds()


async def test_a_reservation_that_ends_while_it_is_looked_at_does_no_harm(home: Stage, away: Stage) -> None:
    home.keep_reservations()
    made, other = await reserved(home), await reserved(home)
    home.book.may_tell.clear()
    await asyncio.sleep(1.5)
    home.book.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    assert await home.reservations.release(made.token, ACME)
    home.book.failure = None
    home.book.may_tell.set()
    await session(away, other.token)
    await asyncio.sleep(2.1)
    assert home.pool.stats().reserved == 0, "those who look after the reservations have stopped"


async def test_what_could_not_be_entered_lives_on_when_the_book_is_back(home: Stage) -> None:
    home.keep_reservations()
    home.book.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    made = await reserved(home)
    home.book.failure = None
    await asyncio.sleep(5.0)
    assert home.pool.stats().reserved == 1
    assert await home.reservations.keep_alive(made.token, ACME) == (made.lease_id, TTL_SECONDS)
    assert out.Opened in (await session(home, made.token)).kinds()


async def test_what_was_entered_survives_a_time_without_the_book(home: Stage) -> None:
    home.keep_reservations()
    made = await reserved(home)
    home.book.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    await asyncio.sleep(10.0)
    assert await home.reservations.keep_alive(made.token, ACME) == (made.lease_id, TTL_SECONDS)
    home.book.failure = None
    await asyncio.sleep(5.0)
    assert out.Opened in (await session(home, made.token)).kinds()


async def test_without_the_book_a_token_is_honoured_elsewhere_too(home: Stage, away: Stage) -> None:
    made = await reserved(home)
    home.book.failure = StoreError(Reason.STORE_UNAVAILABLE, "down")
    assert out.Opened in (await session(away, made.token)).kinds()


async def test_a_book_that_has_come_back_empty_ends_no_reservation(home: Stage) -> None:
    made = await reserved(home)
    looking = asyncio.create_task(home.reservations.run(), name="look")
    await asyncio.sleep(2.5)
    home.book.ends_at.clear()
    home.book.connects += 1
    await asyncio.sleep(2.5)
    assert home.pool.has_reservation(made.lease_id)
    assert made.lease_id in home.book.ends_at  # entered again
    looking.cancel()
