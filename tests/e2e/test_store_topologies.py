"""A gateway on Redis as operators run it: with TLS and rights, watched by Sentinels, as a Cluster."""

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from gateway.store.keys import session_keys
from gateway.store.options import RedisOptions
from tests.support.load import Load, load, outcomes
from tests.support.processes import ProcessStack, on_linux, process_stack
from tests.support.redis_access import GATEWAY_PASSWORD
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_sentinel import SentinelRedis, sentinel_redis
from tests.support.redis_topologies import TOPOLOGIES, options_for
from tests.support.slots import figures
from tests.support.stack import channel_to, pool
from tests.support.store_calls import Call, ToolCall, held, missing
from tests.support.waiting import eventually

pytestmark = on_linux

POOLS = {"default": pool(floor=6, ceiling=40, dials_max=8, wait_max_ms=3000, demand={"enabled": False})}
TOOL_CALLS, SPEECH_CALLS = 4, 2
OPENS_PER_SECOND = 5.0
CALM_SECONDS, AFTER_SECONDS = 2.0, 2.0


@contextlib.asynccontextmanager
async def gateway(settings: Mapping[str, Any], **store: Any) -> AsyncIterator[ProcessStack]:
    """Run one with a simulator, both as processes; no password of Redis may be in what it says."""
    sections = {"pools": POOLS, **settings, "store": {**settings["store"], **store}}
    with process_stack(**sections) as running:
        running.until_warm(2)
        yield running
        assert GATEWAY_PASSWORD not in running.gateway.output


def components(running: ProcessStack) -> Any:
    """Return what the gateway says of its parts."""
    with urllib.request.urlopen(f"http://{running.ops}/readyz", timeout=5) as answer:
        return json.loads(answer.read())["components"]


async def whole(options: RedisOptions, calls: Sequence[Call], seconds: float) -> None:
    """Wait until every event is in the store, or was named as lost."""
    lost: list[set[int]] = []
    try:
        async with asyncio.timeout(seconds):
            while any(lost := await missing(options, calls)) or not lost:  # noqa: ASYNC110 it is another process
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"neither stored nor named: {lost}") from None


# Calm.


@pytest.mark.parametrize("name", sorted(TOPOLOGIES))
async def test_a_call_is_stored_while_it_runs(name: str) -> None:
    with TOPOLOGIES[name]() as servers:
        async with gateway(servers.settings) as running, channel_to(running.address) as channel:
            calls = [ToolCall(channel), Call(channel)]
            async with held(calls) as enough:
                await eventually(lambda: all(each.turns > 1 for each in calls), "they talk", 20)
                enough.set()
                await whole(servers.options(), calls, 5)
            # `opened` goes out before it is stored.
            assert all(durable for each in calls for seq, durable in each.numbers.items() if seq > 1)
            parts = components(running)
            assert [parts[each]["status"] for each in ("store", "slots")] == ["ok", "ok"]
            # What endangers a promise is told; the user, its rights and the eviction policy are as they should be.
            told = [line for line in running.gateway.output.splitlines() if "store_setting" in line]
            assert not any(each in "".join(told) for each in ("default", "not checked", "maxmemory", "replicas_wait"))
        # What the gateway's user may not do, it never tried.
        assert servers.each("ACL", "LOG") == [[] for _ in servers.servers()]


# Trouble in flight.


@contextlib.asynccontextmanager
async def talking(address: str) -> AsyncIterator[tuple[list[Call], Load]]:
    """Hold calls and let others come, until the block ends; nobody may be cut or refused."""
    async with channel_to(address) as channel:
        calls: list[Call] = [
            *(ToolCall(channel) for _ in range(TOOL_CALLS)),
            *(Call(channel) for _ in range(SPEECH_CALLS)),
        ]
        async with held(calls), load([channel], OPENS_PER_SECOND) as came:
            await asyncio.sleep(CALM_SECONDS)
            yield calls, came
    assert {each.outcome for each in came.came} <= {"WARM", "WAITED"}, outcomes(came.came)


