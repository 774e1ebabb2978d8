"""An operator ends a gateway: who talks may finish, and nothing but callers is waited for."""

import asyncio
import signal
import time
from typing import Final

import grpc
from trunkline.v1 import event_pb2 as event

from tests.support.calls import Caller
from tests.support.processes import on_linux, process_stack
from tests.support.stack import channel_to, stack
from tests.support.steered import has_turn
from tests.support.steering import Operator, refusal_by
from tests.support.waiting import eventually

# A process that is told to end does so within this, when nobody talks.
STOP_SECONDS: Final = 5.0


@on_linux
async def test_a_drained_gateway_lets_its_calls_finish_and_ends_in_order() -> None:
    """Also when a signal comes on top: it is the first one."""
    with process_stack(limits={"drain_seconds": 30}) as here:
        here.until_warm()
        async with channel_to(here.address) as channel:
            caller, operator = Caller(channel), Operator(channel)
            await caller.open()
            assert await operator.drain_gateway() == 1
            await eventually(lambda: '"draining"' in here.gateway.output, "it drains")
            refused = await Caller(channel).refused()
            assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            here.gateway.send(signal.SIGTERM)
            await has_turn(caller)
            assert not here.gateway.ended
            assert await operator.drain_gateway() == 1, "asked twice it says the same"
            await has_turn(caller)
            await caller.bye()
            await caller.rest()
            assert caller.all("closed")[0].reason == event.CLOSED_REASON_BYE
            assert (await caller.status()).code is grpc.StatusCode.OK
        assert here.gateway.wait() == 0
        assert "Traceback" not in here.gateway.output
        assert "forced_stop" not in here.gateway.output


@on_linux
async def test_at_the_deadline_of_a_drain_what_is_left_is_ended() -> None:
    with process_stack(limits={"drain_seconds": 300}) as here:
        here.until_warm()
        async with channel_to(here.address) as channel:
            caller = Caller(channel)
            await caller.open()
            began = time.monotonic()
            assert await Operator(channel).drain_gateway(deadline_seconds=1) == 1
            closed = await caller.until("closed")
            assert closed.reason == event.CLOSED_REASON_DRAINING
            assert 0.9 < time.monotonic() - began < STOP_SECONDS
            await caller.rest()
            status = await caller.status()
            assert (status.code, status.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert here.gateway.wait() == 0


@on_linux
async def test_a_drain_without_calls_is_answered_and_ends_at_once() -> None:
    with process_stack(limits={"drain_seconds": 300}) as here:
        async with channel_to(here.address) as channel:
            assert await Operator(channel).drain_gateway() == 0
            assert await asyncio.to_thread(here.gateway.wait) == 0
        assert "Traceback" not in here.gateway.output


async def test_a_drain_that_lasts_longer_than_a_day_is_refused() -> None:
    async with stack() as (running, _):
        status = await refusal_by(Operator(running.channel).drain_gateway, deadline_seconds=86_401)
        assert (status.code, status.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FRAME")
        assert not running.stop.is_set()


@on_linux
async def test_an_open_watch_does_not_hold_the_end_of_a_gateway_up() -> None:
    with process_stack() as here:
        here.until_warm()
        async with channel_to(here.address) as channel:
            watching = Operator(channel).watch(interval_ms=60_000)
            await watching.read()
            began = time.monotonic()
            here.gateway.send(signal.SIGTERM)
            await eventually(lambda: '"stopped"' in here.gateway.output, "it ends", STOP_SECONDS)
            # gRPC gives what still runs a second; nobody is to wait for that.
            assert time.monotonic() - began < 0.9
        assert here.gateway.wait() == 0
        assert "Traceback" not in here.gateway.output
