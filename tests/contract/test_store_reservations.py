"""What `ReservationBook` promises, held against real servers: Valkey 9, and Redis 7 where it is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.runtime.ports import ReservationBook
from gateway.store.embedded import EmbeddedValkey
from gateway.store.keys import lease_key
from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from gateway.store.reservations import PAGE, RedisReservations
from gateway.store.sealing_keys import SealingKeys
from tests.support.redis_server import redis_server
from tests.support.tools import tool, where

REDIS = where("redis-server")


@pytest.fixture(params=["valkey", "redis"] if REDIS else ["valkey"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "valkey":
        async with EmbeddedValkey() as server:
            yield server.url
    else:
        with redis_server(tmp_path) as external:
            yield external.url


@pytest.fixture
async def book(url: str) -> AsyncIterator[ReservationBook]:
    async with RedisStore(RedisOptions(url=url), SealingKeys.of_this_process()) as store:
        yield RedisReservations(store.writer)


@pytest.fixture
async def raw(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url) as raw:
        yield raw


def test_redis_7_is_held_to_it_too() -> None:
    assert tool("redis-server")


async def test_a_reservation_lives_until_it_is_taken_once(book: ReservationBook) -> None:
    await book.add("l1", 30)
    assert await book.living(["l1", "l2"]) == {"l1"}
    assert await book.take("l1")
    assert not await book.take("l1")
    assert await book.living(["l1"]) == frozenset()
    assert not await book.renew("l1", 30)


async def test_of_many_who_take_at_once_one_does(book: ReservationBook) -> None:
    await book.add("l1", 30)
    taken = await asyncio.gather(*(book.take("l1") for _ in range(50)))
    assert sum(taken) == 1


async def test_it_leaves_by_itself_unless_it_is_renewed(book: ReservationBook, raw: Redis) -> None:
    await book.add("short", 0.05)
    await book.add("renewed", 0.05)
    assert await book.renew("renewed", 30)
    async with asyncio.timeout(2):
        while "short" in await book.living(["short"]):  # noqa: ASYNC110 - the server's view has no event
            await asyncio.sleep(0.01)
    assert await book.living(["short", "renewed"]) == {"renewed"}
    assert 29_000 < await raw.pttl(lease_key("renewed")) <= 30_000
    assert not await book.take("short")


async def test_more_than_a_page_is_asked_about(book: ReservationBook) -> None:
    ids = [f"l{number}" for number in range(PAGE + 10)]
    await asyncio.gather(*(book.add(lease_id, 30) for lease_id in ids[::2]))
    assert await book.living(ids) == frozenset(ids[::2])
    assert await book.living([]) == frozenset()


async def test_a_strange_name_is_one_reservation_and_no_other_s(book: ReservationBook) -> None:
    await book.add("a}/b:c", 30)
    assert await book.living(["a}/b:c", "a", "a%7D%2Fb%3Ac"]) == {"a}/b:c"}
    assert lease_key("a}/b:c") == "trunkline:{lease:a%7D%2Fb%3Ac}"


async def test_the_script_may_be_forgotten(book: ReservationBook, raw: Redis) -> None:
    await book.add("l1", 30)
    await raw.script_flush()
    assert await book.living(["l1"]) == {"l1"}
