"""What the store, the places and the book of reservations promise, on each way in which Redis is run."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import Reason, StoreError
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.keys import RECORD_LIFE_SECONDS
from gateway.store.options import SlotsOptions
from gateway.store.redis_store import RedisStore
from gateway.store.reservations import PAGE, RedisReservations
from tests.support.redis_access import GATEWAY_PASSWORD, GATEWAY_USER
from tests.support.redis_topologies import TOPOLOGIES, Topology, sealing_keys, sessions_of
from tests.support.slots import LEASED, QUICK, WARM, account, gateway, refused, settled, take, total
from tests.support.waiting import eventually

KEY = SessionKey("acme", "s1")
SESSIONS = 60


def entries(first: int, count: int = 1, *, cseq: int = 0) -> list[LogEntry]:
    return [LogEntry(seq, f"words {seq}".encode(), cseq) for seq in range(first, first + count)]


@pytest.fixture(scope="module", params=sorted(TOPOLOGIES))
def servers(request: pytest.FixtureRequest) -> Iterator[Topology]:
    with TOPOLOGIES[request.param]() as topology:
        yield topology


@pytest.fixture
def topology(servers: Topology) -> Topology:
    """Empty, and with no script known."""
    servers.each("FLUSHALL")
    servers.each("SCRIPT", "FLUSH")
    return servers


@pytest.fixture
async def store(topology: Topology) -> AsyncIterator[RedisStore]:
    async with RedisStore(topology.options(), sealing_keys()) as store:
        assert not store.degraded
        yield store


async def recovered(store: RedisStore) -> None:
    await eventually(lambda: not store.degraded, "the store serves again")


async def again(store: RedisStore) -> None:
    """Append until it is stored: what is under way when a connection ends has to be tried again."""
    async with asyncio.timeout(10):
        while True:
            try:
                await store.append(KEY, 1, entries(2))
            except StoreError:
                await asyncio.sleep(0.01)
            else:
                return


# Sessions.


async def test_what_is_appended_is_read_in_order_and_deleted_at_the_end(topology: Topology, store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1, 2, cseq=4))
    await store.append(KEY, 1, entries(3, 200))
    assert await store.read(KEY) == entries(1, 2, cseq=4) + entries(3, 200)
    assert await store.read(KEY, from_seq=200) == entries(200, 3)
    await store.finish(KEY, 1)
    assert await store.read(KEY) == []
    assert sessions_of(topology.lives()) == []


async def test_an_older_owner_is_refused(store: RedisStore) -> None:
    await store.append(KEY, 2, entries(1))
    with pytest.raises(StoreError) as raised:
        await store.append(KEY, 1, entries(2))
    assert raised.value.reason is Reason.SUPERSEDED
    assert await store.read(KEY) == entries(1)


async def test_many_sessions_at_once_are_stored_each_in_its_order(topology: Topology, store: RedisStore) -> None:
    keys = [SessionKey("acme", f"s{number}") for number in range(SESSIONS)]
    await asyncio.gather(*(store.append(key, 1, entries(seq)) for seq in range(1, 6) for key in keys))
    assert await asyncio.gather(*map(store.read, keys)) == [entries(1, 5)] * SESSIONS
    assert topology.holders() == len(topology.servers())
    await asyncio.gather(*(store.finish(key, 1) for key in keys))
    assert sessions_of(topology.lives()) == []


async def test_a_script_cache_flush_loses_and_doubles_nothing(topology: Topology, store: RedisStore) -> None:
    keys = [SessionKey("acme", f"s{number}") for number in range(8)]
    for seq in range(1, 11):
        await asyncio.to_thread(topology.each, "SCRIPT", "FLUSH")
        await asyncio.gather(*(store.append(key, 1, entries(seq, cseq=seq)) for key in keys))
    assert await asyncio.gather(*map(store.read, keys)) == [[e for s in range(1, 11) for e in entries(s, cseq=s)]] * 8
    assert not store.degraded


# Everything together.


async def test_every_key_has_an_end(topology: Topology, store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1))
    with pytest.raises(StoreError):
        await store.append(SessionKey("acme", "hole"), 1, entries(5))
    book = RedisReservations(store.writer)
    await book.add("l1", 30)
    async with (
        gateway("", account(10, 1, 1), QUICK, 1, redis=topology.options()) as one,
        gateway("", account(10, 1, 1), QUICK, 2, redis=topology.options()) as other,
    ):
        await settled([one, other])
        await take(one, WARM)
        # A want, and a recall for it.
        await take(one, LEASED)
        await refused(other, LEASED)
        lives = topology.lives()
    for tag in ("s1}:m", "s1}:x", "lease:l1}", "main}:counts", "main}:expiries", "main}:tat", "main}:seen"):
        assert any(key.endswith(tag) for key in lives), f"no {tag} in {lives}"
    assert all(0 <= life <= RECORD_LIFE_SECONDS * 1000 for life in lives.values()), lives


async def test_a_full_server_is_degraded_and_serves_again_when_it_has_room(
    topology: Topology, store: RedisStore
) -> None:
    keys = [SessionKey("acme", f"s{number}") for number in range(SESSIONS)]
    await asyncio.gather(*(store.append(key, 1, entries(1)) for key in keys))
    with topology.full():
        refusals = await asyncio.gather(*(store.append(key, 1, entries(2)) for key in keys), return_exceptions=True)
        assert all(isinstance(each, StoreError) and each.reason is Reason.STORE_UNAVAILABLE for each in refusals)
        assert store.degraded
    await recovered(store)
    await asyncio.gather(*(store.append(key, 1, entries(2)) for key in keys))
    assert await asyncio.gather(*map(store.read, keys)) == [entries(1, 2)] * SESSIONS


async def test_the_check_names_an_eviction_policy_of_any_server(topology: Topology, store: RedisStore) -> None:
    assert "maxmemory-policy" not in " ".join(await store.check())
    last = topology.servers()[-1]
    last.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        said = " ".join(await store.check())
    finally:
        last.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert "maxmemory-policy is allkeys-lru" in said
    assert "not checked" not in said


async def test_a_dropped_connection_is_made_again(topology: Topology, store: RedisStore) -> None:
    await store.append(KEY, 1, entries(1))
    for server in topology.servers():
        assert server.ask("CLIENT", "KILL", "USER", GATEWAY_USER) >= 1
    await again(store)
    assert await store.read(KEY) == entries(1, 2)


@pytest.mark.parametrize("wrong", ["password", "user"])
async def test_who_is_not_let_in_is_degraded_and_tells_no_password(topology: Topology, wrong: str) -> None:
    options = topology.options()
    with capture_logs() as logs:
        if wrong == "password":
            options = replace(options, password="not-the-password")
        else:
            options = replace(options, url=options.url.replace(f"{GATEWAY_USER}@", "somebody@"))
        async with RedisStore(options, sealing_keys()) as store:
            assert store.degraded
            with pytest.raises(StoreError) as raised:
                await store.append(KEY, 1, entries(1))
    said = f"{logs} {raised.value} {raised.value.message}"
    assert GATEWAY_PASSWORD not in said
    assert "not-the-password" not in said


# Places.


async def test_gateways_share_the_places_of_each_account(topology: Topology) -> None:
    options = SlotsOptions(ttl_seconds=15, heartbeat_seconds=0.2)
    async with (
        gateway("", account(6), options, 1, redis=topology.options()) as one,
        gateway("", account(6), options, 2, redis=topology.options()) as other,
    ):
        each = [one, other]
        await settled(each)
        await take(one, LEASED, 4)
        await take(other, LEASED, 2)
        assert (await refused(other, LEASED)).reason is Reason.POOL_EXHAUSTED
        assert list(map(total, each)) == [4, 2]
        assert not one.degraded
        assert not other.degraded


# Reservations.


async def test_a_reservation_is_seen_by_all_and_taken_once(topology: Topology, store: RedisStore) -> None:
    book = RedisReservations(store.writer)
    async with RedisStore(topology.options(), sealing_keys()) as elsewhere:
        other = RedisReservations(elsewhere.writer)
        await book.add("l1", 30)
        assert await other.living(["l1", "l2"]) == {"l1"}
        assert await other.renew("l1", 40)
        taken = await asyncio.gather(*(each.take("l1") for each in [book, other] * 20))
        assert sum(taken) == 1
        assert not await book.renew("l1", 30)


async def test_many_reservations_are_asked_about_at_once(topology: Topology, store: RedisStore) -> None:
    book = RedisReservations(store.writer, deadline_seconds=2.0)
    ids = [f"l{number}" for number in range(PAGE + 10)]
    await asyncio.gather(*(book.add(lease_id, 30) for lease_id in ids[::2]))
    assert await book.living(ids) == frozenset(ids[::2])
    await asyncio.to_thread(topology.each, "SCRIPT", "FLUSH")
    assert await book.living(ids) == frozenset(ids[::2])
    assert topology.holders() == len(topology.servers())
