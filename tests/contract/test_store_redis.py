"""What `SessionStore` promises, held against real servers: Valkey 9, and Redis 7 where it is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.errors import LogGapError, Reason, StoreError
from gateway.core.events import Durability
from gateway.runtime.ports import LogEntry, SessionKey, SessionStore
from gateway.store.embedded import EmbeddedValkey
from gateway.store.keys import RECORD_LIFE_SECONDS, session_keys
from gateway.store.options import RedisOptions
from gateway.store.record import RecordUnreadableError
from gateway.store.redis_store import DuplicateControlError, RedisStore
from gateway.store.sealing_keys import DataKey, SealingKeys
from tests.support.redis_server import redis_server
from tests.support.tools import tool, where

KEY = SessionKey("acme", "s1")
CANARY = "marzipan"
REDIS = where("redis-server")


def sealing_keys() -> SealingKeys:
    return SealingKeys([DataKey("k1", bytes(range(32)))])


def entries(first: int, count: int = 1, *, cseq: int = 0) -> list[LogEntry]:
    return [LogEntry(seq, f"{CANARY} {seq}".encode(), cseq) for seq in range(first, first + count)]


@pytest.fixture(params=["valkey", "redis"] if REDIS else ["valkey"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    if request.param == "valkey":
        async with EmbeddedValkey() as server:
            yield server.url
    else:
        with redis_server(tmp_path) as external:
            yield external.url


@pytest.fixture
async def store(url: str) -> AsyncIterator[RedisStore]:
    async with RedisStore(RedisOptions(url=url), sealing_keys()) as store:
        yield store


@pytest.fixture
async def raw(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url) as raw:
        yield raw


async def log_of(raw: Redis, key: SessionKey) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Return the stored stream as it lies there."""
    found: Any = await raw.xrange(session_keys(key).log)
    return list(found)


def test_redis_7_is_held_to_it_too() -> None:
    assert tool("redis-server")


async def test_it_is_a_session_store(store: RedisStore) -> None:
    port: SessionStore = store
    assert port.durability is Durability.REPLICATED
    assert not store.degraded


async def test_what_is_appended_is_read_in_order(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 2, cseq=4))
    await store.append(KEY, 1, entries(3, 200))
    assert await store.read(KEY) == entries(1, 2, cseq=4) + entries(3, 200)
    assert await store.read(KEY, from_seq=200) == entries(200, 3)
    assert await store.read(SessionKey("other", "s1")) == []


async def test_an_older_owner_is_refused_and_writes_nothing(store: RedisStore) -> None:
    await store.append(KEY, 2, entries(1))
    for batch in (entries(2), entries(1), []):
        with pytest.raises(StoreError) as raised:
            await store.append(KEY, 1, batch)
        assert raised.value.reason is Reason.SUPERSEDED
    assert await store.read(KEY) == entries(1)


async def test_a_newer_owner_goes_on_where_the_log_ends(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1))
    await store.append(KEY, 5, entries(2))
    with pytest.raises(StoreError, match="epoch 5"):
        await store.append(KEY, 4, entries(3))
    assert await store.read(KEY) == entries(1, 2)


async def test_a_hole_is_refused_and_still_fences_older_owners(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1))
    with pytest.raises(LogGapError, match="ends at 1") as raised:
        await store.append(KEY, 3, entries(3))
    assert (raised.value.reason, raised.value.ends_at) == (Reason.STORE_UNAVAILABLE, 1)
    with pytest.raises(StoreError, match="epoch 3"):
        await store.append(KEY, 1, entries(2))
    assert await store.read(KEY) == entries(1)


async def test_what_a_server_has_lost_is_stored_anew_behind_a_gap(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 2))
    await store.append(KEY, 1, entries(5, 2), anew=True)
    await store.append(KEY, 1, entries(7))
    assert await store.read(KEY) == entries(1, 2) + entries(5, 3)


@pytest.mark.parametrize("half", ["meta", "log"])
async def test_half_a_record_is_stored_anew_as_a_whole(store: RedisStore, raw: Redis, half: str) -> None:
    await store.append(KEY, 1, entries(1, 3))
    await raw.delete(getattr(session_keys(KEY), half))
    with pytest.raises(LogGapError) as raised:
        await store.append(KEY, 1, entries(4))
    assert raised.value.ends_at == 0
    await store.append(KEY, 1, entries(2, 3), anew=True)
    assert await store.read(KEY) == entries(2, 3)


