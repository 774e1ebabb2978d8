"""Sealing keys are rotated: the first one seals, all of them open, and one that is gone opens nothing."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import session_pb2_grpc
from trunkline.v1 import types_pb2 as types

from tests.support.calls import SECONDS, Caller, refusal_of
from tests.support.processes import on_linux
from tests.support.redis_server import RedisServer, plain_redis
from tests.support.reloading import Reloading, reloading
from tests.support.simulated import simulated_provider
from tests.support.stack import channel_to, pool
from tests.support.steering import Reserver
from tests.support.waiting import eventually

pytestmark = on_linux

KEYS: Final = {"k1": bytes(range(32)), "k2": bytes(range(1, 33)).hex().encode() + b"\n"}


@dataclass
class Stand:
    """A gateway whose records stand in a Redis that the test can look into."""

    gateway: Reloading
    redis: RedisServer
    channel: grpc.aio.Channel
    folder: Path

    def ring(self, *names: str) -> dict[str, Any]:
        """Return the section with these keys, the first of which seals."""
        keys = []
        for name in names:
            file = self.folder / name
            if not file.exists():
                file.write_bytes(KEYS[name])
            keys.append({"id": name, "file": str(file)})
        return {"sealing_keys": keys, "retention_seconds": 60}

    async def stored(self, session_id: str) -> session.GetSessionResponse:
        stub: Any = session_pb2_grpc.SessionServiceStub(self.channel)
        found: session.GetSessionResponse = await stub.GetSession(
            session.GetSessionRequest(session_id=session_id), timeout=SECONDS
        )
        return found

    def sealed_with(self, session_id: str) -> list[str]:
        """Return with which key each record of a session was sealed, oldest first."""
        with self.redis.client() as client:
            (log,) = [key for key in client.scan_iter() if session_id.encode() in key and client.type(key) == b"stream"]
            envelopes = [fields[b"b"] for _, fields in client.xrange(log)]
        return [each[2 : 2 + each[1]].decode() for each in envelopes]


@contextlib.asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        redis = stack.enter_context(plain_redis())
        provider = stack.enter_context(simulated_provider(folder))
        (folder / "k1").write_bytes(KEYS["k1"])
        store = {"sealing_keys": [{"id": "k1", "file": str(folder / "k1")}], "retention_seconds": 60}
        pools = {"default": pool(floor=2, demand={"enabled": False})}
        gateway = stack.enter_context(reloading(provider.url, redis={"url": redis.url}, store=store, pools=pools))
        channel = await stack.enter_async_context(channel_to(gateway.address))
        yield Stand(gateway, redis, channel, folder)


async def says(caller: Caller, words: str) -> None:
    await caller.say(words)
    await caller.answer_please()
    await caller.until("response_done")


def words_of(stored: session.GetSessionResponse) -> list[str]:
    return [item.text for item in stored.items if item.role == 1]


async def test_a_new_first_key_seals_from_then_on_and_the_old_one_still_opens() -> None:
    async with stand() as here:
        caller = Caller(here.channel)
        name = (await caller.open()).session_id
        await says(caller, "Before")
        await here.gateway.follow(store=here.ring("k2", "k1"))
        await says(caller, "After")
        await eventually(lambda: here.sealed_with(name)[-1] == "k2", "the new key seals")
        used = here.sealed_with(name)
        assert used == sorted(used), "first the old one, then the new one"
        assert set(used) == {"k1", "k2"}
        assert words_of(await here.stored(name)) == ["Before", "After"]
        fresh = Caller(here.channel)
        other = (await fresh.open()).session_id
        await says(fresh, "Fresh")
        await fresh.bye()
        await fresh.rest()
        assert set(here.sealed_with(other)) == {"k2"}
        assert words_of(await here.stored(other)) == ["Fresh"]
        caller.cancel()


async def test_a_key_that_is_taken_away_opens_nothing_and_harms_no_session() -> None:
    async with stand() as here:
        caller, reserver = Caller(here.channel), Reserver(here.channel)
        name = (await caller.open()).session_id
        await says(caller, "Before")
        made = await reserver.acquire(ttl_seconds=60)
        await here.gateway.follow(store=here.ring("k2"))
        # What it had sealed is as unknown as if it had never been.
        assert (await Caller(here.channel).refused(lease_token=made.lease_token)).reason == "LEASE_UNKNOWN"
        assert not await reserver.release(made.lease_token)
        await says(caller, "After")
        await eventually(lambda: here.sealed_with(name)[-1] == "k2", "the new key seals")
        fresh = Caller(here.channel)
        other = (await fresh.open(lease_token=(await reserver.acquire()).lease_token)).session_id
        await says(fresh, "Fresh")
        assert words_of(await here.stored(other)) == ["Fresh"]
        await fresh.bye()
        await fresh.rest()
        await caller.bye()
        await caller.rest()
        assert (await caller.status()).code is grpc.StatusCode.OK


async def test_a_session_that_cannot_be_opened_any_more_is_as_unknown_as_one_that_never_was() -> None:
    async with stand() as here:
        caller = Caller(here.channel)
        name = (await caller.open()).session_id
        await says(caller, "Before")
        await caller.bye()
        await caller.rest()
        assert words_of(await here.stored(name)) == ["Before"]
        await here.gateway.follow(store=here.ring("k2"))
        told = []
        for asked in (name, "sess_that_never_was"):
            try:
                await here.stored(asked)
            except grpc.aio.AioRpcError as error:
                told.append((error.code(), error.details(), refusal_of(error).reason))
        assert told == [told[0]] * 2
        assert told[0][2] == "UNKNOWN_SESSION"


@pytest.mark.heavy
async def test_a_known_key_with_another_content_is_refused_and_the_old_one_goes_on() -> None:
    async with stand() as here:
        (here.folder / "k1").write_bytes(bytes(range(2, 34)))
        why = await here.gateway.refused(0)
        assert why == "sealing key k1 has another content: a new key needs a new id"
        await eventually(lambda: here.gateway.configuration() == ("degraded", why), "operators see it")
        caller = Caller(here.channel)
        name = (await caller.open()).session_id
        await says(caller, "Still here")
        assert words_of(await here.stored(name)) == ["Still here"]
        assert set(here.sealed_with(name)) == {"k1"}
        (here.folder / "k1").write_bytes(KEYS["k1"])
        await eventually(lambda: here.gateway.configuration() == ("ok", ""), "all is well again")
        caller.cancel()


async def test_a_key_file_that_is_none_is_refused_without_its_content() -> None:
    async with stand() as here:
        bad = here.folder / "bad"
        bad.write_text("canary-of-a-key-that-is-too-short", "ascii")
        keys = here.ring("k1")
        keys["sealing_keys"].append({"id": "bad", "file": str(bad)})
        here.gateway.write(store=keys)
        why = await here.gateway.refused(0)
        assert f"sealing key bad: {bad} must hold 32 bytes" in why
        assert "canary" not in here.gateway.process.output
        keys["sealing_keys"][1]["id"] = "k1"
        here.gateway.write(store=keys)
        assert "two keys have one id" in await here.gateway.refused(1)
        caller = Caller(here.channel)
        assert (await caller.open()).source == types.LINE_SOURCE_WARM
        caller.cancel()


async def test_the_embedded_store_keeps_its_own_key_whatever_the_file_says() -> None:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        provider = stack.enter_context(simulated_provider(folder))
        (folder / "k1").write_bytes(KEYS["k1"])
        gateway = stack.enter_context(
            reloading(provider.url, store={"sealing_keys": [{"id": "k1", "file": str(folder / "k1")}]})
        )
        channel = await stack.enter_async_context(channel_to(gateway.address))
        made = await Reserver(channel).acquire(ttl_seconds=60)
        await gateway.follow()
        caller = Caller(channel)
        assert (await caller.open(lease_token=made.lease_token)).source == types.LINE_SOURCE_WARM
        caller.cancel()
