"""The server freezes, dies, fills up: appends fail in time, and the store comes back by itself."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.core.errors import Reason, StoreError
from gateway.core.events import Durability
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.embedded import EmbeddedOptions, EmbeddedValkey
from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from gateway.store.sealing_keys import SealingKeys

KEY = SessionKey("acme", "s1")
DEADLINE_SECONDS = 0.25
# What a busy machine may add.
SLACK_SECONDS = 0.25


class Seen:
    """Lets a test wait for the store to go down or come back."""

    def __init__(self) -> None:
        self.down, self.up = asyncio.Event(), asyncio.Event()

    def command(self, name: str, seconds: float) -> None: ...

    def degraded(self, degraded: bool) -> None:  # noqa: FBT001
        now, before = (self.down, self.up) if degraded else (self.up, self.down)
        now.set()
        before.clear()


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey() as server:
        yield server


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def store(server: EmbeddedValkey, seen: Seen) -> AsyncIterator[RedisStore]:
    options = RedisOptions(url=server.url, deadline_seconds=DEADLINE_SECONDS)
    async with RedisStore(options, SealingKeys.of_this_process(), seen) as store:
        yield store


def entry(seq: int, payload: bytes = b"x") -> list[LogEntry]:
    return [LogEntry(seq, payload)]


async def is_up(seen: Seen) -> None:
    async with asyncio.timeout(5):
        await seen.up.wait()


async def test_a_frozen_server_fails_appends_in_time_and_is_back_after_it_thaws(
    server: EmbeddedValkey, store: RedisStore, seen: Seen
) -> None:
    await store.append(KEY, 1, entry(1))
    with capture_logs() as logged:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            under_way = asyncio.create_task(store.append(KEY, 1, entry(2)))
            for _ in range(10):
                await asyncio.sleep(0)
            waiting = asyncio.create_task(store.append(KEY, 1, entry(3)))
            outcomes = await asyncio.gather(under_way, waiting, return_exceptions=True)
            assert time.monotonic() - started < DEADLINE_SECONDS + SLACK_SECONDS
            assert [error.reason for error in outcomes if isinstance(error, StoreError)] == [
                Reason.STORE_UNAVAILABLE,
                Reason.STORE_UNAVAILABLE,
            ]
            assert store.durability is Durability.NONE
            started = time.monotonic()
            with pytest.raises(StoreError, match="cannot be reached"):
                await store.append(KEY, 1, entry(4))
            assert time.monotonic() - started < 0.05
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await is_up(seen)
    assert [line["event"] for line in logged] == ["store_degraded", "store_restored"]
    # Whether the frozen server still carried them out or not: a retry makes it whole.
    await store.append(KEY, 1, entry(2) + entry(3) + entry(4))
    assert [found.seq for found in await store.read(KEY)] == [1, 2, 3, 4]


async def test_a_killed_server_degrades_the_store_until_it_is_started_again(
    server: EmbeddedValkey, store: RedisStore, seen: Seen
) -> None:
    await store.append(KEY, 1, entry(1))
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(StoreError) as raised:
        await store.append(KEY, 1, entry(2))
    assert raised.value.reason is Reason.STORE_UNAVAILABLE
    assert store.degraded
    async with asyncio.timeout(2):
        await server.ended()
    await server.start()
    await is_up(seen)
    assert store.durability is Durability.REPLICATED
    with pytest.raises(StoreError, match="ends at 0"):
        await store.append(KEY, 1, entry(2))
    await store.append(SessionKey("acme", "new"), 1, entry(1))


async def test_a_quiet_store_notices_by_itself(server: EmbeddedValkey, seen: Seen) -> None:
    options = RedisOptions(url=server.url, idle_ping_seconds=0.05)
    async with RedisStore(options, SealingKeys.of_this_process(), seen):
        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(2):
            await seen.down.wait()


async def test_without_a_server_the_store_starts_degraded_and_finds_it_later(seen: Seen) -> None:
    server = EmbeddedValkey()
    await server.start()
    url = server.url
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(2):
        await server.ended()
    async with RedisStore(RedisOptions(url=url), SealingKeys.of_this_process(), seen) as store:
        assert store.degraded
        with pytest.raises(StoreError, match="cannot be reached"):
            await store.append(KEY, 1, entry(1))
        await server.start()
        await is_up(seen)
        await store.append(KEY, 1, entry(1))
    await server.stop()


async def test_a_full_server_counts_as_gone_until_there_is_room(seen: Seen) -> None:
    async with EmbeddedValkey(EmbeddedOptions(memory_max_bytes=4 * 1024 * 1024)) as server:
        options = RedisOptions(url=server.url)
        async with RedisStore(options, SealingKeys.of_this_process(), seen) as store:
            appends = (
                store.append(SessionKey("acme", f"s{number}"), 1, entry(1, bytes(200_000))) for number in range(30)
            )
            outcomes = await asyncio.gather(*appends, return_exceptions=True)
            assert any("maxmemory" in str(outcome) for outcome in outcomes)
            assert store.degraded
            async with Redis.from_url(server.url) as raw:
                await raw.config_set("maxmemory", 0)
            await is_up(seen)
            await store.append(KEY, 1, entry(1))


async def test_one_broken_record_does_not_take_the_store_away(server: EmbeddedValkey, store: RedisStore) -> None:
    async with Redis.from_url(server.url) as raw:
        await raw.set("trunkline:{acme/s1}:m", "not a hash")
    outcomes = await asyncio.gather(
        store.append(KEY, 1, entry(1)),
        store.append(SessionKey("acme", "s2"), 1, entry(1)),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], StoreError)
    assert isinstance(outcomes[1], int)
    assert not store.degraded


async def test_a_cut_connection_is_replaced(server: EmbeddedValkey, store: RedisStore, seen: Seen) -> None:
    async with Redis.from_url(server.url) as raw:
        await raw.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(StoreError):
        await store.append(KEY, 1, entry(1))
    await is_up(seen)
    await store.append(KEY, 1, entry(1))
    assert len(await store.read(KEY)) == 1
