"""An owner that a fail-over has forgotten, and an older one that wrote under its numbers meanwhile."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.errors import LogGapError, Reason, StoreError
from gateway.core.events import EpochStart
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.keys import session_keys
from gateway.store.options import RedisOptions
from gateway.store.redis_store import DuplicateControlError, RedisStore
from gateway.store.sealing_keys import DataKey, SealingKeys
from tests.support.redis_server import redis_server

KEY = SessionKey("acme", "s1")
KEYS = session_keys(KEY)


def entries(who: str, first: int, count: int = 1, *, cseq: int = 0) -> list[LogEntry]:
    return [LogEntry(seq, f"{who} {seq}".encode(), cseq) for seq in range(first, first + count)]


class ForgetfulRedis:
    """One server, and what its replica had when it was last in step."""

    def __init__(self, raw: Redis) -> None:
        self._raw = raw
        self._dumps: dict[str, bytes | None] = {}

    async def in_step(self) -> None:
        self._dumps = {key: await self._raw.dump(key) for key in (KEYS.meta, KEYS.log)}

    async def fail_over(self) -> None:
        await self._raw.delete(*self._dumps)
        for key, dump in self._dumps.items():
            if dump is not None:
                await self._raw.restore(key, 0, dump)

    async def counts(self) -> tuple[int, int, int]:
        """Return `seq` and `cseq`, and how far `bytes` is off."""
        seq, cseq, size_bytes = (int(each or 0) for each in await self._raw.hmget(KEYS.meta, "seq", "cseq", "bytes"))
        log: Any = await self._raw.xrange(KEYS.log)
        return seq, cseq, size_bytes - sum(len(fields[b"b"]) for _, fields in log)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    with redis_server(tmp_path) as server:
        yield server.url


@pytest.fixture
async def redis(url: str) -> AsyncIterator[ForgetfulRedis]:
    async with Redis.from_url(url) as raw:
        yield ForgetfulRedis(raw)


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    async with RedisStore(RedisOptions(url=url), SealingKeys([DataKey("k1", bytes(32))])) as store:
        yield store


@pytest.fixture
async def forgotten(store: RedisStore, redis: ForgetfulRedis) -> int:
    """Return the epoch of an owner that claimed at 3 and wrote 4 and 5; the first owner then wrote 4 to 6 instead."""
    await store.append(KEY, 1, entries("first", 1, 3))
    await redis.in_step()
    claimed = await store.claim(KEY, 1, 3, (EpochStart(1, 1),))
    assert claimed is not None
    assert claimed.seq == 3
    await store.append(KEY, claimed.epoch, entries("second", 4, 2), own_from=4)
    await redis.fail_over()
    await store.append(KEY, 1, entries("zombie", 4, 3, cseq=9))
    return claimed.epoch


async def test_an_owner_that_does_not_say_what_is_its_own_is_refused_for_ever(
    store: RedisStore, forgotten: int
) -> None:
    for anew in (False, True, True):
        with pytest.raises(LogGapError) as raised:
            await store.append(KEY, forgotten, entries("second", 4, 3), anew=anew)
        assert raised.value.ends_at == 6


async def test_what_a_zombie_wrote_under_its_numbers_goes(
    store: RedisStore, redis: ForgetfulRedis, forgotten: int
) -> None:
    with pytest.raises(LogGapError) as raised:
        await store.append(KEY, forgotten, entries("second", 6), own_from=4)
    assert raised.value.ends_at == 3
    assert await redis.counts() == (3, 8, 0)
    assert await store.append(KEY, forgotten, entries("second", 4, 3, cseq=9), anew=True, own_from=4) == 3
    assert await store.read(KEY) == entries("first", 1, 3) + entries("second", 4, 3, cseq=9)
    assert await redis.counts() == (6, 9, 0)
    with pytest.raises(StoreError) as fenced:
        await store.append(KEY, 1, entries("zombie", 7))
    assert fenced.value.reason is Reason.SUPERSEDED


async def test_what_fits_behind_the_rest_is_stored_at_once(store: RedisStore, forgotten: int) -> None:
    assert await store.append(KEY, forgotten, entries("second", 4, 3), own_from=4) == 3
    assert await store.read(KEY) == entries("first", 1, 3) + entries("second", 4, 3)


async def test_keeping_the_record_alive_clears_it_too(store: RedisStore, redis: ForgetfulRedis, forgotten: int) -> None:
    await store.append(KEY, forgotten, [], own_from=4)
    assert await store.read(KEY) == entries("first", 1, 3)
    assert await redis.counts() == (3, 8, 0)


async def test_a_control_that_a_zombie_took_is_the_owners(store: RedisStore, redis: ForgetfulRedis) -> None:
    """Its number is below the owner's own, for the server has forgotten more than the owner wrote."""
    await store.append(KEY, 1, entries("first", 1))
    await redis.in_step()
    await store.append(KEY, 1, entries("first", 2, 2))
    claimed = await store.claim(KEY, 1, 3, (EpochStart(1, 1),))
    assert claimed is not None
    await redis.fail_over()
    await store.append(KEY, 1, entries("zombie", 2, cseq=5))
    with pytest.raises(LogGapError) as raised:
        await store.append(KEY, claimed.epoch, entries("second", 4, cseq=5), own_from=4)
    assert raised.value.ends_at == 1
    await store.append(KEY, claimed.epoch, entries("second", 4, cseq=5), anew=True, own_from=4)
    assert await store.read(KEY) == entries("first", 1) + entries("second", 4, cseq=5)
    assert await redis.counts() == (4, 5, 0)


async def test_a_control_that_was_there_before_the_claim_is_a_duplicate(store: RedisStore) -> None:
    await store.append(KEY, 1, entries("first", 1, 2) + entries("first", 3, cseq=5))
    claimed = await store.claim(KEY, 1, 3, (EpochStart(1, 1),))
    assert claimed is not None
    with pytest.raises(DuplicateControlError) as raised:
        await store.append(KEY, claimed.epoch, entries("second", 4, cseq=5), own_from=4)
    assert raised.value.seq == 3
    assert await store.read(KEY) == list(claimed.entries)


async def test_controls_whose_log_is_lost_are_stored_anew(store: RedisStore, url: str) -> None:
    for seq in (1, 2, 3):
        await store.append(KEY, 1, entries("first", seq, cseq=seq))
    async with Redis.from_url(url) as raw:
        await raw.delete(KEYS.log)
    kept = entries("first", 2, cseq=2) + entries("first", 3, cseq=3)
    await store.append(KEY, 1, kept[:1], anew=True)
    await store.append(KEY, 1, kept[1:])
    assert await store.read(KEY) == kept
