"""Group commit and its bounds: many callers, one writer, one connection."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from gateway.core.errors import Reason, StoreError
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.embedded import EmbeddedValkey
from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from gateway.store.sealing_keys import SealingKeys


class Observed:
    """Counts what the store tells."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()
        self.states: list[bool] = []

    def command(self, name: str, seconds: float) -> None:
        assert 0 <= seconds < 1
        self.commands[name] += 1

    def degraded(self, degraded: bool) -> None:  # noqa: FBT001
        self.states.append(degraded)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey() as server:
        yield server


def session(number: int) -> SessionKey:
    return SessionKey("acme", f"s{number}")


async def test_appends_of_many_sessions_share_one_pipeline(server: EmbeddedValkey) -> None:
    observed = Observed()
    options = RedisOptions(url=server.url)
    async with RedisStore(options, SealingKeys.of_this_process(), observed) as store:
        entry = [LogEntry(1, b"x")]
        await asyncio.gather(*(store.append(session(n), 1, entry) for n in range(200)))
        assert observed.commands["append"] == 1
        async with Redis.from_url(server.url) as raw:
            stats = await raw.info("commandstats")
        assert stats["cmdstat_evalsha"]["calls"] == 200
        for number in range(200):
            assert await store.read(session(number)) == entry
    assert observed.states == [False]


async def test_a_batch_is_bounded_in_bytes(server: EmbeddedValkey) -> None:
    observed = Observed()
    options = RedisOptions(url=server.url, batch_max_bytes=10_000)
    async with RedisStore(options, SealingKeys.of_this_process(), observed) as store:
        entry = [LogEntry(1, bytes(4000))]
        await asyncio.gather(*(store.append(session(n), 1, entry) for n in range(10)))
    assert observed.commands["append"] == 5


async def test_past_the_bound_appends_are_refused_at_once_and_the_rest_is_stored(
    server: EmbeddedValkey,
) -> None:
    options = RedisOptions(url=server.url, session_max_bytes=4096, pending_max_bytes=8192)
    async with RedisStore(options, SealingKeys.of_this_process()) as store:
        entry = [LogEntry(1, bytes(1000))]
        outcomes = await asyncio.gather(
            *(store.append(session(n), 1, entry) for n in range(20)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, StoreError)]
        assert all(isinstance(each, int) for each in outcomes[:5])
        assert len(refused) == 15
        assert {error.reason for error in refused} == {Reason.STORE_UNAVAILABLE}
        await store.append(session(50), 1, entry)


async def test_each_caller_hears_its_own_outcome(server: EmbeddedValkey) -> None:
    async with RedisStore(RedisOptions(url=server.url), SealingKeys.of_this_process()) as store:
        await store.append(session(0), 9, [LogEntry(1, b"x")])
        outcomes = await asyncio.gather(
            store.append(session(0), 1, [LogEntry(2, b"x")]),
            store.append(session(1), 1, [LogEntry(1, b"x")]),
            store.append(session(2), 1, [LogEntry(5, b"x")]),
            return_exceptions=True,
        )
        reasons = [getattr(outcome, "reason", None) for outcome in outcomes]
        assert reasons == [Reason.SUPERSEDED, None, Reason.STORE_UNAVAILABLE]
        assert not store.degraded


async def test_cancelled_callers_never_get_each_other_s_answers(server: EmbeddedValkey) -> None:
    rng = random.Random(14)
    async with RedisStore(RedisOptions(url=server.url), SealingKeys.of_this_process()) as store:

        async def talk(number: int) -> None:
            payload = f"session {number}".encode()
            for seq in range(1, 20):
                writing = asyncio.create_task(store.append(session(number), 1, [LogEntry(seq, payload)]))
                for _ in range(rng.randrange(4)):
                    await asyncio.sleep(0)
                if rng.random() < 0.5:
                    writing.cancel()
                await asyncio.wait({writing})
                if writing.cancelled():
                    await store.append(session(number), 1, [LogEntry(seq, payload)])
            read = await store.read(session(number))
            assert read == [LogEntry(seq, payload) for seq in range(1, 20)]

        await asyncio.gather(*(talk(number) for number in range(40)))
        assert not store.degraded


async def test_stopping_leaves_nobody_waiting_and_no_connection(server: EmbeddedValkey) -> None:
    store = RedisStore(RedisOptions(url=server.url), SealingKeys.of_this_process())
    await store.start()
    waiting = [asyncio.create_task(store.append(session(n), 1, [LogEntry(1, b"x")])) for n in range(9)]
    await asyncio.sleep(0)
    await store.stop()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, int | StoreError)
    with pytest.raises(StoreError):
        await store.append(session(1), 1, [LogEntry(1, b"x")])
    async with Redis.from_url(server.url) as raw, asyncio.timeout(2):
        while len(await raw.client_list()) > 1:  # noqa: ASYNC110 - the server's view has no event
            await asyncio.sleep(0.01)
    await store.stop()
