"""A unit that is kept while a phone rings: it is there when the caller comes, and costs nothing when none comes."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import admin_pb2 as admin
from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import types_pb2 as types

from gateway.simulator import Simulator
from tests.support.calls import Caller
from tests.support.dials import watched
from tests.support.slots import figures
from tests.support.stack import Running, caller_settings, channel_to, gateway_on, pool, simulator, stack
from tests.support.steering import Operator, Reserver, refusal_by
from tests.support.waiting import eventually

ONE: Final = {"default": pool(floor=1, ceiling=1, wait_max_ms=2000, demand={"enabled": False})}
WARM = types.LINE_SOURCE_WARM


async def refused_open(running: Running, token: str, **fields: Any) -> str:
    return (await running.caller().refused(lease_token=token, **fields)).reason


def sockets(provider: Simulator) -> int:
    """Count the sockets that the provider ever saw."""
    return len(provider.connections())


async def test_a_reserved_unit_is_kept_from_everybody_else_and_there_at_once_for_its_caller() -> None:
    async with stack(pools=ONE) as (running, provider):
        await running.until_warm(1)
        operator, reserver = Operator(running.channel), Reserver(running.channel)
        made = await reserver.acquire(correlation_id="ringing", ttl_seconds=20)
        assert (made.source, made.waited_ms, made.ttl_seconds) == (WARM, 0, 20)
        (shown,) = await operator.leases()
        assert (shown.kind, shown.lease_id) == (admin.LEASE_KIND_RESERVATION, made.lease_id)
        assert (shown.tenant, shown.caller, shown.correlation_id) == ("dev", "dev", "ringing")
        assert 18_000 < shown.expires_in_ms <= 20_000
        assert (shown.session_id, shown.upstream_session_id) == ("", "")
        assert made.lease_token not in str(shown)
        other = await running.caller().refused(wait_max_ms=200)
        assert other.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
        opened = await running.caller().open(lease_token=made.lease_token)
        assert (opened.source, opened.waited_ms) == (WARM, 0)
        (lease,) = await operator.leases()
        assert (lease.kind, lease.session_id) == (admin.LEASE_KIND_SESSION, opened.session_id)
        assert sockets(provider) == 1


async def test_a_token_names_its_template_by_itself() -> None:
    session = {"audio": {"input": {"transcription": {"model": "gpt-realtime-whisper"}}}}
    templates = {"default": {}, "other": {"session": {**session, "instructions": "Speak of tea."}}}
    async with stack(templates=templates, pools={"default": pool(), "other": pool()}) as (running, _):
        await running.until_warm(1, "other")
        made = await Reserver(running.channel).acquire(template="other")
        assert (await running.caller().open(lease_token=made.lease_token)).template == "other"


async def test_a_reservation_for_one_template_is_refused_at_another_and_lives_on() -> None:
    session = {"audio": {"input": {"transcription": {"model": "gpt-realtime-whisper"}}}}
    templates = {"default": {}, "other": {"session": {**session, "instructions": "Speak of tea."}}}
    async with stack(templates=templates, pools={"default": pool(), "other": pool()}) as (running, _):
        await running.until_warm(1, "other")
        made = await Reserver(running.channel).acquire(template="other")
        assert await refused_open(running, made.lease_token, template="default") == "INVALID_FRAME"
        assert (await running.caller().open(lease_token=made.lease_token)).source == WARM


async def test_keep_alive_lets_a_reservation_live_on_and_tells_of_one_that_has_ended() -> None:
    async with stack(pools=ONE) as (running, provider):
        await running.until_warm(1)
        reserver = Reserver(running.channel)
        made = await reserver.acquire(ttl_seconds=1)
        began = time.monotonic()
        while time.monotonic() - began < 2.2:
            assert await reserver.keep_alive(made.lease_token) == [(made.lease_id, 1)]
            await asyncio.sleep(0.3)
        assert (await running.caller().open(lease_token=made.lease_token)).source == WARM
        answers = await reserver.keep_alive(made.lease_token, "forged", made.lease_token)
        assert answers == [(made.lease_id, 0), ("", 0), (made.lease_id, 0)]
        assert sockets(provider) == 1


async def test_a_release_frees_the_unit_once_and_a_second_one_is_no_error() -> None:
    async with stack(pools=ONE) as (running, provider):
        await running.until_warm(1)
        reserver = Reserver(running.channel)
        made = await reserver.acquire()
        assert [await reserver.release(made.lease_token) for _ in range(2)] == [True, False]
        assert await Operator(running.channel).leases() == []
        assert await refused_open(running, made.lease_token) == "LEASE_ENDED"
        assert (await running.caller().open()).source == WARM
        assert await reserver.release("forged") is False
        assert sockets(provider) == 1


async def test_a_token_that_was_used_is_not_used_again() -> None:
    async with stack(pools={"default": pool(floor=2)}) as (running, _):
        await running.until_warm(2)
        reserver = Reserver(running.channel)
        made = await reserver.acquire()
        await running.caller().open(lease_token=made.lease_token)
        status = await running.caller().refused(lease_token=made.lease_token)
        assert (status.code, status.reason) == (grpc.StatusCode.ABORTED, "LEASE_ENDED")
        assert await reserver.release(made.lease_token) is False
        assert running.pool().leased == 1


async def test_an_expired_reservation_is_ended_and_its_line_serves_the_next_caller() -> None:
    async with stack(pools=ONE) as (running, provider):
        await running.until_warm(1)
        made = await Reserver(running.channel).acquire(ttl_seconds=1)
        operator = Operator(running.channel)
        assert len(await operator.leases()) == 1
        await eventually(lambda: running.pool().reserved == 0, "it expires", seconds=3)
        assert await operator.leases() == []
        status = await running.caller().refused(lease_token=made.lease_token)
        assert (status.code, status.reason) == (grpc.StatusCode.ABORTED, "LEASE_ENDED")
        assert (await running.caller().open()).source == WARM
        assert sockets(provider) == 1


@pytest.mark.parametrize(
    "token", ["forged", "", "x" * 5000, "AAAA" * 40, "é\0"], ids=["word", "none", "long", "b64", "odd"]
)
async def test_a_forged_token_opens_nothing_and_burns_nothing(token: str) -> None:
    async with stack(pools=ONE) as (running, _):
        await running.until_warm(1)
        reserver = Reserver(running.channel)
        assert await reserver.release(token) is False
        assert await reserver.keep_alive(token) == [("", 0)]
        if token:
            status = await running.caller().refused(lease_token=token)
            assert (status.code, status.reason) == (grpc.StatusCode.NOT_FOUND, "LEASE_UNKNOWN")
        made = await reserver.acquire()
        changed = made.lease_token[:-4] + ("AAAA" if made.lease_token[-4:] != "AAAA" else "BBBB")
        assert await refused_open(running, changed) == "LEASE_UNKNOWN"
        assert (await running.caller().open(lease_token=made.lease_token)).source == WARM


async def test_another_tenants_token_is_as_unknown_as_a_forged_one(tmp_path: Path) -> None:
    callers = [
        caller_settings(tmp_path, "token-a", "converse", "read", name="a", tenant="acme"),
        caller_settings(tmp_path, "token-b", "converse", name="b", tenant="bolt"),
    ]
    async with simulator() as sim, gateway_on(sim.url, insecure_dev=False, callers=callers, pools=ONE) as running:
        await running.until_warm(1)
        mine, theirs = Reserver(running.channel, "token-a"), Reserver(running.channel, "token-b")
        made = await mine.acquire(idempotency_key="one")
        status = await running.caller("token-b").refused(lease_token=made.lease_token)
        assert (status.code, status.reason) == (grpc.StatusCode.NOT_FOUND, "LEASE_UNKNOWN")
        assert await theirs.release(made.lease_token) is False
        assert await theirs.keep_alive(made.lease_token) == [("", 0)]
        # Nor does its key find it.
        assert (await refusal_by(theirs.acquire, idempotency_key="one", wait_max_ms=100)).reason == "POOL_EXHAUSTED"
        assert (await running.caller("token-a").open(lease_token=made.lease_token)).source == WARM


async def test_a_retry_with_the_same_key_finds_the_same_reservation_while_it_lives() -> None:
    async with stack(pools={"default": pool(floor=2, ceiling=4)}) as (running, _):
        await running.until_warm(2)
        reserver = Reserver(running.channel)
        first = await reserver.acquire(idempotency_key="ring-1")
        again = await reserver.acquire(idempotency_key="ring-1")
        assert (again.lease_id, again.lease_token) == (first.lease_id, first.lease_token)
        other = await reserver.acquire(idempotency_key="ring-2")
        assert other.lease_id != first.lease_id
        assert running.pool().reserved == 2
        await reserver.release(first.lease_token)
        assert (await reserver.acquire(idempotency_key="ring-1")).lease_id != first.lease_id
        assert len(await Operator(running.channel).leases()) == 2


async def test_the_same_key_at_the_same_time_makes_one_reservation() -> None:
    async with stack(pools={"default": pool(floor=4, ceiling=8)}) as (running, _):
        await running.until_warm(4)
        reserver = Reserver(running.channel)
        made = await asyncio.gather(*(reserver.acquire(idempotency_key="ring") for _ in range(4)))
        assert len({each.lease_id for each in made}) == 1
        assert running.pool().reserved == 1


async def test_what_cannot_be_reserved_is_refused_with_its_reason() -> None:
    async with stack(pools=ONE) as (running, _):
        await running.until_warm(1)
        operator, reserver = Operator(running.channel), Reserver(running.channel)
        for asked, reason in (
            ({"template": "nonesuch"}, "UNKNOWN_TEMPLATE"),
            ({"ttl_seconds": 301}, "INVALID_FRAME"),
            ({"idempotency_key": "x" * 65}, "INVALID_FRAME"),
            ({"correlation_id": "x" * 129}, "INVALID_FRAME"),
        ):
            assert (await refusal_by(reserver.acquire, **asked)).reason == reason
        await operator.pause()
        assert (await refusal_by(reserver.acquire)).reason == "POOL_PAUSED"
        await operator.unpause()
        await reserver.acquire()
        status = await refusal_by(reserver.acquire, wait_max_ms=200)
        assert (status.code, status.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "POOL_EXHAUSTED")
        assert status.numbers == errors.PoolNumbers(scope="pool", pool="default", total=1, warm=1)
        assert status.retry_seconds
        assert (running.pool().waiting, running.pool().reserved) == (0, 1)


async def test_a_line_that_dies_under_a_reservation_is_replaced_unseen() -> None:
    async with stack(pools={"default": pool(floor=1, ceiling=2, demand={"enabled": False})}) as (running, provider):
        await running.until_warm(1)
        made = await Reserver(running.channel).acquire()
        await running.until_warm(2)  # the floor stands beside what is reserved
        assert provider.close_open() == 2
        await eventually(lambda: running.pool().ready == 0, "they are gone")
        opened = await running.caller().open(lease_token=made.lease_token)
        assert opened.upstream_session_id in {each["session_id"] for each in provider.connections()[-2:]}
        await eventually(lambda: running.pool().reserved == 0, "it is used")


async def test_a_caller_who_gives_up_waiting_reserves_nothing() -> None:
    async with stack(pools=ONE) as (running, _):
        await running.caller().open()
        asking = asyncio.create_task(Reserver(running.channel).acquire(wait_max_ms=2000))
        await eventually(lambda: running.pool().waiting == 1, "it waits")
        asking.cancel()
        await eventually(lambda: running.pool().waiting == 0, "nobody waits")
        (held,) = await Operator(running.channel).leases()
        assert (held.kind, running.pool().reserved) == (admin.LEASE_KIND_SESSION, 0)


async def _many(rounds: int, units: int) -> None:
    """Reserve all there is, again and again: half is released, a tenth expires, the rest is opened."""
    pools = {
        "default": pool(
            floor=units, ceiling=units, dials_max=16, waiters_max=units, wait_max_ms=20_000, demand={"enabled": False}
        )
    }
    released, expiring = units // 2, units // 10
    async with simulator() as sim, gateway_on(sim.url, pools=pools) as running, channel_to(running.address) as channel:
        await running.until_warm(units)
        dials = watched(running)
        operator, reserver = Operator(running.channel), Reserver(running.channel)
        opened_in_all, waited = 0, list[int]()

        async def hold(token: str) -> None:
            caller = Caller(channel)
            opened = await caller.open(lease_token=token)
            assert opened.source == WARM
            await caller.bye(now=True)
            await caller.rest()

        for _ in range(rounds):
            ttls = [1 if number < expiring else 30 for number in range(units)]
            made = await asyncio.gather(*(reserver.acquire(ttl_seconds=ttl, wait_max_ms=20_000) for ttl in ttls))
            waited += [each.waited_ms for each in made]
            rest = made[expiring:]
            ended = await asyncio.gather(*(reserver.release(each.lease_token) for each in rest[:released]))
            assert all(ended)
            await asyncio.gather(*(hold(each.lease_token) for each in rest[released:]))
            opened_in_all += len(rest[released:])
            await eventually(lambda: running.pool().reserved == 0, "the tenth expires", seconds=5)
            await running.until_warm(units)
        await running.until_free()
        leases = await operator.leases()
        sockets_seen: Any = sim.observe()["totals"]
        figures(
            "reservations",
            n=rounds * units,
            released=rounds * released,
            expired=rounds * expiring,
            opened=opened_in_all,
            waited_ms_max=max(waited),
            leases_left=len(leases),
            warm_before=units,
            warm_after=running.pool().ready,
            sockets=sockets_seen,
        )
        assert leases == []
        assert running.pool().ready == units
        # No line but the floor's and those that were opened: none was burnt by a reservation.
        assert len(dials.seconds) == opened_in_all
        assert sockets_seen["open"] == units
        assert units + opened_in_all <= sockets_seen["accepted"] <= units + opened_in_all + dials.failed.total()


async def test_fifty_reservations_released_expired_and_opened_burn_and_leak_nothing() -> None:
    await _many(1, 50)


@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_a_thousand_reservations_released_expired_and_opened_burn_and_leak_nothing() -> None:
    await _many(10, 100)
