"""The store finds its primary by Sentinels that are dead, frozen, strangers, or have a password of their own."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import StoreError
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.options import SlotsOptions
from gateway.store.redis_store import RedisStore
from tests.support.redis_process import RedisProcess
from tests.support.redis_sentinel import NAME, SentinelRedis, sentinel_redis
from tests.support.redis_topologies import options_for, sealing_keys
from tests.support.slots import LEASED, WARM, account, gateway, settled, take, total
from tests.support.store_streams import again, lost, show, streams
from tests.support.waiting import eventually

KEY = SessionKey("acme", "s1")
PASSWORD = "pw-of-the-sentinels"


@pytest.fixture
def watched() -> Iterator[SentinelRedis]:
    with sentinel_redis() as watched:
        yield watched


def in_order(watched: SentinelRedis) -> list[RedisProcess]:
    """Return the Sentinels as the URL lists them."""
    return list(watched.sentinels.values())


async def stored(store: RedisStore) -> None:
    """Wait until an append is taken."""
    await eventually(lambda: not store.degraded, "the store serves")
    await store.append(KEY, 1, [])


@pytest.mark.parametrize("state", ["dead", "frozen"])
async def test_sentinels_that_do_not_answer_are_passed_over(watched: SentinelRedis, state: str) -> None:
    for sentinel in in_order(watched)[:2]:
        if state == "dead":
            sentinel.kill()
        else:
            sentinel.freeze()
    now = asyncio.get_running_loop().time
    began = now()
    async with RedisStore(options_for(watched.settings), sealing_keys()) as store:
        assert not store.degraded
        # Each had its part of `connect_seconds`.
        assert now() - began < 1.5
        await stored(store)


async def test_without_any_sentinel_the_store_is_degraded_and_comes_back_with_one(watched: SentinelRedis) -> None:
    for sentinel in in_order(watched):
        sentinel.kill()
    async with RedisStore(options_for(watched.settings), sealing_keys()) as store:
        assert store.degraded
        with pytest.raises(StoreError, match="cannot be reached"):
            await store.append(KEY, 1, [LogEntry(1, b"x")])
        in_order(watched)[2].start()
        await stored(store)


async def test_a_connected_store_needs_no_sentinel(watched: SentinelRedis) -> None:
    async with RedisStore(options_for(watched.settings), sealing_keys()) as store:
        for sentinel in in_order(watched):
            sentinel.kill()
        await store.append(KEY, 1, [LogEntry(1, b"x")])
        assert not store.degraded


async def test_a_name_that_no_sentinel_knows_is_told_to_the_operator(watched: SentinelRedis) -> None:
    options = options_for(watched.settings)
    strange = replace(options, url=options.url.replace(f"/{NAME}/", "/strangers/"))
    with capture_logs() as logs:
        async with RedisStore(strange, sealing_keys()) as store:
            assert store.degraded
    assert any("strangers" in str(each.get("cause")) for each in logs), logs


async def test_sentinels_may_have_a_password_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "sentinels"
    file.write_text(PASSWORD + "\n", "utf-8")
    with sentinel_redis(sentinel_password=PASSWORD) as watched, capture_logs() as logs:
        options = options_for(watched.settings)
        async with RedisStore(options, sealing_keys()) as store:
            assert store.degraded
        async with RedisStore(replace(options, sentinel_password_file=file), sealing_keys()) as store:
            assert not store.degraded
            await stored(store)
        assert PASSWORD not in str(logs)


@pytest.mark.heavy
async def test_a_planned_change_of_the_primary_costs_no_confirmed_entry() -> None:
    now = asyncio.get_running_loop().time
    with sentinel_redis() as watched:
        # As many as there are: of two, the one that is not promoted would still confirm for a moment.
        options = options_for(watched.settings, replicas_wait=1, session_max_entries=100_000)
        async with streams(options) as each:
            await eventually(lambda: all(len(stream.acknowledged) > 20 for stream in each), "they append")
            struck_at, old = now(), watched.current_primary()
            in_order(watched)[0].ask("SENTINEL", "FAILOVER", NAME)
            await asyncio.to_thread(watched.until_promoted, old)
            outage = await again(each, struck_at)
        missing = await lost(options, each)
    show("planned fail-over", each, missing, outage)
    assert missing == 0


async def test_places_add_up_again_after_a_fail_over(watched: SentinelRedis) -> None:
    options, times = options_for(watched.settings, deadline_seconds=0.25), SlotsOptions(heartbeat_seconds=0.2)
    async with (
        gateway("", account(8), times, 1, redis=options) as one,
        gateway("", account(8), times, 2, redis=options) as other,
    ):
        each = [one, other]
        await settled(each)
        await take(one, LEASED, 4)
        await settled(each)
        watched.kill_primary()
        await eventually(lambda: all(slots.degraded for slots in each), "the loss is noticed")
        # Each goes on within its part: four are gone, and one of the rest is its own.
        await take(other, WARM)
        await eventually(lambda: not any(slots.degraded for slots in each), "the successor is found", 20)
        await settled(each)
        await take(other, LEASED)
        assert list(map(total, each)) == [4, 2]
        await settled(each)
