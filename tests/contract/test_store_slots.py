"""What slots.lua says, held against real servers: Valkey 9, and Redis 7 where it is."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis

from gateway.core.errors import Reason
from gateway.runtime.ports import SlotKind
from gateway.store.embedded import EmbeddedValkey
from gateway.store.keys import account_keys
from gateway.store.options import AccountSlots, SlotsOptions
from gateway.store.scripts import SLOTS
from gateway.store.slots_call import Denied, Granted, Report, SlotsCall, Statement, parse
from tests.support.redis_server import redis_server
from tests.support.slots import LEASED, SPARE, WARM
from tests.support.tools import tool, where

REDIS = where("redis-server")
OPTIONS = SlotsOptions()
KEYS = account_keys("main")


@pytest.fixture(params=["valkey", "redis"] if REDIS else ["valkey"])
async def raw(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Redis]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "valkey":
            url = (await stack.enter_async_context(EmbeddedValkey())).url
        else:
            url = stack.enter_context(redis_server(tmp_path)).url
        yield await stack.enter_async_context(Redis.from_url(url))


@dataclass
class Gateway:
    """One gateway's side of the protocol, without its tasks."""

    raw: Redis
    name: str
    account: AccountSlots
    options: SlotsOptions = OPTIONS
    held: dict[SlotKind, int] = field(default_factory=lambda: dict.fromkeys(SlotKind, 0))
    # Unless a test is about it, nobody is limited by a rejoin window.
    allowed: int = 1_000_000
    debt_seconds: float = 0.0
    assumed_seconds: float = 0.0
    turn: int = 0
    wants: int = 0

    async def say(self, *kinds: SlotKind, want: str = "", leaves: bool = False, turn: int = 0) -> Report | None:
        """Say what is held and ask; then hold what was granted."""
        self.turn += 1
        self.wants += 1
        asks = [(kind, want or f"{self.name}:{self.wants}:{at}") for at, kind in enumerate(kinds)]
        said = Statement(
            self.name,
            turn or self.turn,
            self.held,
            self.allowed,
            self.debt_seconds,
            self.assumed_seconds,
            asks,
            leaves=leaves,
        )
        job = SlotsCall("main", self.account, self.options).job(said)
        reply = await self.raw.execute_command(*job.in_full)  # type: ignore[no-untyped-call]
        report = parse(reply, sum(self.held.values()))
        if report is not None:
            for kind, verdict in zip(kinds, report.verdicts, strict=True):
                self.held[kind] += isinstance(verdict, Granted)
        return report

    async def asks(self, *kinds: SlotKind, want: str = "") -> list[bool]:
        """Ask, and return which asks were granted."""
        report = await self.say(*kinds, want=want)
        assert report is not None
        return [isinstance(verdict, Granted) for verdict in report.verdicts]

    async def hears(self) -> Report:
        report = await self.say()
        assert report is not None
        return report


def pair(raw: Redis, cap: int, rate: float = 1e5, burst: int = 100_000) -> tuple[Gateway, Gateway]:
    account = AccountSlots(cap, rate, burst)
    return Gateway(raw, "a", account), Gateway(raw, "b", account)


async def window_passed(raw: Redis) -> None:
    await raw.delete(KEYS.rejoin)


async def gone(raw: Redis, key: str) -> None:
    async with asyncio.timeout(2):
        while await raw.exists(key):  # noqa: ASYNC110 - the server's view has no event
            await asyncio.sleep(0.01)


def test_redis_7_is_held_to_it_too() -> None:
    assert tool("redis-server")


async def test_all_gateways_together_never_hold_more_than_the_cap(raw: Redis) -> None:
    a, b = pair(raw, 7)
    assert await a.asks(*[LEASED] * 5) == [True] * 5
    assert await b.asks(*[LEASED] * 5) == [True, True, False, False, False]
    assert await a.asks(WARM, SPARE) == [False, False]
    a.held[LEASED] = 3
    assert (await a.hears()).view.total == 5
    assert await b.asks(*[SPARE] * 3) == [True, True, False]


