"""One gateway's mishaps: an answer that is lost or late, a process that stands still."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.core.errors import CapacityError
from gateway.store.embedded import EmbeddedValkey
from gateway.store.options import RedisOptions, SlotsOptions
from gateway.store.redis_store import RedisStore
from gateway.store.sealing_keys import SealingKeys
from gateway.store.slots import RedisSlots
from gateway.telemetry.redaction import FIELDS
from tests.support.slots import (
    ACCOUNT,
    LEASED,
    QUICK,
    SPARE,
    WARM,
    account,
    attempt,
    gateway,
    settled,
    take,
    total,
    wire,
)
from tests.support.waiting import eventually

KINDS = (LEASED, WARM, SPARE)


def patient(server: EmbeddedValkey) -> RedisOptions:
    return RedisOptions(url=server.url, probe_max_seconds=0.2, deadline_seconds=1)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey() as server:
        yield server


async def test_an_answer_that_is_lost_leaks_no_place_and_frees_none(server: EmbeddedValkey, tmp_path: Path) -> None:
    async with (
        wire(server.url, tmp_path) as cable,
        gateway(cable.url, account(12), SlotsOptions(heartbeat_seconds=0.4), seed=1) as cut_off,
        gateway(server.url, account(12), SlotsOptions(heartbeat_seconds=0.4), seed=2) as other,
        Redis.from_url(server.url) as raw,
    ):
        await settled([cut_off, other])
        for kind in KINDS:
            cable.answers.clear()
            cable.swallowed.clear()
            asking = asyncio.create_task(attempt(cut_off, kind))
            async with asyncio.timeout(2):
                # Redis has granted it; nobody here will ever hear of it.
                await cable.swallowed.wait()
            cable.cut()
            cable.answers.set()
            # Decided here, within its part; whatever Redis thinks is put right by the next report.
            assert isinstance(await asking, float)
            await eventually(lambda: not cut_off.degraded, "it is back")
            await settled([cut_off, other])
        assert cut_off.held(ACCOUNT) == dict.fromkeys(KINDS, 1)
        counts = await raw.hvals("trunkline:{account:main}:counts")
        assert sorted(each.split()[:3] for each in counts) == [[b"0"] * 3, [b"1"] * 3]


async def test_an_answer_that_comes_after_its_asker_went_leaks_no_place(server: EmbeddedValkey, tmp_path: Path) -> None:
    async with wire(server.url, tmp_path) as cable, gateway(cable.url, account(12)) as slots:
        await settled([slots])
        for _ in range(3):
            cable.answers.clear()
            cable.swallowed.clear()
            asking = asyncio.create_task(attempt(slots, LEASED))
            async with asyncio.timeout(2):
                await cable.swallowed.wait()
            asking.cancel()
            await asyncio.wait({asking})
            assert asking.cancelled()
            before = cable.connections
            cable.cut()
            cable.answers.set()
            await eventually(lambda b=before: cable.connections > b and not slots.degraded, "it is back")  # type: ignore[misc]
        assert total(slots) == 0
        await settled([slots])


async def test_a_process_that_stood_still_closes_its_lines_and_is_somebody_new(server: EmbeddedValkey) -> None:
    fenced, names = asyncio.Event(), list[str]()
    async with gateway(server.url, account(7), seed=1) as slots, gateway(server.url, account(7), seed=2) as other:
        await settled([slots, other])
        await take(slots, LEASED, 3)
        before = slots.gateway_id

        def on_fenced() -> None:
            names.append(slots.gateway_id)
            slots.release(ACCOUNT, LEASED)
            fenced.set()

        slots.on_fenced = on_fenced
        with capture_logs() as logged:
            time.sleep(QUICK.frozen_seconds + 0.1)  # noqa: ASYNC251 - the loop is to stand still
            async with asyncio.timeout(1):
                await fenced.wait()
        # Both stood still: they live in one process here.
        assert [line["event"] for line in logged] == ["slots_fenced"] * 2
        assert all(set(line) - {"log_level"} <= set(FIELDS) for line in logged)
        assert names == [before]
        assert slots.gateway_id != before
        assert total(slots) == 2
        await eventually(
            lambda: (view := other.views()[ACCOUNT]) is not None and view.live == 2, "the old name is gone"
        )
        await settled([slots, other])
        slots.release(ACCOUNT, LEASED)
        slots.release(ACCOUNT, LEASED)
        await settled([slots, other])


async def test_who_asked_before_a_standstill_gets_nothing_on_old_knowledge(server: EmbeddedValkey) -> None:
    fenced = list[int]()
    # The writer alone would notice nothing for longer.
    async with gateway(server.url, account(7), redis=patient(server)) as slots:
        await settled([slots])
        await take(slots, LEASED, 3)
        slots.on_fenced = lambda: fenced.append(total(slots))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            asking = asyncio.create_task(attempt(slots, LEASED))
            for _ in range(5):
                await asyncio.sleep(0)
            time.sleep(QUICK.frozen_seconds + 0.1)  # noqa: ASYNC251 - the loop is to stand still
            outcome = await asking
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert fenced == [3]
        assert isinstance(outcome, CapacityError)
        assert total(slots) == 3


async def test_a_shorter_standstill_is_none(server: EmbeddedValkey) -> None:
    async with gateway(server.url, account(7)) as slots:
        await settled([slots])
        await take(slots, LEASED, 3)
        slots.on_fenced = lambda: pytest.fail("fenced")
        time.sleep(QUICK.frozen_seconds * 0.6)  # noqa: ASYNC251 - the loop is to stand still
        await take(slots, LEASED)
        await settled([slots])


async def test_a_gateway_whose_lines_cannot_be_closed_still_reports(server: EmbeddedValkey) -> None:
    heard = list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
    problem = RuntimeError("a bug")

    def on_fenced() -> None:
        raise problem

    async with gateway(server.url, account(7), on_fenced=on_fenced) as slots:
        await settled([slots])
        await take(slots, LEASED, 3)
        time.sleep(QUICK.frozen_seconds + 0.1)  # noqa: ASYNC251 - the loop is to stand still
        await eventually(lambda: heard == [problem], "the problem is told")
        await settled([slots])


async def test_a_start_that_is_cancelled_leaves_nothing_behind(server: EmbeddedValkey) -> None:
    before = asyncio.all_tasks()
    async with RedisStore(RedisOptions(url=server.url), SealingKeys.of_this_process()) as store:
        slots = RedisSlots(store.writer, {ACCOUNT: account(7)})
        starting = asyncio.create_task(slots.start())
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait({starting})
        assert starting.cancelled()
    assert asyncio.all_tasks() == before