async def test_to_store_anew_what_is_there_changes_nothing(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 3))
    await store.append(KEY, 1, entries(2, 3), anew=True)
    assert await store.read(KEY) == entries(1, 4)


async def test_nobody_stores_anew_over_a_newer_owner(store: RedisStore) -> None:
    await store.append(KEY, 2, entries(1))
    with pytest.raises(StoreError) as raised:
        await store.append(KEY, 1, entries(9), anew=True)
    assert raised.value.reason is Reason.SUPERSEDED


async def test_a_newer_owner_cannot_overwrite_what_an_older_one_wrote(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 3))
    for batch in (entries(3), entries(2, 5), entries(1, 3)):
        with pytest.raises(StoreError) as raised:
            await store.append(KEY, 2, batch)
        assert raised.value.reason is Reason.STORE_UNAVAILABLE
    assert await store.read(KEY) == entries(1, 3)


async def test_a_retry_is_not_stored_twice(store: RedisStore) -> None:
    batch = entries(1, 3, cseq=1)
    for _ in range(3):
        await store.append(KEY, 1, batch)
    assert await store.read(KEY) == batch


async def test_a_retry_may_bring_later_entries_along(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 2))
    await store.append(KEY, 1, entries(2, 4))
    await store.append(KEY, 1, entries(1, 1))
    await store.append(KEY, 1, entries(6))
    assert await store.read(KEY) == entries(1, 6)


async def test_a_control_that_is_logged_already_is_refused_with_its_place(
    store: RedisStore,
) -> None:
    await store.append(KEY, 1, entries(1, 2))
    await store.append(KEY, 1, entries(3, cseq=7))
    await store.append(KEY, 1, entries(4, cseq=9))
    with pytest.raises(DuplicateControlError) as raised:
        await store.append(KEY, 1, entries(5, cseq=7))
    assert raised.value.seq == 3
    with pytest.raises(DuplicateControlError):
        await store.append(KEY, 1, entries(5) + entries(6, cseq=9))
    await store.append(KEY, 1, entries(5))
    assert [entry.seq for entry in await store.read(KEY)] == [1, 2, 3, 4, 5]


async def test_two_sessions_of_one_name_do_not_know_each_other(store: RedisStore) -> None:
    theirs = SessionKey("other", KEY.session_id)
    await store.append(KEY, 9, entries(1))
    await store.append(theirs, 1, entries(1, 2))
    await store.finish(KEY, 9)
    assert await store.read(theirs) == entries(1, 2)


async def test_finishing_deletes_everything(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1))
    await store.finish(KEY, 1)
    assert [name async for name in raw.scan_iter("trunkline:{*")] == []
    await store.finish(KEY, 1)


async def test_an_older_owner_cannot_finish(store: RedisStore) -> None:
    await store.append(KEY, 2, entries(1))
    with pytest.raises(StoreError) as raised:
        await store.finish(KEY, 1)
    assert raised.value.reason is Reason.SUPERSEDED
    assert await store.read(KEY) == entries(1)


async def test_a_finished_session_stays_readable_for_its_retention(url: str, raw: Redis) -> None:
    options = RedisOptions(url=url, retention_seconds=30)
    async with RedisStore(options, sealing_keys()) as store:
        await store.append(KEY, 1, entries(1))
        await store.finish(KEY, 1)
        assert await store.read(KEY) == entries(1)
    keys = session_keys(KEY)
    assert await raw.hget(keys.meta, "state") == b"finished"
    for name in (keys.meta, keys.log):
        assert 28 <= await raw.ttl(name) <= 30


async def test_every_key_expires(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1))
    await store.append(SessionKey("acme", "empty"), 1, [])
    with pytest.raises(StoreError):
        await store.append(SessionKey("acme", "hole"), 1, entries(5))
    names = [name async for name in raw.scan_iter()]
    assert len(names) == 5
    for name in names:
        assert 0 < await raw.ttl(name) <= RECORD_LIFE_SECONDS


async def test_every_append_makes_the_record_live_longer(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1))
    keys = session_keys(KEY)
    for batch in (entries(2), entries(2), []):
        for name in (keys.meta, keys.log):
            await raw.expire(name, 5)
        await store.append(KEY, 1, batch)
        assert await raw.ttl(keys.meta) > RECORD_LIFE_SECONDS - 5
        assert await raw.ttl(keys.log) > RECORD_LIFE_SECONDS - 5


