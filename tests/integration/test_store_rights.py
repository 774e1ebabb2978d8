"""The rights that operators give the gateway's user at Redis: with them everything works, and none is there in vain."""

import re
from dataclasses import replace

import pytest

from gateway.core.errors import StoreError
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.options import RedisOptions
from gateway.store.redis_store import DuplicateControlError, RedisStore
from gateway.store.reservations import RedisReservations
from gateway.store.slots import RedisSlots
from tests.support.processes import ROOT
from tests.support.redis_access import GATEWAY_RULES, GATEWAY_USER
from tests.support.redis_cluster import CLUSTER_RULES
from tests.support.redis_sentinel import SENTINEL_RULES
from tests.support.redis_topologies import TOPOLOGIES, Topology, sealing_keys
from tests.support.slots import ACCOUNT, LEASED, QUICK, WARM, account, attempt, gateway, settled, take
from tests.support.waiting import eventually

REDIS_PAGE = ROOT / "docs/operations/redis.md"
# What comes with every connection, and what only the tests' own user does.
OTHERS = {"auth", "hello", "info", "config|resetstat", "script|flush"}


def granted(rules: str) -> set[str]:
    return set(re.findall(r"\+(\S+)", rules))


def entries(first: int, count: int, *, cseq: int = 0, size_bytes: int = 100) -> list[LogEntry]:
    return [LogEntry(seq, bytes(size_bytes), cseq) for seq in range(first, first + count)]


async def sessions(topology: Topology, options: RedisOptions) -> None:
    """Store, trim, read, find a duplicate, forget, and keep for a while; the servers forget the scripts."""
    key, kept = SessionKey("acme", "s1"), SessionKey("acme", "s2")
    async with RedisStore(replace(options, session_max_entries=8), sealing_keys()) as store:
        await store.append(key, 1, entries(1, 10, cseq=1)[:1])
        topology.each("SCRIPT", "FLUSH")
        await store.append(key, 1, entries(2, 12))
        assert len(await store.read(key)) == 8
        await store.append(key, 1, entries(14, 1, cseq=2))
        with pytest.raises(DuplicateControlError):
            await store.append(key, 1, entries(15, 1, cseq=2))
        await store.finish(key, 1)
        await store.check()
        book = RedisReservations(store.writer)
        await book.add("l1", 30)
        assert await book.renew("l1", 30)
        assert await book.living(["l1"]) == {"l1"}
        assert await book.take("l1")
    async with RedisStore(replace(options, retention_seconds=1), sealing_keys()) as store:
        await store.append(kept, 1, entries(1, 1))
        await store.finish(kept, 1)
    async with RedisStore(replace(options, replicas_wait=9), sealing_keys()) as store:
        with pytest.raises(StoreError, match="too few replicas"):
            await store.append(kept, 2, [])


async def quiet(topology: Topology, options: RedisOptions) -> None:
    """Leave a connection alone, until it is asked whether it is still one."""
    async with RedisStore(options, sealing_keys()):
        (server, *_) = topology.servers()
        await eventually(lambda: "cmdstat_ping" in server.info("commandstats"), "it is asked")


async def places(options: RedisOptions) -> None:
    """Take places, wish for one, have one called back, and see a gateway end without a word."""
    async with gateway("", account(3), QUICK, 1, redis=options) as one:
        async with gateway("", account(3), QUICK, 2, redis=options) as other:
            await settled([one, other])
            await take(one, WARM, 3)
            await attempt(other, LEASED)
            await attempt(other, LEASED)
        # Longer than a quiet connection is left alone, and than the places of one who is silent stay.
        await eventually(lambda: alone(one), "the other one's places are free")


def alone(one: RedisSlots) -> bool:
    view = one.views()[ACCOUNT]
    return view is not None and view.live == 1


async def used(topology: Topology) -> set[str]:
    """Do everything that a gateway does; return the commands that the servers were given, also by scripts."""
    topology.each("FLUSHALL")
    topology.each("CONFIG", "RESETSTAT")
    options = topology.options(idle_ping_seconds=0.1)
    await sessions(topology, options)
    await quiet(topology, options)
    await places(options)
    stats = [server.info("commandstats") for server in topology.servers()]
    assert topology.each("ACL", "LOG") == [[] for _ in stats]
    return {name.removeprefix("cmdstat_") for each in stats for name, told in each.items() if told["calls"]}


def test_the_documents_quote_them() -> None:
    page = REDIS_PAGE.read_text("utf-8")
    assert f"user {GATEWAY_USER} on >PASSWORD {GATEWAY_RULES}\n" in page
    assert f"`{SENTINEL_RULES}`" in page
    assert f"`{CLUSTER_RULES}`" in page


async def test_the_user_has_every_right_that_it_needs_and_no_other() -> None:
    with TOPOLOGIES["tls"]() as topology:
        assert await used(topology) - OTHERS == granted(GATEWAY_RULES) - OTHERS


@pytest.mark.parametrize(("name", "rules"), [("sentinel", SENTINEL_RULES), ("cluster", CLUSTER_RULES)])
async def test_the_rights_that_a_topology_needs_on_top_are_used(name: str, rules: str) -> None:
    with TOPOLOGIES[name]() as topology:
        # A slot has to move for this one: the tests of the Cluster see to it.
        assert granted(rules) - {"asking"} <= await used(topology)
