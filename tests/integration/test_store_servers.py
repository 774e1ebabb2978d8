"""The servers that the store is tried on really behave: who trusts nobody refuses, who watches promotes, who shards
redirects, and a bad route is bad. Nothing of the gateway is here."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff

from tests.support.processes import is_gone
from tests.support.proxy import Route, route_to
from tests.support.redis_access import AS_GATEWAY
from tests.support.redis_cluster import RedisCluster, redis_cluster
from tests.support.redis_process import ONCE
from tests.support.redis_sentinel import sentinel_redis
from tests.support.redis_server import FILLER, RedisServer, plain_redis
from tests.support.redis_tls import TlsRedis, tls_redis
from tests.support.slots import figures
from tests.support.waiting import eventually

# Plain.


def test_a_server_is_killed_frozen_and_started_again_at_the_same_place() -> None:
    with plain_redis() as server:
        server.ask("SET", "a", "1")
        pid = server.pid
        with server.frozen(), server.client() as client, pytest.raises(redis.TimeoutError):
            client.ping()
        assert server.ask("GET", "a") == b"1"
        server.freeze()
        server.kill()
        assert is_gone(pid)
        with pytest.raises(redis.ConnectionError):
            server.ask("PING")
        server.start()
        assert server.ask("GET", "a") is None
        pid = server.pid
    assert is_gone(pid)


def test_a_server_that_is_full_says_so() -> None:
    with plain_redis("maxmemory 2mb", "maxmemory-policy noeviction") as server:
        server.fill()
        with pytest.raises(redis.OutOfMemoryError):
            server.ask("SET", "more", "1")
        assert server.info("stats")["evicted_keys"] == 0
        server.ask("DEL", FILLER)
        assert server.ask("SET", "more", "1")


# TLS and rights.


@pytest.fixture(scope="module")
def secured() -> Iterator[TlsRedis]:
    with tls_redis() as server:
        yield server


@contextmanager
def as_gateway(server: TlsRedis, **how: object) -> Iterator["redis.Redis"]:
    chosen = {
        "ssl": True,
        "ssl_ca_certs": str(server.ca_file),
        "socket_timeout": 2.0,
        "retry": ONCE,
        **AS_GATEWAY,
        **how,
    }
    with redis.Redis(host="127.0.0.1", port=server.port, **chosen) as client:  # type: ignore[arg-type]
        yield client


def test_the_tls_server_refuses_plaintext_a_foreign_authority_and_a_wrong_password(secured: TlsRedis) -> None:
    with as_gateway(secured) as client:
        assert client.ping()
    with as_gateway(secured, ssl=False, ssl_ca_certs=None) as client, pytest.raises(redis.ConnectionError):
        client.ping()
    with (
        as_gateway(secured, ssl_ca_certs=str(secured.foreign_ca_file)) as client,
        pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.ping()
    for how in ({"password": "wrong"}, {"username": None, "password": None}):
        with as_gateway(secured, **how) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL", "KEYS *", "SCAN 0", "MONITOR", "CONFIG SET maxmemory 1", "ACL LIST", "SHUTDOWN", "REPLICAOF NO ONE",
        "SUBSCRIBE a", "GET foreign", "SET foreign 1", "DEL foreign", "EVAL return(redis.call('flushall')) 0",
        "EVAL return(redis.call('get',KEYS[1])) 1 foreign", "SCRIPT FLUSH",
    ],
)  # fmt: skip
def test_the_gateway_s_user_may_do_nothing_else(secured: TlsRedis, command: str) -> None:
    with as_gateway(secured) as client, pytest.raises(redis.ResponseError) as raised:
        client.execute_command(*command.split())  # type: ignore[no-untyped-call]
    assert re.search("permission|can't run|can't access", str(raised.value))


# Sentinel.


def test_sentinels_put_the_replica_in_the_place_of_a_primary_that_is_gone() -> None:
    with sentinel_redis() as watched:
        watched.primary.ask("SET", "a", "1")
        assert watched.primary.ask("WAIT", 1, 1000) == 1
        began = time.monotonic()
        old = watched.kill_primary()
        new = watched.until_promoted(old)
        figures("promoted", seconds=round(time.monotonic() - began, 1))
        assert new != old
        assert watched.primary.ask("GET", "a") == b"1"
        assert watched.primary.ask("SET", "a", "2")


# Cluster.


@pytest.fixture(scope="module")
def sharded() -> Iterator[RedisCluster]:
    with redis_cluster() as cluster:
        yield cluster


def test_a_cluster_s_node_answers_moved_for_what_is_not_its_own(sharded: RedisCluster) -> None:
    owner, other = sharded.owner_of("a"), sharded.elsewhere("a")
    assert sharded.nodes[owner].ask("SET", "a", "1")
    with pytest.raises(redis.exceptions.MovedError, match=str(owner)):
        sharded.nodes[other].ask("GET", "a")


def test_a_slot_on_its_way_answers_ask_for_what_has_gone_and_then_moved(sharded: RedisCluster) -> None:
    key = "{moving}:1"
    owner, to = sharded.owner_of(key), sharded.elsewhere(key)
    sharded.nodes[owner].ask("SET", key, "1")
    assert sharded.begin_move(key, to) == owner
    assert sharded.nodes[owner].ask("GET", key) == b"1"
    assert sharded.move_keys(key, owner, to) == 1
    with pytest.raises(redis.exceptions.AskError, match=str(to)):
        sharded.nodes[owner].ask("GET", key)
    sharded.finish_move(key, to)
    assert sharded.owner_of(key) == to
    assert sharded.nodes[to].ask("GET", key) == b"1"
    with pytest.raises(redis.exceptions.MovedError, match=str(to)):
        sharded.nodes[owner].ask("GET", key)


def test_a_cluster_with_replicas_goes_on_without_a_primary() -> None:
    with redis_cluster(replicas=True) as cluster:
        killed = cluster.kill_owner("a")
        cluster.until_ok()
        assert cluster.owner_of("a") != killed
        assert cluster.nodes[cluster.owner_of("a")].ask("SET", "a", "1")


# The route.


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with plain_redis() as server:
        yield server


@pytest.fixture
async def route(server: RedisServer) -> AsyncIterator[Route]:
    async with route_to(f"127.0.0.1:{server.port}") as route:
        yield route


def through(route: Route, seconds: float = 2.0) -> "AsyncRedis":
    return AsyncRedis(port=route.port, socket_timeout=seconds, retry=AsyncRetry(NoBackoff(), 0))


async def seconds_of(client: "AsyncRedis") -> float:
    began = time.monotonic()
    assert await client.ping()
    return time.monotonic() - began


async def test_a_long_route_takes_its_time_each_way_whatever_is_under_way(route: Route) -> None:
    async with through(route) as client:
        assert await seconds_of(client) < 0.05
        route.delay_seconds = 0.1
        assert 0.2 <= await seconds_of(client) < 0.3
        async with client.pipeline(transaction=False) as pipeline:
            began = time.monotonic()
            pipeline.get("a")
            pipeline.get("b")
            await pipeline.execute()
            assert 0.2 <= time.monotonic() - began < 0.3
        route.heal()
        assert await seconds_of(client) < 0.05


async def test_what_is_sent_on_a_frozen_route_arrives_when_it_moves_again(route: Route, server: RedisServer) -> None:
    async with through(route) as client:
        await client.set("thawed", "0")
        route.freeze()
        writing = asyncio.ensure_future(client.set("thawed", "1"))
        done, _ = await asyncio.wait({writing}, timeout=0.2)
        assert not done
        assert server.ask("GET", "thawed") == b"0"
        route.heal()
        assert await writing
        assert server.ask("GET", "thawed") == b"1"


async def test_a_black_hole_answers_nothing_and_its_connections_never_work_again(route: Route) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", route.port)
    route.swallow()
    writer.write(b"PING\r\n")
    await eventually(lambda: route._holed, "it is swallowed")
    async with through(route, 0.2) as client:
        with pytest.raises(redis.TimeoutError):
            await client.ping()
        assert route.connections == 2
        route.heal()
        with pytest.raises(ConnectionResetError):
            await reader.readline()
        writer.close()
        assert await client.ping()


async def test_a_reset_is_one(route: Route) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", route.port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    route.reset()
    with pytest.raises(ConnectionResetError):
        await reader.readline()
    writer.close()
    async with through(route) as client:
        assert await client.ping()