@pytest.mark.parametrize("lost", ["meta", "log"])
async def test_half_a_record_is_never_written_on(store: RedisStore, raw: Redis, lost: str) -> None:
    await store.append(KEY, 1, entries(1, 2))
    await raw.delete(getattr(session_keys(KEY), lost))
    for batch in (entries(3), entries(1, 2)):
        with pytest.raises(StoreError, match="ends at 0"):
            await store.append(KEY, 1, batch)


async def test_a_flushed_server_is_noticed_at_the_next_append(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1, 2))
    await raw.flushall()
    with pytest.raises(StoreError, match="ends at 0"):
        await store.append(KEY, 1, entries(3))


async def test_the_oldest_entries_make_room(url: str, raw: Redis) -> None:
    options = RedisOptions(url=url, session_max_entries=10, session_max_bytes=4096)
    async with RedisStore(options, sealing_keys()) as store:
        for seq in range(1, 31):
            await store.append(KEY, 1, entries(seq))
        # The first one stays: it says whose session it is.
        assert [entry.seq for entry in await store.read(KEY)] == [1, *range(22, 31)]
        big = [LogEntry(seq, bytes(1500)) for seq in (31, 32, 33)]
        for entry in big:
            await store.append(KEY, 1, [entry])
        assert await store.read(KEY) == [*entries(1), *big[1:]]
        # A retry of what was trimmed meanwhile is still a retry.
        await store.append(KEY, 1, big[:1])
        assert await store.read(KEY) == [*entries(1), *big[1:]]
    stored = sum(len(fields[b"b"]) for _, fields in await log_of(raw, KEY))
    assert int(await raw.hget(session_keys(KEY).meta, "bytes") or 0) == stored <= 4096


async def test_more_than_a_session_may_hold_is_refused(store: RedisStore) -> None:
    with pytest.raises(StoreError, match="more than a session's log may hold"):
        await store.append(KEY, 1, [LogEntry(1, bytes(1024 * 1024))])


@pytest.mark.parametrize(
    ("epoch", "batch"),
    [(0, entries(1)), (1, entries(0)), (1, entries(1) + entries(3)), (1, entries(2) + entries(1))],
)
async def test_numbers_that_make_no_sense_are_a_bug(store: RedisStore, epoch: int, batch: list[LogEntry]) -> None:
    with pytest.raises(ValueError, match="consecutive"):
        await store.append(KEY, epoch, batch)


async def test_nothing_readable_lies_in_the_server(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1, 50))
    names = [name async for name in raw.scan_iter()]
    lying_there = [*names, *[await raw.dump(name) or b"" for name in names]]
    # A dump may be compressed: look at what is in it as well.
    meta: Any = await raw.hgetall(session_keys(KEY).meta)
    for fields in (meta, *(fields for _, fields in await log_of(raw, KEY))):
        lying_there += [*fields.keys(), *fields.values()]
    assert len(lying_there) > 100
    assert CANARY.encode() not in b"".join(lying_there)


async def test_a_record_moved_to_another_session_is_noticed(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1))
    ((entry_id, fields),) = await log_of(raw, KEY)
    theirs = SessionKey("other", "s1")
    await raw.execute_command("XADD", session_keys(theirs).log, entry_id, b"b", fields[b"b"])  # type: ignore[no-untyped-call]
    with pytest.raises(RecordUnreadableError):
        await store.read(theirs)


async def test_a_script_cache_flush_loses_and_doubles_nothing(store: RedisStore, raw: Redis) -> None:
    async def flush() -> None:
        for _ in range(30):
            await raw.script_flush()

    async def talk(number: int) -> None:
        key = SessionKey("acme", f"talk{number}")
        for seq in range(1, 31):
            await store.append(key, 1, entries(seq, cseq=seq))
        assert await store.read(key) == [*(e for s in range(1, 31) for e in entries(s, cseq=s))]

    await asyncio.gather(flush(), *(talk(number) for number in range(5)))


async def test_appends_of_one_session_keep_the_order_of_calls(store: RedisStore) -> None:
    await asyncio.gather(*(store.append(KEY, 1, entries(seq)) for seq in range(1, 101)))
    assert await store.read(KEY) == entries(1, 100)


async def test_the_check_names_what_endangers_sessions(store: RedisStore, raw: Redis) -> None:
    before = " ".join(await store.check())
    assert "forgets every session" in before
    await raw.config_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in " ".join(await store.check())
