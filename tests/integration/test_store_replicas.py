"""An append that replicas must have: counted only when they say so, one question per batch."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.core.errors import Reason, StoreError
from gateway.core.events import Durability
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.embedded import tethered
from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from gateway.store.sealing_keys import SealingKeys
from tests.support.ports import free_port

KEY = SessionKey("acme", "s1")


@dataclass
class Pair:
    """A primary and one replica of it that is in step."""

    primary: str
    replica: asyncio.subprocess.Process


async def spawn(port: int, folder: Path, *more: str) -> asyncio.subprocess.Process:
    common = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    return await asyncio.create_subprocess_exec(
        *tethered([*common, *more]),
        stdout=asyncio.subprocess.DEVNULL,
    )


async def in_step(raw: Redis) -> None:
    # Twice: what was written before there was a replica counts as confirmed when one connects,
    # which is up to a second before it takes writes.
    confirmed = 0
    async with asyncio.timeout(10):
        while confirmed < 2:
            try:
                await raw.set("in", "step", ex=1)
                confirmed += await raw.wait(1, 100)
            except RedisError:
                await asyncio.sleep(0.02)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    port = free_port()
    primary = await spawn(port, tmp_path, "--repl-diskless-sync-delay", "0")
    replica = await spawn(free_port(), tmp_path, "--replicaof", "127.0.0.1", str(port))
    url = f"redis://127.0.0.1:{port}"
    try:
        async with Redis.from_url(url, decode_responses=True) as raw:
            await in_step(raw)
        yield Pair(url, replica)
    finally:
        for process in (primary, replica):
            process.kill()
            await process.wait()


def options(pair: Pair) -> RedisOptions:
    # Longer than by default: the machine may be busy, and here that is not the question.
    return RedisOptions(url=pair.primary, replicas_wait=1, replicas_wait_seconds=0.4, deadline_seconds=1.5)


async def test_one_wait_confirms_a_whole_batch(pair: Pair) -> None:
    async with RedisStore(options(pair), SealingKeys.of_this_process()) as store:
        async with Redis.from_url(pair.primary) as raw:
            await raw.config_resetstat()
            keys = [SessionKey("acme", f"s{number}") for number in range(100)]
            await asyncio.gather(*(store.append(key, 1, [LogEntry(1, b"x")]) for key in keys))
            stats = await raw.info("commandstats")
        assert stats["cmdstat_evalsha"]["calls"] == 100
        assert stats["cmdstat_wait"]["calls"] == 1
        assert store.durability is Durability.REPLICATED


async def test_what_no_replica_confirms_is_not_called_stored(pair: Pair) -> None:
    async with RedisStore(options(pair), SealingKeys.of_this_process()) as store:
        await store.append(KEY, 1, [LogEntry(1, b"x")])
        pair.replica.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(StoreError, match="too few replicas") as raised:
                await store.append(KEY, 1, [LogEntry(2, b"x")])
            assert raised.value.reason is Reason.STORE_UNAVAILABLE
            assert store.degraded
            assert store.durability.name == "NONE"
            # It is written all the same, for the replica may never come back.
            assert len(await store.read(KEY)) == 2
            # A new connection has written nothing that it could wait for; a retry must make it.
            async with Redis.from_url(pair.primary) as raw:
                await raw.client_kill_filter(_type="normal", skipme=True)
            await reconnected(store)
            with pytest.raises(StoreError, match="too few replicas"):
                await store.append(KEY, 1, [LogEntry(2, b"x")])
        finally:
            os.kill(pair.replica.pid, signal.SIGCONT)
        await confirmed(store, [LogEntry(2, b"x")])
        assert store.durability.name == "REPLICATED"
        assert len(await store.read(KEY)) == 2


async def reconnected(store: RedisStore) -> None:
    """Wait for an answer on a new connection; reads need no replica."""
    async with asyncio.timeout(5):
        while True:
            try:
                await store.read(KEY)
            except StoreError:
                await asyncio.sleep(0.01)
            else:
                return


async def confirmed(store: RedisStore, entries: list[LogEntry]) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await store.append(KEY, 1, entries)
            except StoreError:
                await asyncio.sleep(0.01)
            else:
                return
