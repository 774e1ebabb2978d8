"""The store may die or freeze; calls go on, and no audio waits for it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import types_pb2 as types

from tests.support.calls import Caller
from tests.support.processes import on_linux, valkeys
from tests.support.stack import stack
from tests.support.waiting import eventually

pytestmark = on_linux


def store_pid() -> int:
    (pid,) = valkeys(os.getpid())
    return pid


@contextmanager
def frozen() -> Iterator[None]:
    pid = store_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def spoken(caller: Caller) -> None:
    await caller.say("Hello there")
    await caller.answer_please()
    await caller.until("response_done")


async def ended_in_order(caller: Caller) -> None:
    await caller.bye()
    await caller.rest()
    assert caller.all("closed")[0].reason == event.CLOSED_REASON_BYE
    assert (await caller.status()).code is grpc.StatusCode.OK


async def test_a_running_call_outlives_its_store() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        opened = await caller.open()
        assert opened.durability == types.DURABILITY_PROCESS
        await spoken(caller)
        assert [each.durable for each in caller.seen if each.seq][1:] == [True] * 3
        os.kill(store_pid(), signal.SIGKILL)
        caller.seen.clear()
        await spoken(caller)
        controls = [each for each in caller.seen if each.seq]
        assert controls
        assert not any(each.durable for each in controls)
        assert all(each.HasField("durable") for each in controls)
        await ended_in_order(caller)
        await running.until_free()


async def test_sessions_open_and_end_in_order_without_a_store() -> None:
    async with stack() as (running, _):
        os.kill(store_pid(), signal.SIGKILL)
        first = running.caller()
        await first.open()
        await spoken(first)
        await ended_in_order(first)
        second = running.caller()
        opened = await second.open()
        assert opened.durability == types.DURABILITY_NONE
        await ended_in_order(second)


async def test_no_audio_waits_for_a_frozen_store() -> None:
    async with stack(store={"durable_hold_ms": 5000}) as (running, _):
        await running.until_warm(1)
        with frozen():
            caller = running.caller()
            await caller.open()
            await spoken(caller)
            kinds = caller.kinds()
            # The words came up before the answer, but their `item_done` has to be stored first.
            assert kinds.index("opened") == 0
            assert kinds.index("audio") < kinds.index("item_done")


async def test_a_store_that_thaws_is_used_again() -> None:
    async with stack() as (running, _):
        caller = running.caller()
        await caller.open()
        with frozen():
            await spoken(caller)
        caller.seen.clear()

        async def stored() -> bool:
            await spoken(caller)
            return all(each.durable for each in caller.seen[-1:])

        for _ in range(40):
            if await stored():
                break
        else:
            raise AssertionError("the store is not used again")
        numbers = [each.seq for each in caller.seen if each.seq]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        await ended_in_order(caller)


async def test_a_caller_that_goes_leaves_nothing_behind_when_the_store_is_dead() -> None:
    async with stack({"speed": 1}) as (running, _):
        caller = running.caller()
        await caller.open()
        os.kill(store_pid(), signal.SIGKILL)
        await caller.answer_please()
        await caller.until("audio")
        caller.cancel()
        await running.until_free()
        await eventually(lambda: running.pool().ready >= 1, "a line is warm again")
