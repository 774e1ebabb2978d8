"""A primary is lost under a stream of appends that replicas confirm: nothing that was confirmed is missing after."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from gateway.store.keys import session_keys
from gateway.store.options import RedisOptions
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_process import RedisProcess
from tests.support.redis_sentinel import SentinelRedis, sentinel_redis
from tests.support.redis_topologies import options_for
from tests.support.store_streams import again, lost, show, streams

CALM_SECONDS = 1.0
# Shorter than what makes Sentinels and nodes believe that a replica is gone.
LAG_SECONDS = 0.3


def roomy(settings: Mapping[str, Any]) -> RedisOptions:
    """Have a replica confirm each append, and no entry make room."""
    return options_for(
        settings,
        replicas_wait=1,
        deadline_seconds=0.5,
        session_max_entries=100_000,
        session_max_bytes=8 * 1024 * 1024,
    )


@contextlib.contextmanager
def parted(primary: RedisProcess, replicas: Sequence[RedisProcess]) -> Iterator[None]:
    """Let replicas fall behind for the block, as when the network between them and their primary is cut."""
    for each in replicas:
        each.freeze()
    # Or what is sent meanwhile would wait for them in the kernel.
    primary.ask("CLIENT", "KILL", "TYPE", "replica")
    time.sleep(LAG_SECONDS)
    try:
        yield
    finally:
        for each in replicas:
            each.thaw()


def strike(watched: SentinelRedis, fault: str) -> int:
    """Lose the primary with what no replica has; return it when another one has its place."""
    old = watched.current_primary()
    with parted(watched.servers[old], [each for port, each in watched.servers.items() if port != old]):
        assert (watched.kill_primary() if fault == "killed" else watched.freeze_primary()) == old
    watched.until_promoted(old)
    return old


@pytest.mark.heavy
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_no_confirmed_entry_is_lost_with_a_primary_that_sentinels_replace(fault: str) -> None:
    now, thread = asyncio.get_running_loop().time, asyncio.to_thread
    outages = []
    # As many confirm as there are: whoever is promoted has it.
    with sentinel_redis() as watched:
        async with streams(roomy(watched.settings)) as each:
            # A second kill may find the Sentinels still busy with the first: then they take an empty server for the
            # primary, and all that Redis has is gone.
            for _ in range(1 if fault == "killed" else 2):
                await asyncio.sleep(CALM_SECONDS)
                struck_at = now()
                old = await thread(strike, watched, fault)
                # It comes back as a primary that does not know that it is none any more: nobody may write there.
                await thread(watched.servers[old].start if fault == "killed" else watched.servers[old].thaw)
                await thread(watched.until_replicated)
                outages.append(await again(each, struck_at))
            await asyncio.sleep(CALM_SECONDS)
        missing = await lost(roomy(watched.settings), each)
    show(f"primary {fault}", each, missing, *outages)
    assert sum(len(stream.acknowledged) for stream in each) > 1000
    assert missing == 0


@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_no_confirmed_entry_is_lost_with_a_node_of_a_cluster() -> None:
    now, thread = asyncio.get_running_loop().time, asyncio.to_thread
    with redis_cluster(replicas=True) as sharded:
        async with streams(roomy(sharded.settings)) as each:
            await asyncio.sleep(CALM_SECONDS)
            struck_at, key = now(), session_keys(each[0].key).meta
            dead = await thread(strike_node, sharded, key)
            # What confirms its successor's writes.
            await thread(sharded.nodes[dead].start)
            outage = await again(each, struck_at)
            await asyncio.sleep(CALM_SECONDS)
        missing = await lost(roomy(sharded.settings), each)
    show("node killed", each, missing, outage)
    assert missing == 0


def strike_node(cluster: RedisCluster, key: str) -> int:
    """Lose the owner of a key with what its replica has not; return it when another node has its place."""
    dead = cluster.owner_of(key)
    with parted(cluster.nodes[dead], [cluster.replica_of(dead)]):
        cluster.nodes[dead].kill()
    cluster.until_ok()
    return dead
