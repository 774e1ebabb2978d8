"""A primary is lost under a stream of appends that replicas confirm: nothing that was confirmed is missing after."""

import asyncio

import pytest

from gateway.store.keys import session_keys
from tests.support.redis_appends import roomy
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_process import parted
from tests.support.redis_sentinel import sentinel_redis
from tests.support.store_streams import again, lost, show, streams

CALM_SECONDS = 1.0


@pytest.mark.heavy
@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_no_confirmed_entry_is_lost_with_a_primary_that_sentinels_replace(fault: str) -> None:
    now, thread = asyncio.get_running_loop().time, asyncio.to_thread
    outages = []
    # As many confirm as there are: whoever is promoted has it.
    with sentinel_redis() as watched:
        async with streams(roomy(watched.settings, 1)) as each:
            # A second kill may find the Sentinels still busy with the first: then they take an empty server for the
            # primary, and all that Redis has is gone.
            for _ in range(1 if fault == "killed" else 2):
                await asyncio.sleep(CALM_SECONDS)
                struck_at = now()
                old = await thread(watched.lose_primary, frozen=fault == "frozen")
                # It comes back as a primary that does not know that it is none any more: nobody may write there.
                await thread(watched.servers[old].start if fault == "killed" else watched.servers[old].thaw)
                await thread(watched.until_replicated)
                outages.append(await again(each, struck_at))
            await asyncio.sleep(CALM_SECONDS)
        missing = await lost(roomy(watched.settings, 1), each)
    show(f"primary {fault}", each, missing, *outages)
    assert sum(len(stream.acknowledged) for stream in each) > 1000
    assert missing == 0


@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_no_confirmed_entry_is_lost_with_a_node_of_a_cluster() -> None:
    now, thread = asyncio.get_running_loop().time, asyncio.to_thread
    with redis_cluster(replicas=True) as sharded:
        async with streams(roomy(sharded.settings, 1)) as each:
            await asyncio.sleep(CALM_SECONDS)
            struck_at, key = now(), session_keys(each[0].key).meta
            dead = await thread(strike_node, sharded, key)
            # What confirms its successor's writes.
            await thread(sharded.nodes[dead].start)
            outage = await again(each, struck_at)
            await asyncio.sleep(CALM_SECONDS)
        missing = await lost(roomy(sharded.settings, 1), each)
    show("node killed", each, missing, outage)
    assert missing == 0


def strike_node(cluster: RedisCluster, key: str) -> int:
    """Lose the owner of a key with what its replica has not; return it when another node has its place."""
    dead = cluster.owner_of(key)
    with parted(cluster.nodes[dead], [cluster.replica_of(dead)]):
        cluster.nodes[dead].kill()
    cluster.until_ok()
    return dead
