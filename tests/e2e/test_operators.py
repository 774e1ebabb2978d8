"""What operators see and steer while callers talk: watching, ending a session, bounds, and the end of a gateway."""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import types_pb2 as types

from gateway.rpc.admin import WATCHERS_MAX
from tests.support.calls import Caller
from tests.support.processes import on_linux, process_stack
from tests.support.stack import caller_settings, channel_to, gateway_on, simulator, stack
from tests.support.steered import FULL, STILL, has_turn, queued
from tests.support.steering import Operator, refusal_by
from tests.support.waiting import eventually

# A process that is told to end does so within this, when nobody talks.
STOP_SECONDS: Final = 5.0


# Watch.


async def test_a_watch_shows_pools_and_sessions_again_and_again() -> None:
    async with stack(pools=STILL) as (running, _):
        await running.until_warm(2)
        operator = Operator(running.channel)
        watching = operator.watch(interval_ms=100)
        first = await watching.read()
        assert [each.name for each in first.pools] == ["default"]
        assert (first.pools[0].warm, len(first.sessions)) == (2, 0)
        caller = running.caller()
        opened = await caller.open(correlation_id="c-1", metadata={"queue": "billing"})
        async with asyncio.timeout(10):
            while not (shown := await watching.read()).sessions:
                pass
        (seen,) = shown.sessions
        assert (seen.session_id, seen.correlation_id, seen.pool) == (opened.session_id, "c-1", "default")
        assert dict(seen.metadata) == {"queue": "billing"}
        assert seen.state == types.SESSION_STATE_ACTIVE
        await caller.bye()
        await caller.rest()
        async with asyncio.timeout(10):
            while (await watching.read()).sessions:
                pass
        watching.cancel()


@pytest.mark.parametrize(("interval_ms", "least_seconds"), [(0, 1.0), (100, 0.1), (700, 0.7)])
async def test_a_watch_keeps_its_interval(interval_ms: int, least_seconds: float) -> None:
    async with stack(pools=STILL) as (running, _):
        watching, now = Operator(running.channel).watch(interval_ms), asyncio.get_running_loop().time
        await watching.read()
        began = now()
        for _ in range(2):
            await watching.read()
        # Not sooner; a busy machine may be late.
        assert now() - began >= 2 * least_seconds * 0.9
        watching.cancel()


