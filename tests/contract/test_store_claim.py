"""What a claim promises, held against real servers: Valkey 9, and Redis 7 where it is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.core.errors import Reason, StoreError
from gateway.core.events import EpochStart
from gateway.runtime.ports import Claimed, LogEntry, SessionKey, SessionStore
from gateway.store.embedded import EmbeddedValkey
from gateway.store.keys import RECORD_LIFE_SECONDS, session_keys
from gateway.store.options import RedisOptions
from gateway.store.redis_store import CLAIM_SECONDS, RedisStore
from gateway.store.sealing_keys import DataKey, SealingKeys
from tests.support.redis_access import GATEWAY_PASSWORD, GATEWAY_USER, gateway_user
from tests.support.redis_server import redis_server
from tests.support.tools import where
from tests.support.waiting import eventually

KEY = SessionKey("acme", "s1")
KEYS = session_keys(KEY)
REDIS = where("redis-server")
# What a caller has that has only ever known the first owner.
FIRST = (EpochStart(1, 1),)
FAR_EPOCH = 2**52


def sealing_keys() -> SealingKeys:
    return SealingKeys([DataKey("k1", bytes(range(32)))])


def entries(first: int, count: int = 1, *, cseq: int = 0) -> list[LogEntry]:
    return [LogEntry(seq, f"event {seq}".encode(), cseq) for seq in range(first, first + count)]


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


async def claimed(
    store: SessionStore, token_epoch: int = 1, last_seq: int = 3, epochs: Sequence[EpochStart] = FIRST
) -> Claimed:
    """Claim what is there."""
    claimed = await store.claim(KEY, token_epoch, last_seq, epochs)
    assert claimed is not None
    return claimed


async def counts_are_right(raw: Redis) -> None:
    """See that meta says of the log what is in it."""
    log: Any = await raw.xrange(KEYS.log)
    size_bytes = sum(len(fields[b"b"]) for _, fields in log)
    assert int(await raw.hget(KEYS.meta, "bytes") or 0) == size_bytes


async def test_of_nothing_there_is_nothing_to_claim(store: RedisStore, raw: Redis) -> None:
    assert await store.claim(KEY, 3, 5, FIRST) is None
    assert [name async for name in raw.scan_iter("trunkline:{*")] == []


async def test_what_has_ended_is_not_claimed(url: str) -> None:
    async with RedisStore(RedisOptions(url=url, retention_seconds=30), sealing_keys()) as store:
        await store.append(KEY, 1, entries(1, 3))
        await store.finish(KEY, 1)
        assert await store.claim(KEY, 1, 3, FIRST) is None
        assert await store.read(KEY) == entries(1, 3)


async def test_a_new_owner_goes_on_where_the_record_ends(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1, 2))
    await store.append(KEY, 1, entries(3, 2, cseq=7))
    owner = await claimed(store)
    assert (owner.seq, owner.cseq) == (4, 7)
    assert list(owner.entries) == entries(1, 2) + entries(3, 2, cseq=7)
    await store.append(KEY, owner.epoch, entries(5, cseq=8), own_from=5)
    assert await store.read(KEY) == [*owner.entries, *entries(5, cseq=8)]
    await counts_are_right(raw)


async def test_a_claim_ends_the_right_of_everybody_before(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 3))
    second = await claimed(store)
    third = await claimed(store)
    for epoch in (1, second.epoch):
        for batch in (entries(4), entries(3), []):
            with pytest.raises(StoreError) as raised:
                await store.append(KEY, epoch, batch)
            assert raised.value.reason is Reason.SUPERSEDED
    await store.append(KEY, third.epoch, entries(4), own_from=4)


async def test_a_claim_makes_the_record_live_longer(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1))
    for name in KEYS.meta, KEYS.log:
        await raw.expire(name, 5)
    await claimed(store, last_seq=1)
    for name in KEYS.meta, KEYS.log:
        assert await raw.ttl(name) > RECORD_LIFE_SECONDS - 5


async def test_a_long_record_is_read_to_its_end(store: RedisStore) -> None:
    for first in range(1, 1001, 100):
        await store.append(KEY, 1, entries(first, 100))
    assert list((await claimed(store, last_seq=1000)).entries) == entries(1, 1000)


async def test_the_epoch_is_above_what_is_stored_and_above_the_token(store: RedisStore) -> None:
    await store.append(KEY, FAR_EPOCH, entries(1, 3))
    first = await claimed(store)
    assert first.epoch > FAR_EPOCH
    assert (await claimed(store, token_epoch=FAR_EPOCH * 2 - 2**30)).epoch > FAR_EPOCH * 2 - 2**30


async def test_a_claim_that_was_forgotten_does_not_share_its_epoch(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1, 3))
    before = await raw.dump(KEYS.meta)
    epochs = []
    for _ in range(20):
        epochs.append((await claimed(store)).epoch)
        await raw.restore(KEYS.meta, 0, before or b"", replace=True)
    assert epochs == sorted(set(epochs))


async def test_what_an_older_owner_wrote_behind_a_newer_one_goes(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1, 3))
    await store.append(KEY, 1, entries(4, 2, cseq=6))
    # The caller knows an owner 9 that began with number 4; the server has forgotten it.
    owner = await claimed(store, 9, 3, (*FIRST, EpochStart(9, 4)))
    assert (owner.seq, owner.cseq, list(owner.entries)) == (3, 5, entries(1, 3))
    await counts_are_right(raw)
    await store.append(KEY, owner.epoch, entries(4, cseq=6), own_from=4)


async def test_what_was_announced_by_an_owner_that_is_forgotten_shows_as_missing(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 5))
    # It heard of an owner 9 that began with number 6, and then of 4 and 5 nothing: who wrote these, nobody knows.
    owner = await claimed(store, 9, 3, (*FIRST, EpochStart(9, 6)))
    assert (owner.seq, list(owner.entries)) == (5, entries(1, 3))


@pytest.mark.parametrize("has_a_row", [True, False])
async def test_what_was_not_replayed_to_the_end_stays(store: RedisStore, *, has_a_row: bool) -> None:
    await store.append(KEY, 1, entries(1, 5))
    first = await claimed(store, last_seq=3)
    rows = (*FIRST, EpochStart(first.epoch, 6)) if has_a_row else FIRST
    assert list((await claimed(store, first.epoch, 3, rows)).entries) == entries(1, 5)


async def test_what_does_not_fit_between_two_beginnings_goes(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 3))
    await store.append(KEY, 9, entries(4, 2))
    owner = await claimed(store, 5, 3, (*FIRST, EpochStart(5, 5)))
    assert (owner.seq, list(owner.entries)) == (5, entries(1, 3) + entries(5))


async def test_what_the_caller_has_from_somebody_else_goes(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1, 5))
    # The rows may come in any order.
    owner = await claimed(store, 2, 5, (EpochStart(2, 4), *FIRST))
    assert (owner.seq, list(owner.entries)) == (5, entries(1, 3))
    await counts_are_right(raw)
    await store.append(KEY, owner.epoch, entries(6), own_from=6)
    assert await store.read(KEY) == entries(1, 3) + entries(6)


async def test_what_is_older_than_the_callers_table_stays(store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 3))
    await store.append(KEY, 5, entries(4, 2))
    for epochs in ((EpochStart(5, 4),), ()):
        assert list((await claimed(store, 5, 5, epochs)).entries) == entries(1, 5)


@pytest.mark.parametrize("last_seq", [3, 9])
async def test_no_number_is_used_again_that_the_caller_knows(store: RedisStore, last_seq: int) -> None:
    await store.append(KEY, 1, entries(1, 3))
    # With 3 applied it was told that an owner began with 10.
    owner = await claimed(store, 1, last_seq, (EpochStart(1, 1), EpochStart(1, 10)))
    assert (owner.seq, list(owner.entries)) == (9, entries(1, 3))
    assert (await claimed(store, owner.epoch, 3)).seq == 9


async def test_a_record_of_which_nothing_is_left_goes_on_at_the_callers_number(store: RedisStore, raw: Redis) -> None:
    await store.append(KEY, 1, entries(1, 3))
    owner = await claimed(store, 4, 5, (EpochStart(4, 1),))
    assert (owner.seq, owner.entries) == (5, ())
    assert await store.append(KEY, owner.epoch, entries(6, 2), own_from=6) == 5
    assert await store.read(KEY) == entries(6, 2)
    await counts_are_right(raw)


@pytest.mark.parametrize(("half", "left"), [("meta", entries(1, 5, cseq=3)), ("log", [])])
async def test_half_a_record_is_claimed_safely(store: RedisStore, raw: Redis, half: str, left: list[LogEntry]) -> None:
    await store.append(KEY, FAR_EPOCH, entries(1, 5, cseq=3))
    await raw.delete(getattr(KEYS, half))
    owner = await claimed(store, 1, 4, (EpochStart(FAR_EPOCH, 1),))
    # Also 5, which the caller has not applied: it was given away.
    assert (owner.seq, owner.cseq, list(owner.entries)) == (5, 3, left)
    assert owner.epoch > FAR_EPOCH
    await store.append(KEY, owner.epoch, entries(6), own_from=6)
    assert await store.read(KEY) == left + entries(6)
    await counts_are_right(raw)


async def test_a_claim_that_replicas_do_not_confirm_fails_in_time(url: str) -> None:
    async with RedisStore(RedisOptions(url=url), sealing_keys()) as store:
        await store.append(KEY, 1, entries(1))
    async with RedisStore(RedisOptions(url=url, replicas_wait=1), sealing_keys()) as alone:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(StoreError) as raised:
            await alone.claim(KEY, 1, 1, FIRST)
        assert raised.value.reason is Reason.STORE_UNAVAILABLE
        # A loaded machine may be late, but not by the length of the wait.
        assert CLAIM_SECONDS - 0.05 <= loop.time() - began < 2 * CLAIM_SECONDS
        assert await alone.claim(SessionKey("acme", "nobody's"), 1, 1, FIRST) is None


class CutBeforeReading(RedisStore):
    """Loses its connection behind each claim, and has another one before it reads."""

    async def read(self, key: SessionKey, from_seq: int = 1) -> list[LogEntry]:
        connects = self.writer.connects
        async with Redis.from_url(self._options.url) as raw:
            await raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
        with contextlib.suppress(StoreError):
            await super().read(key)
        await eventually(lambda: self.writer.connects > connects and not self.degraded, "it is connected again")
        return await super().read(key, from_seq)


async def test_a_claim_does_not_outlive_its_connection(url: str) -> None:
    async with CutBeforeReading(RedisOptions(url=url), sealing_keys()) as store:
        await store.append(KEY, 1, entries(1))
        with pytest.raises(StoreError, match="connection was lost") as raised:
            await store.claim(KEY, 1, 1, FIRST)
        assert raised.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_gateways_rights_suffice(tmp_path: Path) -> None:
    with redis_server(tmp_path, gateway_user()) as server:
        options = RedisOptions(url=server.url, username=GATEWAY_USER, password=GATEWAY_PASSWORD)
        async with RedisStore(options, sealing_keys()) as store:
            await store.append(KEY, 1, entries(1, 5))
            # With something to drop: that takes more commands.
            assert list((await claimed(store, FAR_EPOCH, 3)).entries) == entries(1, 3)


async def test_a_claim_at_a_store_that_is_gone_fails_at_once() -> None:
    async with RedisStore(RedisOptions(url="unix:///nowhere/redis"), sealing_keys()) as store:
        with pytest.raises(StoreError) as raised:
            await store.claim(KEY, 1, 1, FIRST)
        assert raised.value.reason is Reason.STORE_UNAVAILABLE
