"""A tenant has as many lines as it may, at all gateways together, and the others have theirs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from gateway.core import events as out
from gateway.core.errors import CapacityError, GatewayError, Reason, StoreError
from gateway.core.principal import Principal, Right
from gateway.core.tenants import TenantShares
from gateway.runtime.directory import Directory
from gateway.runtime.tenants import TELL_SECONDS, Tenants
from tests.support.virtual_time import turns
from tests.unit.runtime.fakes import ACME, Caller, TenantBook
from tests.unit.runtime.reserving import reserved
from tests.unit.runtime.stage import LINE, Stage
from tests.unit.runtime.talk import Call

OTHERS = Principal("globex", "bot", frozenset({Right.CONVERSE}))
LIMIT = 2


@pytest.fixture
async def book() -> TenantBook:
    return TenantBook()


@pytest.fixture
async def limited(stage: Stage, book: TenantBook) -> AsyncIterator[Stage]:
    stage.tenants = Tenants(TenantShares({LINE.account: LIMIT}), book.of(1), stage.reservations.reserved)
    stage.reservations.check_tenant = stage.tenants.check
    stage._directory = Directory(stage.parts, sessions_max=10)
    telling = asyncio.ensure_future(stage.tenants.run())
    await stage.warm()
    yield stage
    telling.cancel()
    with suppress(asyncio.CancelledError):
        await telling


async def called(stage: Stage, principal: Principal = ACME) -> tuple[Caller, Call]:
    caller = Caller(principal)
    caller.say(out.OpenRequest(wait_max_ms=500))
    call = stage.serve(caller)
    await caller.until(out.Opened)
    return caller, call


async def refusal(stage: Stage, principal: Principal = ACME) -> GatewayError:
    caller = Caller(principal)
    caller.say(out.OpenRequest())
    error = await stage.serve(caller)
    assert error is not None
    return error


async def test_a_tenant_at_its_limit_is_refused_with_numbers_and_the_others_are_served(limited: Stage) -> None:
    for _ in range(LIMIT):
        await called(limited)
    error = await refusal(limited)
    assert isinstance(error, CapacityError)
    assert (error.reason, error.retryable, error.retry_after_seconds) == (Reason.POOL_EXHAUSTED, True, 1.0)
    assert error.numbers is not None
    assert (error.numbers.scope, error.numbers.total) == ("tenant", LIMIT)
    await called(limited, OTHERS)


async def test_who_hangs_up_makes_room(limited: Stage) -> None:
    (first, call), _ = [await called(limited) for _ in range(LIMIT)]
    first.say(out.Bye())
    await call
    await called(limited)
    assert (await refusal(limited)).reason is Reason.POOL_EXHAUSTED


async def test_what_a_tenant_has_reserved_counts_and_is_counted_once(limited: Stage) -> None:
    made = await reserved(limited)
    await called(limited)
    with pytest.raises(CapacityError):
        await reserved(limited)
    caller = Caller()
    caller.say(out.OpenRequest(lease_token=made.token))
    limited.serve(caller)
    await caller.until(out.Opened)
    assert (await refusal(limited)).reason is Reason.POOL_EXHAUSTED


async def test_lines_at_another_gateway_count_until_they_are_gone(limited: Stage, book: TenantBook) -> None:
    elsewhere = book.of(2)
    await elsewhere.exchange(LINE.account, {ACME.tenant: 1, OTHERS.tenant: 5})
    await asyncio.sleep(2 * TELL_SECONDS)
    await called(limited)
    assert (await refusal(limited)).reason is Reason.POOL_EXHAUSTED
    await asyncio.sleep(2 * TELL_SECONDS)
    assert (await elsewhere.exchange(LINE.account, {})) == {ACME.tenant: 1}
    await asyncio.sleep(2 * TELL_SECONDS)
    await called(limited)


async def test_a_change_is_told_at_once(limited: Stage, book: TenantBook) -> None:
    await asyncio.sleep(TELL_SECONDS / 2)
    await called(limited)
    await asyncio.sleep(TELL_SECONDS / 10)
    assert await book.of(2).exchange(LINE.account, {}) == {ACME.tenant: 1}


async def test_while_nobody_can_be_told_what_was_heard_last_holds(limited: Stage, book: TenantBook) -> None:
    await book.of(2).exchange(LINE.account, {ACME.tenant: 1})
    await asyncio.sleep(2 * TELL_SECONDS)
    book.failure = StoreError(Reason.STORE_UNAVAILABLE, "away")
    await called(limited)
    await asyncio.sleep(5 * TELL_SECONDS)
    assert (await refusal(limited)).reason is Reason.POOL_EXHAUSTED
    book.failure = None
    await book.of(2).exchange(LINE.account, {})
    await asyncio.sleep(2 * TELL_SECONDS)
    await called(limited)


async def test_without_a_limit_nothing_is_said(stage: Stage, book: TenantBook) -> None:
    tenants = Tenants(TenantShares({}), book.of(1))
    telling = asyncio.ensure_future(tenants.run())
    with tenants.line_of(LINE.account, "acme"):
        tenants.check(LINE.account, "acme")
        await asyncio.sleep(3.0)
    assert book.said == {}
    telling.cancel()
    await turns(3)
