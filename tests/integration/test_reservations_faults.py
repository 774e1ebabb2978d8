"""A server that hangs or is gone: whoever asks about a reservation hears so in time."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.core.errors import Reason, StoreError
from gateway.store.embedded import EmbeddedValkey
from gateway.store.options import RedisOptions
from gateway.store.redis_store import RedisStore
from gateway.store.reservations import DEADLINE_SECONDS, RedisReservations
from gateway.store.sealing_keys import SealingKeys

# What a busy machine may add.
SLACK_SECONDS = 0.25
QUESTIONS: dict[str, Callable[[RedisReservations], Awaitable[object]]] = {
    "add": lambda book: book.add("l1", 30),
    "renew": lambda book: book.renew("l1", 30),
    "take": lambda book: book.take("l1"),
    "living": lambda book: book.living([str(number) for number in range(2000)]),
}


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey() as server:
        yield server


@pytest.fixture
async def book(server: EmbeddedValkey) -> AsyncIterator[RedisReservations]:
    # The writer alone would wait for longer.
    options = RedisOptions(url=server.url, deadline_seconds=5)
    async with RedisStore(options, SealingKeys.of_this_process()) as store:
        yield RedisReservations(store.writer)


async def test_a_frozen_server_is_given_up_in_time(server: EmbeddedValkey, book: RedisReservations) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        outcomes = await asyncio.gather(*(ask(book) for ask in QUESTIONS.values()), return_exceptions=True)
        assert time.monotonic() - started < DEADLINE_SECONDS + SLACK_SECONDS
    finally:
        os.kill(server.pid, signal.SIGCONT)
    reasons = {error.reason for error in outcomes if isinstance(error, StoreError)}
    assert (len(outcomes), reasons) == (4, {Reason.STORE_UNAVAILABLE})


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_dead_server_is_reported(server: EmbeddedValkey, book: RedisReservations, name: str) -> None:
    os.kill(server.pid, signal.SIGKILL)
    await server.ended()
    with pytest.raises(StoreError) as raised:
        await QUESTIONS[name](book)
    assert raised.value.reason is Reason.STORE_UNAVAILABLE
