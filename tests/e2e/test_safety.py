"""Accounts that want to know whose calls they are: each tenant has its own lines, under a name that is not its own."""

from pathlib import Path
from typing import Any

import grpc
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.core.pool_limits import PoolStats
from gateway.core.pool_limits import together as add_up
from gateway.settings.parts import tenant_identifier
from tests.support.stack import UNLIMITED, Running, caller_settings, pool, stack
from tests.support.steering import Operator
from tests.support.waiting import eventually

TENANTS = {"acme": "token-of-acme", "umbrella": "token-of-umbrella"}


def settings(folder: Path) -> dict[str, Any]:
    callers = []
    for tenant, token in TENANTS.items():
        callers.append({**caller_settings(folder, token, "converse", "read", "admin", name=tenant), "tenant": tenant})
    return {
        "insecure_dev": False,
        "callers": callers,
        "accounts": {"main": {**UNLIMITED["main"], "safety": "tenant"}},
        "pools": {"default": pool(floor=1, ceiling=4, demand={"enabled": False})},
    }


async def until_all_are_warm(running: Running) -> None:
    await eventually(lambda: together(running).ready == len(TENANTS), "each tenant has a line ready")


def together(running: Running) -> PoolStats:
    return add_up([pool.stats() for pool in running.gateway.pools.values() if pool.name == "default"])


async def test_each_tenant_has_warm_lines_of_its_own_that_name_it_to_the_provider(tmp_path: Path) -> None:
    async with stack(**settings(tmp_path)) as (running, sim):
        await until_all_are_warm(running)
        carried = {each["session_id"]: each["safety_identifier"] for each in sim.connections()}
        assert sorted(carried.values(), key=str) == sorted(map(tenant_identifier, TENANTS))
        for tenant, token in TENANTS.items():
            caller = running.caller(token)
            await caller.send(open=session.Open())
            opened = await caller.until("opened")
            assert opened.source == types.LINE_SOURCE_WARM
            assert carried[opened.upstream_session_id] == tenant_identifier(tenant)


async def test_a_tenant_is_not_served_from_anothers_shelf(tmp_path: Path) -> None:
    async with stack(**settings(tmp_path)) as (running, sim):
        await until_all_are_warm(running)
        for _ in range(3):
            caller = running.caller(TENANTS["acme"])
            await caller.send(open=session.Open())
            await caller.until("opened")
        shown = sim.connections()
        used = [each for each in shown if each["safety_identifier"] == tenant_identifier("umbrella")]
        assert [each["events_in"] for each in used] == [1], "its configuration, and nobody's words"


async def test_operators_see_each_tenants_pool_and_the_sum(tmp_path: Path) -> None:
    async with stack(**settings(tmp_path)) as (running, _):
        await until_all_are_warm(running)
        operator = Operator(running.channel, TENANTS["acme"])
        shown = await operator.pools()
        assert [each.name for each in shown] == ["default", "default"]
        assert [each.line_class.rpartition(" for ")[2] for each in shown] == sorted(TENANTS)
        assert (together(running).ceiling, together(running).ready) == (8, 2)
        await operator.pause("default")
        for token in TENANTS.values():
            refusal = await running.caller(token).refused()
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "POOL_PAUSED")


async def test_no_identifier_of_an_end_user_is_taken_beside_the_tenants(tmp_path: Path) -> None:
    async with stack(**settings(tmp_path)) as (running, _):
        refusal = await running.caller(TENANTS["acme"]).refused(safety_identifier="user-1")
        assert refusal.reason == "SAFETY_IDENTIFIER_REFUSED"


def test_a_tenants_identifier_is_always_the_same_and_not_its_name() -> None:
    assert tenant_identifier("acme") == tenant_identifier("acme") != tenant_identifier("acme2")
    assert "acme" not in tenant_identifier("acme")
    assert len(tenant_identifier("x" * 200)) <= 64