@pytest.mark.parametrize("interval_ms", [1, 99, 60_001, 4_294_967_295])
async def test_an_interval_out_of_bounds_is_refused(interval_ms: int) -> None:
    async with stack(pools=STILL) as (running, _):
        status = await refusal_by(Operator(running.channel).watch(interval_ms).read)
        assert (status.code, status.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FRAME")
        assert f"100 to 60000, not {interval_ms}" in status.text


async def test_a_watch_ends_with_its_caller_and_makes_room_for_the_next() -> None:
    async with stack(pools=STILL) as (running, _):
        channel, operator = channel_to(running.address), Operator(running.channel)
        watchings = [Operator(channel).watch(interval_ms=60_000) for _ in range(WATCHERS_MAX)]
        for each in watchings:
            await each.read()
        status = await refusal_by(operator.watch().read)
        assert (status.code, status.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        before = len(asyncio.all_tasks())
        for each in watchings[: WATCHERS_MAX // 2]:
            each.cancel()
        await channel.close()  # and with it the others
        await eventually(lambda: len(asyncio.all_tasks()) <= before - WATCHERS_MAX, "what served them ends")
        again = [operator.watch() for _ in range(WATCHERS_MAX)]
        for each in again:
            assert (await each.read()).pools
            each.cancel()


# KillSession.


async def test_a_killed_session_is_told_why_and_gives_its_line_back() -> None:
    async with stack(pools=STILL) as (running, _):
        operator = Operator(running.channel)
        caller, other = running.caller(), running.caller()
        opened = await caller.open()
        await other.open()
        assert await operator.kill(opened.session_id, "Ein Versuch: größer als gedacht")
        closed = await caller.until("closed")
        assert (closed.reason, closed.detail) == (event.CLOSED_REASON_KILLED, "Ein Versuch: größer als gedacht")
        await caller.rest()
        assert (await caller.status()).code is grpc.StatusCode.OK
        assert not await operator.kill(opened.session_id)
        await eventually(lambda: running.pool().leased == 1, "its line is given back")
        await has_turn(other)


async def test_a_session_is_killed_in_mid_answer() -> None:
    async with stack({"speed": 1.0}, pools=STILL) as (running, _):
        caller = running.caller()
        opened = await caller.open()
        await caller.say("Tell me about the history of the telephone.")
        await caller.answer_please()
        await caller.until("audio")
        assert await Operator(running.channel).kill(opened.session_id, "now")
        assert (await caller.until("closed")).reason == event.CLOSED_REASON_KILLED
        assert await caller.read() is None


async def test_of_two_who_kill_at_once_one_has_done_it() -> None:
    async with stack(pools=STILL) as (running, _):
        operator, caller = Operator(running.channel), running.caller()
        opened = await caller.open()
        kills = await asyncio.gather(*(operator.kill(opened.session_id, f"by {n}") for n in range(5)))
        assert sorted(kills) == [False] * 4 + [True]
        assert (await caller.until("closed")).detail == f"by {kills.index(True)}"


async def test_who_waits_in_the_queue_is_killed_and_told() -> None:
    async with stack(pools=FULL) as (running, _):
        holder, waiter = await queued(running)
        operator = Operator(running.channel)
        (waits,) = [each for each in await operator.sessions() if each.correlation_id == "waits"]
        assert waits.state == types.SESSION_STATE_OPENING
        assert await operator.kill(waits.session_id, "no more today")
        closed = await waiter.until("closed")
        assert (closed.reason, closed.detail) == (event.CLOSED_REASON_KILLED, "no more today")
        await waiter.rest()
        assert (await waiter.status()).code is grpc.StatusCode.OK
        await eventually(lambda: running.pool().waiting == 0, "nobody waits")
        assert not await operator.kill(waits.session_id)
        await has_turn(holder)


@pytest.mark.parametrize("name", ["", "sess_never_was", "sess_" + "x" * 100_000, "\x00", "lease_x"])
async def test_to_kill_who_is_not_there_is_no_error(name: str) -> None:
    async with stack(pools=STILL) as (running, _):
        assert not await Operator(running.channel).kill(name)


@pytest.mark.parametrize(
    "reason",
    ["x" * 257, "two\nlines", "\x1b[31mred", "\x00", "a\u202eb", "\u2028"],
    ids=["long", "line", "escape", "nul", "turned", "separator"],
)
async def test_a_reason_that_could_steer_a_terminal_is_refused(reason: str) -> None:
    async with stack(pools=STILL) as (running, _):
        caller = running.caller()
        opened = await caller.open()
        status = await refusal_by(Operator(running.channel).kill, opened.session_id, reason)
        assert (status.code, status.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FRAME")
        assert "256 printable characters" in status.text
        await has_turn(caller)


async def test_the_longest_reason_is_taken() -> None:
    async with stack(pools=STILL) as (running, _):
        caller = running.caller()
        opened = await caller.open()
        assert await Operator(running.channel).kill(opened.session_id, "ü" * 256)
        assert (await caller.until("closed")).detail == "ü" * 256


# Rights, and a trace of what was done.


async def test_who_may_read_cannot_write(tmp_path: Path) -> None:
    tokens = {right: f"token-of-{right}" for right in ("converse", "read")}
    callers = [caller_settings(tmp_path, token, right, name=right) for right, token in tokens.items()]
    async with simulator() as sim, gateway_on(sim.url, insecure_dev=False, callers=callers, pools=STILL) as running:
        caller = running.caller(tokens["converse"])
        opened = await caller.open()
        reader, talker = Operator(running.channel, tokens["read"]), Operator(running.channel, tokens["converse"])
        assert (await reader.watch().read()).sessions
        writes: list[tuple[Any, ...]] = [
            (Operator.kill, opened.session_id), (Operator.set_limits,), (Operator.drain_gateway,),
            (Operator.pause,), (Operator.unpause,), (Operator.drain,), (Operator.retire,),
        ]  # fmt: skip
        for act, *arguments in writes:
            for who in (reader, talker):
                status = await refusal_by(act, who, *arguments)
                assert (status.code, status.reason) == (grpc.StatusCode.PERMISSION_DENIED, "NOT_PERMITTED")
        for read in (talker.pools, talker.leases, talker.sessions, talker.watch().read):
            assert (await refusal_by(read)).reason == "NOT_PERMITTED"
        await has_turn(caller)
        assert not running.stop.is_set()


@on_linux
async def test_what_an_operator_does_stands_in_the_log_with_his_name() -> None:
    with process_stack() as here:
        here.until_warm()
        async with channel_to(here.address) as channel:
            caller, operator = Caller(channel), Operator(channel)
            opened = await caller.open()
            await operator.set_limits(floor=3)
            await operator.pause()
            await operator.unpause()
            await operator.kill(opened.session_id, "because")
            await caller.rest()
            await operator.drain_gateway(deadline_seconds=5)
        assert await asyncio.to_thread(here.gateway.wait) == 0
        lines = [json.loads(line) for line in here.gateway.output.splitlines() if '"operator"' in line]
        assert [each["command"] for each in lines] == ["limits", "pause", "unpause", "kill", "drain_gateway"]
        assert {(each["tenant"], each["caller"]) for each in lines} == {("dev", "dev")}
        assert (lines[0]["floor"], lines[3]["session_id"], lines[3]["detail"]) == (3, opened.session_id, "because")
        assert lines[4]["seconds"] == 5
        assert not any("dropped_fields" in each for each in lines)