def show(what: str, calls: Sequence[Call], came: Load, **more: object) -> None:
    figures(
        what,
        **more,
        calls=len(calls),
        turns=sum(each.turns for each in calls),
        opens=outcomes(came.came),
        events=sum(len(each.numbers) for each in calls),
        not_durable=sum(not durable for each in calls for durable in each.numbers.values()),
        named=sum(len(each.named_lost()) for each in calls),
        told=sorted({cause for each in calls for cause in each.causes()}),
    )


async def degraded_and_back(running: ProcessStack, calls: Sequence[Call], seconds: float) -> float:
    """Wait until every call was told that the store does less, and then that it is back; return how long it took."""
    now = asyncio.get_running_loop().time
    began = now()
    await eventually(lambda: all("store_lost" in each.causes() for each in calls), "told that it is degraded", 10)
    await eventually(lambda: all("store_back" in each.causes()[-1:] for each in calls), "told that it is back", seconds)
    took = now() - began
    assert running.gateway.output.count('"store_degraded"') >= 1
    parts = await asyncio.to_thread(components, running)
    assert parts["store"]["status"] == "ok"
    return took


@pytest.mark.heavy
@pytest.mark.timeout(150)
@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_calls_and_opens_go_on_while_sentinels_replace_the_primary(fault: str) -> None:
    with sentinel_redis() as watched:
        async with gateway(watched.settings, replicas_wait=1) as running, talking(running.address) as (calls, came):
            old = await asyncio.to_thread(watched.kill_primary if fault == "killed" else watched.freeze_primary)
            new = await asyncio.to_thread(watched.until_promoted, old)
            # Until it has come back as a replica, nothing is confirmed.
            await asyncio.to_thread(come_back, watched, old)
            took = await degraded_and_back(running, calls, 60)
            await asyncio.sleep(AFTER_SECONDS)
            await whole(options_for(watched.settings), calls, 10)
            show(f"primary {fault}", calls, came, degraded_s=round(took, 1))
            assert watched.current_primary() == new


def come_back(watched: SentinelRedis, old: int) -> None:
    if watched.servers[old].running:
        watched.servers[old].thaw()
    else:
        watched.servers[old].start()


@pytest.mark.heavy
@pytest.mark.timeout(150)
async def test_calls_and_opens_go_on_while_a_cluster_replaces_a_node() -> None:
    with redis_cluster(replicas=True) as sharded:
        async with gateway(sharded.settings) as running, talking(running.address) as (calls, came):
            key = session_keys(calls[0].key).meta
            killed = await asyncio.to_thread(sharded.kill_owner, key)
            await asyncio.to_thread(sharded.until_ok)
            await asyncio.sleep(AFTER_SECONDS)
            await whole(options_for(sharded.settings), calls, 10)
            show("node killed", calls, came)
            assert sharded.owner_of(key) != killed


@pytest.mark.heavy
@pytest.mark.timeout(150)
async def test_no_call_notices_that_its_record_moves_to_another_node() -> None:
    with redis_cluster() as sharded:
        async with gateway(sharded.settings) as running, talking(running.address) as (calls, came):
            for each in calls:
                await moved_slowly(sharded, each)
            await asyncio.sleep(AFTER_SECONDS)
            await whole(options_for(sharded.settings), calls, 10)
            show("slots moved", calls, came)
            assert [each.causes() for each in calls] == [[] for _ in calls]


async def moved_slowly(cluster: RedisCluster, call: Call) -> None:
    """Move the slot of a call's record; between the keys' move and the owner's change its old owner says ASK."""
    key, thread = session_keys(call.key).meta, asyncio.to_thread
    to = await thread(cluster.elsewhere, key)
    source = await thread(cluster.begin_move, key, to)
    for step in (partial(cluster.move_keys, key, source, to), partial(cluster.finish_move, key, to)):
        turns = call.turns
        await eventually(lambda turns=turns: call.turns > turns + 1, "it talks")  # type: ignore[misc]
        await thread(step)
