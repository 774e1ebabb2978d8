"""A gateway is stopped while sessions are opened through a balancer that has not heard of it yet."""

import asyncio
import signal
from collections import Counter
from typing import Final

import pytest
from trunkline.v1 import control_pb2
from trunkline_client import AsyncClient, TrunklineError
from trunkline_client.events import ResponseDone

from tests.support.calls import Caller
from tests.support.fleet import at_rest, fleet
from tests.support.processes import on_linux
from tests.support.proxy import random_proxy
from tests.support.slots import figures
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator
from tests.support.tools import tool

pytestmark = [on_linux, pytest.mark.heavy, pytest.mark.timeout(120)]
WARM: Final = 8
POOLS: Final = {"default": pool(floor=WARM, ceiling=64, dials_max=8, wait_max_ms=5000, demand={"enabled": False})}
TEXT: Final = control_pb2.SessionOverrides(output_modality=control_pb2.OUTPUT_MODALITY_TEXT)
PER_SECOND: Final = 15
BEFORE, AFTER = 10, 40
TRIES_MAX: Final = 20
SECONDS: Final = 30.0


async def turn(address: str, begun: list[str]) -> None:
    """Open a session over a connection of its own, which the balancer draws a gateway for; talk, and say goodbye."""
    async with AsyncClient(address) as client, client.open(resumable=False, overrides=TEXT) as session:
        begun.append(session.id)
        await session.send_text("Hello")
        await session.create_response()
        async for event in session:
            if isinstance(event, ResponseDone):
                return
        raise AssertionError("the session ended before its answer")


async def served(address: str, refusals: Counter[str]) -> None:
    """Open until one gateway takes it; what is taken has to be carried out."""
    for _ in range(TRIES_MAX):
        begun = list[str]()
        try:
            async with asyncio.timeout(SECONDS):
                return await turn(address, begun)
        except TrunklineError as error:
            if begun or not error.retryable:
                raise  # taken, and then dropped; or told not to come back
            refusals[error.reason] += 1
            await asyncio.sleep(0.05)
    raise AssertionError(f"not served in {TRIES_MAX} tries: {refusals}")


async def test_who_opens_while_a_gateway_stops_is_served_by_another_and_nobody_is_taken_and_dropped() -> None:
    assert tool("redis-server")
    with fleet(2, pools=POOLS, limits={"drain_seconds": 3}) as running:
        channels = [channel_to(each) for each in running.addresses]
        await at_rest([Operator(each) for each in channels], WARM)
        leaving = running.gateways[running.addresses[0]]
        talking, refusals = Caller(channels[0]), Counter[str]()
        await talking.open()  # so that the drain takes its time
        async with random_proxy(running.addresses) as address, asyncio.TaskGroup() as group:
            for number in range(BEFORE + AFTER):
                if number == BEFORE:
                    leaving.send(signal.SIGTERM)
                group.create_task(served(address, refusals))
                await asyncio.sleep(1 / PER_SECOND)
                if number == BEFORE:
                    refused = await Caller(channels[0]).refused()
        await talking.until("closed")
        for each in channels:
            await each.close()
        figures("stop under opens", opens=BEFORE + AFTER, refusals=dict(refusals))
        # Our client goes elsewhere by itself: what it is spared is heard by a bare stub.
        assert refused.reason == "DRAINING"
        assert set(refusals) <= {"DRAINING"}
        assert await asyncio.to_thread(leaving.wait) == 0