async def test_everybody_hears_who_holds_how_much(raw: Redis) -> None:
    a, b = pair(raw, 40)
    await a.asks(LEASED, WARM, WARM, SPARE)
    report = await b.say(LEASED, LEASED)
    assert report is not None
    assert (report.view.live, report.view.leased, report.view.warm, report.view.spare) == (2, 3, 2, 1)
    assert (report.view.own, report.view.others) == (2, (4,))


async def test_what_is_held_is_a_fact_and_never_refused(raw: Redis) -> None:
    a, b = pair(raw, 8)
    a.held[LEASED], b.held[WARM] = 6, 9
    await a.hears()
    assert (await b.hears()).view.total == 15
    assert await a.asks(SPARE) == [False]


async def test_the_last_places_are_for_recovery_alone(raw: Redis) -> None:
    a, b = pair(raw, 10)
    await window_passed_after(raw, a)
    assert await a.asks(*[LEASED] * 6) == [True] * 6
    assert await b.asks(WARM, WARM, WARM, LEASED) == [True, True, False, False]
    assert await b.asks(SPARE, SPARE, SPARE) == [True, True, False]
    # Recovery may use more than what is kept for it, and nobody else may use what it frees of that.
    a.held[LEASED], b.held[SPARE] = 4, 4
    await b.hears()
    assert await a.asks(LEASED) == [False]
    b.held[SPARE] = 0
    await b.hears()
    assert await a.asks(*[LEASED] * 3) == [True, True, False]


async def window_passed_after(raw: Redis, gateway: Gateway) -> None:
    await gateway.hears()
    await window_passed(raw)


async def test_a_small_account_keeps_no_place(raw: Redis) -> None:
    a, _ = pair(raw, 7)
    await window_passed_after(raw, a)
    assert await a.asks(*[LEASED] * 8) == [True] * 7 + [False]


async def test_a_caller_s_want_calls_one_warm_line_back_from_who_has_most(raw: Redis) -> None:
    a, b = pair(raw, 7)
    c = Gateway(raw, "c", a.account)
    await window_passed_after(raw, a)
    assert await b.asks(WARM, WARM) == [True, True]
    assert await c.asks(*[WARM] * 5) == [True] * 5
    report = await a.say(LEASED, want="a:1")
    assert report is not None
    assert report.verdicts == (Denied(Reason.POOL_EXHAUSTED, wanted=True),)
    # A retry names the same want: no second line is called back for it.
    assert await a.asks(LEASED, want="a:1") == [False]
    assert (await b.hears()).recalled == 0
    assert (await c.hears()).recalled == 1
    assert (await c.hears()).recalled == 0
    c.held[WARM] -= 1
    # Refill does not snatch the place from under the caller.
    assert await c.asks(WARM) == [False]
    assert await b.asks(WARM) == [False]
    assert await a.asks(LEASED, want="a:1") == [True]
    a.held[LEASED] = 0
    await a.hears()
    assert await b.asks(WARM) == [True]


async def test_each_want_calls_another_line_back(raw: Redis) -> None:
    a, b = pair(raw, 7)
    await window_passed_after(raw, a)
    assert await b.asks(*[WARM] * 7) == [True] * 7
    assert await a.asks(LEASED, LEASED, LEASED) == [False] * 3
    assert (await b.hears()).recalled == 3


async def test_where_nobody_is_warm_nothing_is_wanted(raw: Redis) -> None:
    a, b = pair(raw, 7)
    await window_passed_after(raw, a)
    await b.asks(*[LEASED] * 4)
    await a.asks(*[LEASED] * 3)
    report = await a.say(LEASED, SPARE)
    assert report is not None
    assert report.verdicts == (Denied(Reason.POOL_EXHAUSTED), Denied(Reason.POOL_EXHAUSTED))


async def test_a_caller_s_want_calls_back_a_warm_line_of_its_own_gateway_too(raw: Redis) -> None:
    """Another template's lines may stand ready there."""
    a, b = pair(raw, 7)
    await window_passed_after(raw, a)
    await b.asks(*[LEASED] * 4)
    await a.asks(*[WARM] * 3)
    report = await a.say(LEASED, SPARE)
    assert report is not None
    assert report.verdicts == (Denied(Reason.POOL_EXHAUSTED, wanted=True), Denied(Reason.POOL_EXHAUSTED))
    assert report.recalled == 1


