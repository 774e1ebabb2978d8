"""Several gateways, one account, a real server that is well: places, turns, what is called back."""

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random
from statistics import quantiles

import pytest
from redis.asyncio import Redis

from gateway.core.errors import CapacityError, Reason
from gateway.runtime.ports import SlotKind, Slots
from gateway.store.embedded import EmbeddedValkey
from gateway.store.held import OverReleaseError
from gateway.store.options import SlotsOptions
from tests.support.slots import (
    ACCOUNT,
    LEASED,
    QUICK,
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
)
from tests.support.waiting import eventually

ALONE = SlotsOptions(gateways_assumed=1)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey() as server:
        yield server


async def test_it_is_the_port(server: EmbeddedValkey) -> None:
    async with gateway(server.url, account(4), ALONE) as slots:
        port: Slots = slots
        assert await port.acquire(ACCOUNT, LEASED) == 0
        port.change(ACCOUNT, LEASED, SPARE)
        port.release(ACCOUNT, SPARE)
        assert total(slots) == 0
        assert not slots.degraded


async def test_concurrent_acquires_of_many_gateways_share_the_cap_exactly(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 3, account(7)) as each:
        outcomes = await asyncio.gather(
            *(slots.acquire(ACCOUNT, LEASED) for slots in each for _ in range(7)), return_exceptions=True
        )
        assert outcomes.count(0.0) == 7
        errors = [error for error in outcomes if isinstance(error, CapacityError)]
        assert {error.reason for error in errors} == {Reason.POOL_EXHAUSTED}
        assert sum(map(total, each)) == 7
        await settled(each)


async def test_a_refusal_carries_the_account_s_numbers(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 2, account(7)) as (a, b):
        await take(a, LEASED, 4)
        await take(b, LEASED, 3)
        error = await refused(b, LEASED)
        assert error.reason is Reason.POOL_EXHAUSTED
        assert error.numbers is not None
        assert (error.numbers.scope, error.numbers.pool) == ("account", ACCOUNT)
        assert (error.numbers.total, error.numbers.leased, error.numbers.warm) == (7, 7, 0)
        assert error.retry_after_seconds is not None
        assert 0.1 <= error.retry_after_seconds <= 1.0


async def test_places_for_recovery_are_kept(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 2, account(10)) as (a, b):
        await take(a, LEASED, 4)
        await take(b, WARM, 4)
        assert (await refused(a, LEASED)).reason is Reason.POOL_EXHAUSTED
        assert (await refused(b, WARM)).reason is Reason.POOL_EXHAUSTED
        await take(a, SPARE, 2)
        assert (await refused(b, SPARE)).reason is Reason.POOL_EXHAUSTED


async def test_a_caller_gets_the_place_that_another_gateway_s_warm_line_gives_back(server: EmbeddedValkey) -> None:
    # The times of production, but for the jitter that would make the figure one of chance.
    options = SlotsOptions(heartbeat_jitter=0)
    async with gateways(server.url, 3, account(7), options) as (a, b, c):
        await take(c, WARM, 5)
        await take(b, WARM, 2)

        def close_lines(name: str, count: int) -> None:
            for _ in range(count):
                asyncio.get_running_loop().call_later(0.02, c.release, name, WARM)

        c.on_recall = close_lines
        b.on_recall = lambda *_: pytest.fail("the one with fewer warm lines was asked")
        started, tries = time.monotonic(), 0
        while isinstance(error := await attempt(a, LEASED), CapacityError):
            tries += 1
            assert error.retry_after_seconds is not None
            assert 0.1 <= error.retry_after_seconds <= 0.25
            await asyncio.sleep(error.retry_after_seconds)
        seconds = time.monotonic() - started
        figures("recall", seconds=round(seconds, 3), tries=tries)
        assert tries > 0
        assert seconds < 1.5
        # One line, although the caller asked several times.
        assert c.held(ACCOUNT)[WARM] == 4
        await settled([a, b, c])


