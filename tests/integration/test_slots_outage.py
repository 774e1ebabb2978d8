"""Redis is killed, comes back empty, or forgets everything, under load: nobody within its part is refused,
and together the gateways never hold more than the cap."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from gateway.core.errors import CapacityError
from gateway.store.embedded import EmbeddedValkey
from gateway.store.options import RedisOptions, SlotsOptions
from gateway.store.slots import RedisSlots
from gateway.telemetry.redaction import FIELDS
from tests.support.slots import (
    ACCOUNT,
    LEASED,
    SPARE,
    WARM,
    account,
    attempt,
    figures,
    gateway,
    gateways,
    refused,
    settled,
    take,
    total,
    wire,
)
from tests.support.waiting import eventually

CAP = 30
OPTIONS = SlotsOptions(heartbeat_seconds=0.4)
AWAY_SECONDS = 2.0


def patient(server: EmbeddedValkey) -> RedisOptions:
    return RedisOptions(url=server.url, probe_max_seconds=0.2, deadline_seconds=1)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey() as server:
        yield server


@dataclass
class Load:
    """Callers at several gateways, each of which takes a place, keeps it for a while and gives it back."""

    each: list[RedisSlots]
    # How many places a gateway's callers want at once.
    callers: list[int]
    acquired: int = 0
    alone: int = 0
    highest: int = 0
    highest_of: list[int] = field(default_factory=list)
    errors: list[CapacityError] = field(default_factory=list)
    _enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def caller(self, at: int, rng: Random) -> None:
        slots = self.each[at]
        while not self._enough.is_set():
            outcome = await attempt(slots, LEASED)
            totals = list(map(total, self.each))
            self.highest = max(self.highest, sum(totals))
            self.highest_of = list(map(max, self.highest_of or totals, totals))
            if isinstance(outcome, CapacityError):
                self.errors.append(outcome)
                await asyncio.sleep(rng.uniform(0.02, 0.06))
                continue
            self.acquired += 1
            self.alone += slots.degraded
            await asyncio.sleep(rng.uniform(0, 0.1))
            slots.release(ACCOUNT, LEASED)

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self.caller(at, Random(100 * at + number)))
            for at, count in enumerate(self.callers)
            for number in range(count)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._enough.set()
        await asyncio.gather(*self._tasks)


async def killed(server: EmbeddedValkey) -> None:
    os.kill(server.pid, signal.SIGKILL)
    await server.ended()


async def all_are(each: list[RedisSlots], *, degraded: bool) -> None:
    await eventually(lambda: all(slots.degraded is degraded for slots in each), f"degraded: {degraded}")


async def whole_again(each: list[RedisSlots]) -> None:
    """Wait until everybody has reported and the rejoin window is over."""
    for slots in each:
        places = slots._accounts[ACCOUNT]
        before = places._known
        await eventually(lambda p=places, b=before: p._known is not b, "a view that is whole")  # type: ignore[misc]


async def test_a_killed_and_emptied_redis_refuses_nobody_within_its_part(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 3, account(CAP), OPTIONS) as each:
        # Two places are kept for recovery while Redis decides.
        part = (CAP - 2) // 3
        async with Load(each, [part] * 3) as load:
            await asyncio.sleep(1)
            await killed(server)
            await all_are(each, degraded=True)
            await asyncio.sleep(AWAY_SECONDS)
            await server.start()
            await all_are(each, degraded=False)
            await asyncio.sleep(OPTIONS.rejoin_seconds + 1)
        figures(
            "outage", refused=len(load.errors), acquired=load.acquired, alone=load.alone, highest=load.highest, cap=CAP
        )
        assert load.errors == []
        assert load.highest <= CAP
        assert load.alone > 100
        await take(each[0], LEASED, 3)
        await settled(each)


async def test_whoever_is_above_its_part_keeps_it_and_the_others_share_the_rest(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 3, account(CAP), OPTIONS) as each:
        await take(each[0], LEASED, 16)
        await take(each[1], WARM, 4)
        await settled(each)
        await killed(server)
        await all_are(each, degraded=True)
        assert [slots.allowed(ACCOUNT) for slots in each] == [16, 7, 7]
        # Everybody wants everything, while Redis is away, when it is back, and ever after.
        async with Load(each, [20, 20, 20]) as load:
            await asyncio.sleep(AWAY_SECONDS / 2)
            assert load.highest_of == [16, 7, 7]
            await server.start()
            await all_are(each, degraded=False)
            await whole_again(each)
            await asyncio.sleep(0.5)
        figures("greedy outage", highest=load.highest, cap=CAP, acquired=load.acquired, refused=len(load.errors))
        assert load.highest <= CAP
        assert load.highest_of[0] >= 16
        assert list(map(total, each)) == [16, 4, 0]
        await settled(each)


async def test_whoever_reaches_redis_first_does_not_take_what_others_hold(
    server: EmbeddedValkey, tmp_path: Path
) -> None:
    async with (
        wire(server.url, tmp_path) as cable,
        gateway(cable.url, account(CAP), OPTIONS, 1) as late,
        gateway(server.url, account(CAP), OPTIONS, 2) as early,
    ):
        each = [late, early]
        await settled(each)
        await take(late, LEASED, 20)
        await settled(each)
        await killed(server)
        await all_are(each, degraded=True)
        cable.up.clear()
        await server.start()
        async with Load(each, [0, 30]) as load:
            await all_are([early], degraded=False)
            # Redis knows of one gateway alone, which wants everything.
            assert (view := early.views()[ACCOUNT]) is not None
            assert view.live == 1
            acquired = load.acquired
            await eventually(lambda: load.acquired > acquired + 30, "places come and go")
            cable.up.set()
            await all_are([late], degraded=False)
            await whole_again(each)
        figures("late", highest=load.highest, cap=CAP)
        assert load.highest <= CAP
        await settled(each)


async def test_a_redis_that_forgets_everything_in_flight_refuses_nobody_within_its_part(
    server: EmbeddedValkey,
) -> None:
    async with gateways(server.url, 3, account(CAP), OPTIONS) as each, Redis.from_url(server.url) as raw:
        async with Load(each, [(CAP - 2) // 3] * 3) as load:
            for _ in range(5):
                await asyncio.sleep(0.5)
                await raw.flushall()
        figures("flushed", refused=len(load.errors), acquired=load.acquired, highest=load.highest, cap=CAP)
        assert load.errors == []
        assert load.highest <= CAP
        await settled(each)


async def test_a_redis_that_forgets_everything_does_not_open_the_cap(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 3, account(CAP), OPTIONS) as each, Redis.from_url(server.url) as raw:
        await take(each[0], LEASED, 16)
        await take(each[1], WARM, 4)
        await settled(each)
        async with Load(each, [20, 0, 20]) as load:
            for _ in range(3):
                await asyncio.sleep(0.3)
                await raw.flushall()
            await whole_again(each)
        figures("flushed, greedy", highest=load.highest, cap=CAP, refused=len(load.errors))
        assert load.highest <= CAP
        await settled(each)


async def test_a_server_that_hangs_does_not_make_an_acquire_wait(server: EmbeddedValkey) -> None:
    # The writer alone would wait for longer.
    async with (
        gateway(server.url, account(CAP), OPTIONS, 1, redis=patient(server)) as a,
        gateway(server.url, account(CAP), OPTIONS, 2, redis=patient(server)) as b,
    ):
        each = [a, b]
        await settled(each)
        loop, seconds = asyncio.get_running_loop(), list[float]()

        async def timed(slots: RedisSlots) -> None:
            started = loop.time()
            await slots.acquire(ACCOUNT, LEASED)
            seconds.append(loop.time() - started)

        os.kill(server.pid, signal.SIGSTOP)
        try:
            # One whose call hangs, and those who come while it does.
            async with asyncio.TaskGroup() as group:
                for slots in each:
                    group.create_task(timed(slots))
                for _ in range(5):
                    await asyncio.sleep(0)
                for slots in each * 5:
                    group.create_task(timed(slots))
            slowest = max(seconds)
            await all_are(each, degraded=True)
            await eventually(
                lambda: all(s._accounts[ACCOUNT]._setting.writer.degraded for s in each), "known to be gone"
            )
            seconds.clear()
            await asyncio.gather(*(timed(slots) for slots in each for _ in range(3)))
        finally:
            os.kill(server.pid, signal.SIGCONT)
        figures("hung", slowest_ms=round(slowest * 1000), slowest_once_known_ms=round(max(seconds) * 1000))
        assert slowest < 0.3 + 0.15
        assert max(seconds) < 0.1
        assert list(map(total, each)) == [9, 9]
        # What the frozen server still had in its buffers counts for nothing.
        await all_are(each, degraded=False)
        await settled(each)


@pytest.mark.parametrize(("assumed", "allowed"), [(4, 7), (1, 30)])
async def test_a_gateway_that_never_reached_redis_takes_a_careful_part(assumed: int, allowed: int) -> None:
    options = SlotsOptions(heartbeat_seconds=0.4, gateways_assumed=assumed)
    async with EmbeddedValkey() as server:
        await killed(server)
        async with gateway(server.url, account(CAP), options) as slots:
            assert slots.degraded
            await take(slots, SPARE, allowed)
            error = await refused(slots, LEASED)
            assert error.numbers is not None
            assert error.numbers.total == allowed
            # It may use again what it gives back.
            slots.release(ACCOUNT, SPARE)
            await take(slots, WARM)


async def test_dials_without_redis_stay_within_this_gateway_s_part(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 4, account(CAP * 100, 8, 8), OPTIONS) as each:
        await killed(server)
        await all_are(each, degraded=True)
        outcomes = [await attempt(each[0], SPARE) for _ in range(20)]
        delays = [outcome for outcome in outcomes if not isinstance(outcome, CapacityError)]
        # Two a second, two seconds ahead; the burst counts as used, for nobody knows what the others dialled.
        assert 3 <= len(delays) <= 4
        assert delays == pytest.approx([0.5, 1.0, 1.5, 2.0][: len(delays)], abs=0.3)


async def test_dials_stay_within_rate_and_burst_over_an_outage(server: EmbeddedValkey) -> None:
    rate, burst, starts, enough = 20, 20, list[float](), asyncio.Event()
    async with gateways(server.url, 3, account(100_000, rate, burst), OPTIONS) as each:
        loop, rng = asyncio.get_running_loop(), Random(4)

        async def hammer(slots: RedisSlots) -> None:
            while not enough.is_set():
                called = loop.time()
                outcome = await attempt(slots, rng.choice([LEASED, SPARE, WARM]))
                if isinstance(outcome, CapacityError):
                    await asyncio.sleep(0.01)
                else:
                    starts.append(called + outcome)

        tasks = [asyncio.create_task(hammer(slots)) for slots in each for _ in range(2)]
        await asyncio.sleep(1)
        await killed(server)
        await all_are(each, degraded=True)
        alone_from, alone_at = loop.time(), len(starts)
        await asyncio.sleep(AWAY_SECONDS)
        alone_seconds, alone = loop.time() - alone_from, len(starts) - alone_at
        await server.start()
        await whole_again(each)
        enough.set()
        await asyncio.gather(*tasks)
    starts.sort()
    # As in the test without an outage: a start is known up to the length of a call.
    most = max(sum(start <= other < start + 0.95 for other in starts) for start in starts)
    figures("dials over an outage", most_in_a_second=most, bound=rate + burst, n=len(starts), alone=alone)
    assert most <= rate + burst
    assert alone > alone_seconds * rate / 3


async def test_a_place_that_no_replica_knows_of_counts_only_within_this_gateway_s_part(server: EmbeddedValkey) -> None:
    redis = RedisOptions(url=server.url, replicas_wait=1, replicas_wait_seconds=0.02)
    async with (
        gateway(server.url, account(6), OPTIONS, 1, redis=redis) as a,
        gateway(server.url, account(6), OPTIONS, 2, redis=redis) as b,
    ):
        await settled([a, b])
        await take(a, LEASED, 3)
        await refused(a, LEASED)
        await take(b, SPARE, 3)
        assert not a.degraded
        await settled([a, b])


async def test_an_outage_is_logged_once_with_fields_that_may_stand_there(server: EmbeddedValkey) -> None:
    with capture_logs() as logged:
        async with gateway(server.url, account(CAP), OPTIONS) as slots:
            await killed(server)
            await take(slots, LEASED, 3)
            await server.start()
            await all_are([slots], degraded=False)
    ours = [line for line in logged if line["event"].startswith("slots_")]
    assert [line["event"] for line in ours] == ["slots_degraded", "slots_restored"]
    for line in ours:
        assert set(line) - {"log_level"} <= set(FIELDS)
        assert line["account"] == ACCOUNT


async def test_calls_go_on_whatever_happens_to_redis(server: EmbeddedValkey) -> None:
    def never() -> None:
        pytest.fail("a line was to be closed")

    quick = SlotsOptions(ttl_seconds=1.0, heartbeat_seconds=0.2)
    async with gateway(server.url, account(CAP), quick, on_fenced=never) as slots:
        await take(slots, LEASED, 3)
        os.kill(server.pid, signal.SIGSTOP)
        # Longer than its entry lives.
        await asyncio.sleep(1.5)
        os.kill(server.pid, signal.SIGCONT)
        await all_are([slots], degraded=False)
        assert total(slots) == 3
        await settled([slots])