async def test_a_want_ends_by_its_age(raw: Redis) -> None:
    a, b = pair(raw, 7)
    a.options = b.options = SlotsOptions(want_seconds=0.05)
    await window_passed_after(raw, a)
    await b.asks(*[WARM] * 7)
    assert await a.asks(LEASED, want="a:1") == [False]
    await gone(raw, KEYS.wants)
    assert (await b.hears()).recalled == 0
    assert await a.asks(LEASED, want="a:1") == [False]
    assert (await b.hears()).recalled == 1


async def test_a_call_that_was_overtaken_changes_nothing(raw: Redis) -> None:
    a, b = pair(raw, 7)
    await a.asks(*[LEASED] * 5)
    before = await raw.hgetall(KEYS.counts)
    a.held[LEASED] = 0
    assert await a.say(WARM, turn=1) is None
    assert await raw.hgetall(KEYS.counts) == before
    assert (await b.hears()).view.total == 5


async def test_a_silent_gateway_s_places_come_back_at_once(raw: Redis) -> None:
    a, b = pair(raw, 7)
    a.options = SlotsOptions(ttl_seconds=0.2, heartbeat_seconds=0.05)
    await a.asks(*[LEASED] * 7)
    async with asyncio.timeout(2):
        while (await b.hears()).view.total:  # noqa: ASYNC110 - the server's view has no event
            await asyncio.sleep(0.01)
    assert (await b.hears()).view.live == 1
    assert await raw.hkeys(KEYS.counts) == [b"b"]


async def test_a_gateway_that_leaves_frees_everything(raw: Redis) -> None:
    a, b = pair(raw, 7)
    await a.asks(LEASED)
    await a.say(leaves=True)
    assert (await b.hears()).view.live == 1


async def test_after_a_silence_growth_stays_within_what_needs_no_asking(raw: Redis) -> None:
    a, b = pair(raw, 12)
    a.allowed = b.allowed = 6
    assert (await a.hears()).rejoining
    assert await a.asks(*[LEASED] * 8) == [True] * 6 + [False, False]
    # What is held already is reported as it is, and the cap holds for what is asked.
    b.held[LEASED] = 5
    assert await b.asks(LEASED, LEASED) == [True, False]
    await window_passed(raw)
    a.held[LEASED] = 0
    assert not (await a.hears()).rejoining
    assert await b.asks(*[WARM] * 5) == [True] * 4 + [False]


async def test_a_window_opens_when_nobody_was_heard_of_for_as_long_and_not_otherwise(raw: Redis) -> None:
    a, b = pair(raw, 12)
    a.options = b.options = SlotsOptions(ttl_seconds=5, heartbeat_seconds=0.1)
    await a.hears()
    for _ in range(40):
        last = await b.hears()
        await asyncio.sleep(0.01)
    assert not last.rejoining
    await gone(raw, KEYS.seen)
    assert (await a.hears()).rejoining
    await raw.flushall()
    assert (await a.hears()).rejoining


async def test_every_key_expires_and_carries_the_account_s_tag(raw: Redis) -> None:
    a, b = pair(raw, 7, rate=1, burst=2)
    await b.asks(WARM)
    b.held[WARM] = 7
    await b.hears()
    await a.asks(LEASED)
    names = [name async for name in raw.scan_iter()]
    assert len(names) == 7
    for name in names:
        assert name.startswith(b"trunkline:{account:main}:")
        assert 0 < await raw.pttl(name) <= OPTIONS.ttl_seconds * 1000


