"""The store on a Cluster whose slots move, whose nodes are full or gone, and which names its nodes in odd ways."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from statistics import median

import pytest
from structlog.testing import capture_logs

from gateway.core.errors import StoreError
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.keys import session_keys
from gateway.store.redis_store import RedisStore
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_topologies import options_for, sealing_keys
from tests.support.slots import figures
from tests.support.store_streams import Stream, again, lost, show, streams
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisCluster]:
    with redis_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: RedisCluster) -> RedisCluster:
    for node in shared.nodes.values():
        node.ask("FLUSHALL")
        node.ask("SCRIPT", "FLUSH")
    return shared


@pytest.fixture
async def store(cluster: RedisCluster) -> AsyncIterator[RedisStore]:
    async with RedisStore(options_for(cluster.settings), sealing_keys()) as store:
        assert not store.degraded
        yield store


def entry(seq: int) -> LogEntry:
    return LogEntry(seq, f"words {seq}".encode())


def sessions_at(cluster: RedisCluster, port: int, count: int) -> list[SessionKey]:
    """Return sessions whose records lie at one node."""
    keys = (SessionKey("acme", f"at{number}") for number in range(10_000))
    found = (key for key in keys if cluster.owner_of(session_keys(key).meta) == port)
    return [next(found) for _ in range(count)]


def meta(stream: Stream) -> str:
    return session_keys(stream.key).meta


# Slots on the move.


async def talked(stream: Stream) -> None:
    count = len(stream.acknowledged)
    await eventually(lambda: len(stream.acknowledged) > count + 5, "it appends")


async def test_no_append_is_refused_while_its_slot_moves(cluster: RedisCluster) -> None:
    options = options_for(cluster.settings, session_max_entries=100_000)
    async with streams(options) as each:
        for stream in each[:6]:
            await talked(stream)
            key, to = meta(stream), cluster.elsewhere(meta(stream))
            source = cluster.begin_move(key, to)
            await talked(stream)
            assert cluster.move_keys(key, source, to) >= 2
            # Its old owner says ASK now.
            await talked(stream)
            cluster.finish_move(key, to)
            # And now MOVED, once.
            await talked(stream)
    missing = await lost(options, each)
    show("slots moved", each, missing)
    assert missing == 0
    assert sum(stream.refusals.total() for stream in each) == 0


async def test_a_record_is_read_and_finished_while_it_moves(cluster: RedisCluster, store: RedisStore) -> None:
    key = SessionKey("acme", "moving")
    await store.append(key, 1, [entry(1)])
    name, to = session_keys(key).meta, cluster.elsewhere(session_keys(key).meta)
    source = cluster.begin_move(name, to)
    assert cluster.move_keys(name, source, to) == 2
    # The node that it moves to has never heard of a script.
    cluster.nodes[to].ask("SCRIPT", "FLUSH")
    assert await store.read(key) == [entry(1)]
    await store.append(key, 1, [entry(2)])
    assert await store.read(key) == [entry(1), entry(2)]
    await store.finish(key, 1)
    assert await store.read(key) == []
    cluster.finish_move(name, to)
    await store.append(key, 1, [entry(1)])
    assert not store.degraded


async def test_half_a_record_that_has_moved_is_waited_for(cluster: RedisCluster, store: RedisStore) -> None:
    key = SessionKey("acme", "halved")
    await store.append(key, 1, [entry(1)])
    keys = session_keys(key)
    to = cluster.elsewhere(keys.meta)
    source = cluster.begin_move(keys.meta, to)
    cluster.move_key(keys.meta, source, to)
    appending = asyncio.ensure_future(store.append(key, 1, [entry(2)]))
    done, _ = await asyncio.wait({appending}, timeout=0.03)
    assert not done, "a command on half a record can be answered by TRYAGAIN alone"
    cluster.move_key(keys.log, source, to)
    await appending
    cluster.finish_move(keys.meta, to)
    assert await store.read(key) == [entry(1), entry(2)]
    assert not store.degraded


# Nodes in trouble.


async def test_a_full_node_costs_nothing_to_the_sessions_of_others(cluster: RedisCluster, store: RedisStore) -> None:
    full = cluster.nodes[cluster.primaries[0]]
    (theirs,), ours = sessions_at(cluster, cluster.primaries[0], 1), sessions_at(cluster, cluster.primaries[1], 5)
    full.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        with capture_logs() as logs:
            for seq in range(1, 31):
                tried = (store.append(key, 1, [entry(seq)]) for key in [theirs, *ours])
                answers = await asyncio.gather(*tried, return_exceptions=True)
                assert isinstance(answers[0], StoreError)
                assert all(isinstance(answer, int) for answer in answers[1:]), answers
    finally:
        full.ask("CONFIG", "SET", "maxmemory", 0)
    # It is told once, not at every append.
    assert [each["event"] for each in logs] == ["cluster_node_refuses", "store_partly_degraded"]


async def test_a_frozen_node_does_not_hold_up_the_sessions_of_others() -> None:
    now, seconds, degraded = asyncio.get_running_loop().time, list[float](), list[bool]()
    with redis_cluster("cluster-require-full-coverage no") as cluster:
        frozen = cluster.primaries[0]
        (theirs,), ours = sessions_at(cluster, frozen, 1), sessions_at(cluster, cluster.primaries[1], 5)
        async with RedisStore(options_for(cluster.settings, deadline_seconds=0.25), sealing_keys()) as store:
            with cluster.nodes[frozen].frozen():
                for seq in range(1, 201):
                    began = now()
                    tried = (store.append(key, 1, [entry(seq)]) for key in [theirs, *ours])
                    answers = await asyncio.gather(*tried, return_exceptions=True)
                    seconds.append(now() - began)
                    assert isinstance(answers[0], StoreError)
                    assert all(isinstance(answer, int) for answer in answers[1:]), answers
                    degraded.append(store.degraded)
                    await asyncio.sleep(0.02)
            await eventually(lambda: not store.degraded, "the node serves again", 10)
    figures(
        "frozen node", n=len(seconds), median_ms=round(median(seconds) * 1000, 1), max_ms=round(max(seconds) * 1000)
    )
    assert max(seconds) < 0.25 + 0.1
    # It takes connections all the time: who believes that tells every caller of a store that comes and goes.
    assert sum(before is not after for before, after in pairwise(degraded)) <= 1
    assert sum(each > 0.2 for each in seconds) <= 2


async def test_a_node_that_comes_back_empty_is_used_again() -> None:
    with redis_cluster() as cluster:
        async with streams(options_for(cluster.settings)) as each:
            await talked(each[0])
            dead = cluster.kill_owner(meta(each[0]))
            await eventually(lambda: each[0].store.degraded, "the loss is noticed")
            cluster.nodes[dead].start()
            await asyncio.to_thread(cluster.until_ok)
            others = [stream for stream in each if cluster.owner_of(meta(stream)) != dead]
            await again(others, 0)
            # What lay there is gone: whoever has nothing else goes on with an empty log.
            late = SessionKey("acme", "late")
            await each[0].store.append(late, 1, [entry(1)])
            assert not each[0].store.degraded


# How it is found.


@pytest.mark.parametrize("state", ["dead", "frozen"])
async def test_a_seed_that_does_not_answer_is_passed_over(state: str) -> None:
    with redis_cluster(replicas=True) as cluster:
        first = cluster.primaries[0]
        if state == "dead":
            cluster.nodes[first].kill()
        else:
            cluster.nodes[first].freeze()
        await asyncio.to_thread(cluster.until_ok, first)
        options = options_for(cluster.settings, connect_seconds=0.5)
        async with RedisStore(options, sealing_keys()) as store:
            await eventually(lambda: not store.degraded, "the others are asked")
            keys = [SessionKey("acme", f"s{number}") for number in range(30)]
            await asyncio.gather(*(store.append(key, 1, [entry(1)]) for key in keys))


@pytest.mark.parametrize(
    "lines",
    [
        ("cluster-preferred-endpoint-type unknown-endpoint",),
        ("cluster-preferred-endpoint-type hostname", "cluster-announce-hostname localhost"),
    ],
)
async def test_nodes_may_be_named_in_other_ways(lines: tuple[str, ...]) -> None:
    with redis_cluster(*lines) as cluster:
        async with RedisStore(options_for(cluster.settings), sealing_keys()) as store:
            assert not store.degraded
            keys = [SessionKey("acme", f"s{number}") for number in range(30)]
            await asyncio.gather(*(store.append(key, 1, [entry(1)]) for key in keys))
            name, to = session_keys(keys[0]).meta, cluster.elsewhere(session_keys(keys[0]).meta)
            source = cluster.begin_move(name, to)
            cluster.move_keys(name, source, to)
            await store.append(keys[0], 1, [entry(2)])
            cluster.finish_move(name, to)
            await store.append(keys[0], 1, [entry(3)])
            assert await store.read(keys[0]) == [entry(1), entry(2), entry(3)]
            assert not store.degraded