async def test_dials_of_four_gateways_stay_within_rate_and_burst(server: EmbeddedValkey) -> None:
    rate, burst, starts, slowest = 30, 10, list[float](), 0.0
    ends_at = time.monotonic() + 3
    rng = Random(5)

    async with gateways(server.url, 4, account(100_000, rate, burst)) as each:

        async def hammer(at: int) -> None:
            nonlocal slowest
            while (called := time.monotonic()) < ends_at:
                outcome = await attempt(each[at], rng.choice(list(SlotKind)))
                if isinstance(outcome, CapacityError):
                    assert outcome.reason is Reason.RATE_LIMITED
                    await asyncio.sleep(0.01)
                else:
                    starts.append(called + outcome)
                slowest = max(slowest, time.monotonic() - called)

        await asyncio.gather(*(hammer(at) for at in range(4) for _ in range(3)))
        assert not any(slots.degraded for slots in each)
    starts.sort()
    # Between call and decision lies up to a round trip: so much may shift a start against another.
    window = 1 - slowest
    most = max(sum(start <= other < start + window for other in starts) for start in starts)
    figures("dials", most_in_a_second=most, bound=rate + burst, n=len(starts), slowest_ms=round(slowest * 1000))
    assert slowest < 0.3
    assert most <= rate + burst
    assert len(starts) > 3 * rate


async def test_recovery_is_served_while_refill_is_refused(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 2, account(1000, 10, 20)) as (a, b):
        while not isinstance(outcome := await attempt(a, WARM), CapacityError):
            assert outcome <= 1
        assert outcome.reason is Reason.RATE_LIMITED
        error = await refused(b, WARM)
        assert error.reason is Reason.RATE_LIMITED
        assert error.retry_after_seconds is not None
        assert await b.acquire(ACCOUNT, SPARE) < 0.2
        assert await b.acquire(ACCOUNT, LEASED) < 0.7


async def test_what_comes_back_in_a_row_is_told_together(server: EmbeddedValkey) -> None:
    options = SlotsOptions(gateways_assumed=1)
    async with gateway(server.url, account(200), options) as slots, Redis.from_url(server.url) as raw:
        await take(slots, LEASED, 100)
        await raw.config_resetstat()
        for _ in range(100):
            slots.release(ACCOUNT, LEASED)
        await eventually(lambda: (view := slots.views()[ACCOUNT]) is not None and view.total == 0, "told")
        stats = await raw.info("commandstats")
        assert stats["cmdstat_evalsha"]["calls"] <= 3


async def test_a_gateway_that_stops_holding_nothing_is_gone_at_once(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 2, account(7)) as (a, _):
        async with gateway(server.url, account(7)) as passing:
            await eventually(lambda: (view := a.views()[ACCOUNT]) is not None and view.live == 3, "it is seen")
            await take(passing, WARM)
            passing.release(ACCOUNT, WARM)
        left = time.monotonic()
        await eventually(lambda: (view := a.views()[ACCOUNT]) is not None and view.live == 2, "it is gone")
        assert time.monotonic() - left < QUICK.ttl_seconds * 0.6


async def test_a_place_given_back_twice_is_a_bug(server: EmbeddedValkey) -> None:
    async with gateway(server.url, account(4), ALONE) as slots:
        await take(slots, LEASED)
        with pytest.raises(OverReleaseError, match="warm"):
            slots.change(ACCOUNT, WARM, LEASED)
        slots.release(ACCOUNT, LEASED)
        with pytest.raises(AssertionError):
            slots.release(ACCOUNT, LEASED)
        assert total(slots) == 0


async def test_a_cancelled_acquire_takes_nothing_whenever_it_is_cancelled(server: EmbeddedValkey) -> None:
    rng = Random(11)
    async with gateway(server.url, account(1000), ALONE) as slots:
        kept = 0
        for _ in range(300):
            asking = asyncio.create_task(slots.acquire(ACCOUNT, rng.choice(list(SlotKind))))
            await asyncio.sleep(rng.choice([0, 0, 0.0001, 0.0003, 0.0006]))
            asking.cancel()
            await asyncio.wait({asking})
            kept += not asking.cancelled()
        assert 0 < kept < 300
        assert total(slots) == kept
        await settled([slots])


async def test_the_price_of_a_place(server: EmbeddedValkey) -> None:
    async with gateways(server.url, 4, account(40)) as each:
        slots, seconds = each[0], list[float]()
        for _ in range(1000):
            started = time.perf_counter()
            await slots.acquire(ACCOUNT, LEASED)
            seconds.append(time.perf_counter() - started)
            slots.release(ACCOUNT, LEASED)
        cuts = [round(cut * 1e6) for cut in quantiles(seconds, n=100)]
        figures("acquire, one at a time", n=len(seconds), p50_us=cuts[49], p99_us=cuts[98])
        assert cuts[49] < 20_000