async def test_starts_of_any_kind_stay_within_rate_and_burst_in_any_second(raw: Redis) -> None:
    rng, rate, burst = Random(3), 40, 10
    each = [Gateway(raw, name, AccountSlots(10**6, rate, burst)) for name in "abcd"]
    starts = list[float]()
    ends_at = asyncio.get_running_loop().time() + 2.5
    while asyncio.get_running_loop().time() < ends_at:
        gateway, kind = rng.choice(each), rng.choice(list(SlotKind))
        # By the server's own clock, on both sides of the call: the start lies between.
        before = await clock(raw)
        report = await gateway.say(kind)
        assert report is not None
        (verdict,) = report.verdicts
        if isinstance(verdict, Granted):
            starts.append(before + verdict.delay_seconds)
        else:
            assert verdict.reason is Reason.RATE_LIMITED
            assert verdict.retry_after_seconds is not None
    starts.sort()
    # A start is known up to the length of a call; so much is taken off the second.
    most = max(sum(start <= other < start + 0.97 for other in starts) for start in starts)
    assert rate * 0.9 < most <= rate + burst
    assert len(starts) > 2.5 * rate


async def clock(raw: Redis) -> float:
    seconds, microseconds = await raw.time()
    return float(seconds) + float(microseconds) / 1e6


async def test_recovery_dials_while_refill_is_refused(raw: Redis) -> None:
    a, _ = pair(raw, 1000, rate=10, burst=20)
    await window_passed_after(raw, a)
    granted = await a.asks(*[WARM] * 60)
    # Half of the burst, and a second of the rate ahead.
    assert sum(granted) in (20, 21)
    report = await a.say(WARM, LEASED, SPARE)
    assert report is not None
    warm, leased, spare = report.verdicts
    assert isinstance(warm, Denied)
    assert warm.reason is Reason.RATE_LIMITED
    assert isinstance(leased, Granted)
    assert isinstance(spare, Granted)
    assert spare.delay_seconds < 0.2 < leased.delay_seconds < 0.7


async def test_no_turn_means_no_place(raw: Redis) -> None:
    a, b = pair(raw, 100, rate=1, burst=1)
    assert sum(await a.asks(*[SPARE] * 20)) == 3
    assert (await b.hears()).view.total == 3


def delays_of(report: Report | None) -> list[float]:
    assert report is not None
    return [verdict.delay_seconds for verdict in report.verdicts if isinstance(verdict, Granted)]


async def test_after_a_silence_the_burst_counts_as_used(raw: Redis) -> None:
    a, b = pair(raw, 100, rate=10, burst=10)
    a.assumed_seconds = b.assumed_seconds = 1.0
    assert delays_of(await a.say(SPARE, SPARE, LEASED)) == pytest.approx([0.1, 0.2, 0.5], abs=0.001)
    # The second one to report knows no less, and adds only what it booked on its own.
    b.debt_seconds = 1.2
    report = await b.say(SPARE)
    assert report is not None
    assert delays_of(report) == pytest.approx([0.4], abs=0.05)
    assert report.debt_seconds == pytest.approx(1.4, abs=0.05)
    b.debt_seconds = 1.7
    assert delays_of(await b.say(SPARE)) == pytest.approx([0.8], abs=0.05)
    await window_passed(raw)
    b.debt_seconds = 60
    assert delays_of(await b.say(SPARE)) == pytest.approx([0.9], abs=0.05)


async def test_a_full_server_still_takes_reports(raw: Redis) -> None:
    a, b = pair(raw, 7)
    await a.asks(*[LEASED] * 7)
    await raw.config_set("maxmemory", 1)
    a.held[LEASED] = 2
    assert (await a.hears()).view.total == 2
    assert await b.asks(LEASED) == [True]


async def test_a_call_costs_microseconds_also_with_many_gateways(raw: Redis) -> None:
    account = AccountSlots(10_000, 1e5, 100_000)
    for number in range(100):
        await Gateway(raw, f"g{number}", account).asks(LEASED)
    await raw.config_resetstat()
    gateway = Gateway(raw, "g0", account)
    gateway.turn = 10
    for _ in range(200):
        await gateway.asks(LEASED)
    stats = await raw.info("commandstats")
    assert stats["cmdstat_eval"]["usec_per_call"] < 5000
    assert math.isfinite(stats["cmdstat_eval"]["usec_per_call"])
    assert SLOTS.name == "slots"
