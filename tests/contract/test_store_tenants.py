"""What `TenantBook` promises, held against real servers: Valkey 9, and Redis 7 where it is."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.store.embedded import EmbeddedValkey
from gateway.store.keys import tenants_key
from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from gateway.store.sealing_keys import SealingKeys
from gateway.store.tenants import LIFE_MS, RedisTenants
from tests.support.redis_server import redis_server
from tests.support.tools import where

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
async def books(url: str) -> AsyncIterator[list[RedisTenants]]:
    async with RedisStore(RedisOptions(url=url), SealingKeys.of_this_process()) as store:
        yield [RedisTenants(store.writer) for _ in range(3)]


async def test_each_hears_what_the_others_have_and_not_its_own(books: list[RedisTenants]) -> None:
    first, second, third = books
    assert await first.exchange("main", {"acme": 3, "globex": 1}) == {}
    assert await second.exchange("main", {"acme": 2}) == {"acme": 3, "globex": 1}
    assert await third.exchange("main", {}) == {"acme": 5, "globex": 1}
    assert await first.exchange("main", {"acme": 1}) == {"acme": 2}
    assert await third.exchange("main", {}) == {"acme": 3}
    assert await third.exchange("other", {}) == {}


async def test_who_has_nothing_any_more_is_not_counted(books: list[RedisTenants]) -> None:
    first, second, _ = books
    await first.exchange("main", {"acme": 3})
    await first.exchange("main", {})
    assert await second.exchange("main", {"acme": 1}) == {}


async def test_a_word_that_is_too_old_or_of_another_form_is_not_counted(books: list[RedisTenants], url: str) -> None:
    first, second, _ = books
    await first.exchange("main", {"acme": 3})
    async with Redis.from_url(url) as raw:
        key = tenants_key("main")
        everything: dict[Any, Any] = await raw.hgetall(key)
        ((name, said),) = everything.items()
        at, _, text = said.partition(b":")
        await raw.hset(key, name, b"%d:%s" % (int(at) - LIFE_MS - 1, text))
        await raw.hset(key, "later", b"%s:\xc1" % at)
        await raw.hset(key, "broken", b"no time")
        assert await second.exchange("main", {"acme": 1}) == {}
        assert sorted(await raw.hkeys(key)) == sorted([b"later", second._gateway_id.encode()])


async def test_what_nobody_says_again_leaves_by_itself(books: list[RedisTenants], url: str) -> None:
    await books[0].exchange("main", {"acme": 3})
    async with Redis.from_url(url) as raw:
        assert 0 < await raw.pttl(tenants_key("main")) <= LIFE_MS
