"""Bad input, clear answers: each wrong thing has its reason, and none of it leaves anything behind.

What is refused one by one stands in test_refusals.py, test_reservations.py, test_steering.py and test_command.py;
here is what they lack, and that nothing leaks.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.simulator import fault_from_text, speech
from tests.support.calls import Caller
from tests.support.processes import on_linux
from tests.support.residue import at_rest, nothing_is_held
from tests.support.stack import Running, gateway_on, pool, simulator, stack
from tests.support.steering import Operator, Reserver, refusal_by
from tests.support.waiting import eventually

WARM = 2
STILL: Final = {"default": pool(floor=WARM, ceiling=4, waiters_max=2, wait_max_ms=3000, demand={"enabled": False})}
LARGE: Final = "x" * 300_000
HUGE: Final = "x" * 600_000
TEXT: Final = control.OUTPUT_MODALITY_TEXT


# Too large, of each kind.


async def test_a_first_message_that_is_too_large_is_refused_by_its_size() -> None:
    openings: dict[str, dict[str, Any]] = {
        "instructions": {"overrides": control.SessionOverrides(instructions=LARGE)},
        "session_json": {"overrides": control.SessionOverrides(session_json=LARGE)},
        "history": {"history": [session.HistoryItem(text="x" * 1000) for _ in range(300)]},
        "greeting": {"greet": session.Greet(instructions=LARGE)},
        "token": {"lease_token": LARGE},
    }
    async with stack(pools=STILL) as (running, _):
        for name, fields in openings.items():
            status = await running.caller().refused(**fields)
            assert (name, status.code, status.reason) == (name, grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE")
        resuming = running.caller()
        await resuming.send(resume=session.Resume(token=LARGE))
        assert await resuming.rest() == []
        assert (await resuming.status()).reason == "MESSAGE_TOO_LARGE"
        assert running.pool().leased == 0


async def test_each_kind_of_message_that_is_too_large_is_refused_and_the_session_goes_on() -> None:
    controls: dict[str, dict[str, Any]] = {
        "text": {"text": control.TextInput(text=LARGE)},
        "create_response": {"create_response": control.CreateResponse(instructions=LARGE)},
        "tool_result": {"tool_result": control.ToolResult(call_id="c", output=LARGE)},
        "update_session": {"update_session": control.UpdateSession(overrides=control.SessionOverrides(voice=LARGE))},
        "truncate": {"truncate": control.TruncateItem(item_id=LARGE)},
        "raw": {"raw": control.RawEvent(json=f'{{"type":"response.cancel","response_id":"{LARGE}"}}')},
    }
    async with stack(pools=STILL) as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.send(audio=bytes(300_000))
        assert (await caller.until("error")).reason == errors.ERROR_REASON_MESSAGE_TOO_LARGE
        await caller.send(open=session.Open(template=LARGE))
        assert (await caller.until("error")).reason == errors.ERROR_REASON_MESSAGE_TOO_LARGE
        for cseq, fields in enumerate(controls.values(), start=1):
            await caller.ask(cseq=cseq, **fields)
            error = await caller.until("error")
            assert (error.reason, error.cseq) == (errors.ERROR_REASON_MESSAGE_TOO_LARGE, cseq)
            assert len(error.message) < 300
        await caller.answer_please(output_modality=TEXT)
        assert (await caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED


async def test_a_message_past_the_transports_own_limit_ends_the_call_and_frees_its_line() -> None:
    async with stack(pools=STILL) as (running, _):
        caller = running.caller()
        await caller.open()
        await caller.say(HUGE)
        await caller.rest()
        assert (await caller.status()).code is grpc.StatusCode.RESOURCE_EXHAUSTED
        await running.until_free()
        status = await refusal_by(Reserver(running.channel).acquire, correlation_id=HUGE)
        assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED


# What is not there.


async def test_a_model_that_the_provider_does_not_know_is_told_to_the_first_caller_at_once() -> None:
    templates: dict[str, Any] = {"default": {"model": "gpt-nonesuch"}}
    async with simulator() as sim, gateway_on(sim.url, templates=templates) as running:
        loop = asyncio.get_running_loop()
        began = loop.time()
        status = await running.caller().refused(wait_max_ms=10_000)
        assert (status.code, status.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "UNKNOWN_MODEL")
        assert status.info.metadata["retryable"] == "false"
        assert loop.time() - began < 5
        shown = await Operator(running.channel).pool()
        assert (shown.last_dial_failure, shown.breaker_open) == ("UNKNOWN_MODEL", False)


async def test_a_key_that_the_provider_refuses_is_told_and_shown_and_not_tried_again_soon() -> None:
    async with simulator(faults=(fault_from_text("handshake:status=401"),)) as sim, gateway_on(sim.url) as running:
        reasons = [(await running.caller().refused(wait_max_ms=10_000)).reason for _ in range(4)]
        assert set(reasons) == {"UPSTREAM_REFUSED_KEY"}
        await eventually(lambda: running.pool().key_refused, "it is believed")
        shown = await Operator(running.channel).pool()
        assert (shown.key_refused, shown.last_dial_failure) == (True, "UPSTREAM_REFUSED_KEY")
        before = len(sim.observe()["handshakes"])  # type: ignore[arg-type]
        for _ in range(10):
            await running.caller().refused(wait_max_ms=10_000)
        assert len(sim.observe()["handshakes"]) == before <= 5  # type: ignore[arg-type]


async def test_without_its_redis_a_gateway_starts_and_serves_and_says_that_nothing_is_kept(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    store = {"sealing_keys": [{"id": "k1", "file": str(key)}]}
    redis = {"url": f"unix://{tmp_path}/nobody"}
    async with simulator() as sim, gateway_on(sim.url, redis=redis, store=store, pools=STILL) as running:
        caller = running.caller()
        opened = await caller.open()
        assert opened.durability == types.DURABILITY_NONE
        await caller.answer_please(output_modality=TEXT)
        assert (await caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED
        made = await Reserver(running.channel).acquire()
        assert (await running.caller().open(lease_token=made.lease_token)).source in (
            types.LINE_SOURCE_WARM,
            types.LINE_SOURCE_WAITED,
        )


# Nothing is left.


async def _all_that_is_wrong(running: Running) -> Counter[str]:
    """Do what callers do wrong, once each; return the reasons."""
    openings: tuple[dict[str, Any], ...] = (
        {"audio": b"\0\0"},
        {"control": control.Control(commit=control.CommitAudio())},
        {"bye": session.Bye()},
        {"resume": session.Resume(token="x")},
        {"open": session.Open(template="nonesuch")},
        {"open": session.Open(overrides=control.SessionOverrides(session_json='{"model":"x"}'))},
        {"open": session.Open(overrides=control.SessionOverrides(session_json="{"))},
        {"open": session.Open(overrides=control.SessionOverrides(instructions=LARGE))},
        {"open": session.Open(lease_token="forged")},
        {"open": session.Open(safety_identifier="somebody")},
        {"open": session.Open(history=[session.HistoryItem()])},
        {"open": session.Open(idempotency_key="x")},
        {"open": session.Open(correlation_id="x" * 129)},
    )
    found = Counter[str]()
    for first in openings:
        caller = running.caller()
        await caller.send(**first)
        assert await caller.rest() == []
        found[(await caller.status()).reason] += 1
    silent = running.caller()
    await silent.half_close()
    await silent.rest()
    found[(await silent.status()).reason] += 1
    talking = running.caller()
    await talking.open()
    await talking.send(open=session.Open())
    for raw in ("{", "[]", '{"type":"nonesuch"}', '{"type":"session.update","session":{"model":"x"}}'):
        await talking.ask(raw=control.RawEvent(json=raw))
    await talking.ask()
    await talking.say(LARGE)
    for _ in range(7):
        found[errors.ErrorReason.Name((await talking.until("error")).reason).removeprefix("ERROR_REASON_")] += 1
    await talking.bye(now=True)
    await talking.rest()
    holders = [running.caller() for _ in range(4)]
    for each in holders:
        await each.open()
    waiting = [running.caller() for _ in range(2)]
    for each in waiting:
        await each.send(open=session.Open(wait_max_ms=400))
        await each.until("queued")
    found[(await running.caller().refused()).reason] += 1
    for each in waiting:
        await each.rest()
        found[(await each.status()).reason] += 1
    for each in holders:
        each.cancel()
    return found


@on_linux
async def test_nothing_is_left_of_all_that_callers_do_wrong() -> None:
    async with stack(pools=STILL) as (running, _):
        await _all_that_is_wrong(running)
        files, before = await at_rest(running, WARM)
        found = await _all_that_is_wrong(running)
        files_after, after = await at_rest(running, WARM)
        assert found == {
            "FIRST_FRAME_EXPECTED": 4,
            "NOT_IMPLEMENTED_YET": 1,
            "RESUME_REFUSED": 1,
            "UNKNOWN_TEMPLATE": 1,
            "OVERRIDE_REFUSED": 3,
            "MESSAGE_TOO_LARGE": 2,
            "LEASE_UNKNOWN": 1,
            "SAFETY_IDENTIFIER_REFUSED": 1,
            "INVALID_FRAME": 3,
            "ALREADY_OPEN": 1,
            "INVALID_EVENT_JSON": 3,
            "QUEUE_FULL": 1,
            "POOL_EXHAUSTED": 2,
        }
        assert after - before == Counter()
        assert files_after - files == Counter()
        nothing_is_held(running, WARM)


Moment = Callable[[Caller], Awaitable[object]]


async def _nothing(caller: Caller) -> None:
    """Vanish before the first word."""


async def _asked(caller: Caller) -> None:
    await caller.send(open=session.Open())


async def _opened(caller: Caller) -> None:
    await caller.open()


async def _greeted(caller: Caller) -> None:
    await caller.open(greet=session.Greet())
    await caller.until("audio")


async def _speaking(caller: Caller) -> None:
    await caller.open()
    await caller.speak(speech.questions()[1].pcm)
    await caller.until("speech_started")


async def _answered(caller: Caller) -> None:
    await caller.open()
    await caller.answer_please()
    await caller.until("audio")


async def _leaving(caller: Caller) -> None:
    await _answered(caller)
    await caller.bye()


async def _half_closed(caller: Caller) -> None:
    await _speaking(caller)
    await caller.half_close()


async def _flooding(caller: Caller) -> None:
    await caller.open()
    await caller.speak(speech.questions()[7].pcm * 3)


MOMENTS: Final = (_nothing, _asked, _opened, _greeted, _speaking, _answered, _leaving, _half_closed, _flooding)


@on_linux
async def test_a_caller_may_vanish_at_every_point_and_leaves_nothing() -> None:
    rng = random.Random(3)
    async with stack({"speed": 2.0}, pools=STILL) as (running, _):

        async def everywhere() -> None:
            for moment in rng.sample(MOMENTS, len(MOMENTS)):
                caller = running.caller()
                await moment(caller)
                caller.cancel()
                await running.until_free()
            # And while it waits: in the queue, in the queue with a reservation's token, and for a reservation.
            holders = [running.caller() for _ in range(4)]
            for each in holders:
                await each.open()
            waiter = running.caller()
            await waiter.send(open=session.Open())
            await waiter.until("queued")
            reserving = asyncio.create_task(Reserver(running.channel).acquire())
            await eventually(lambda: running.pool().waiting == 2, "both wait")
            waiter.cancel()
            reserving.cancel()
            await eventually(lambda: running.pool().waiting == 0, "nobody waits")
            for each in holders:
                each.cancel()

        await everywhere()
        files, before = await at_rest(running, WARM)
        await everywhere()
        files_after, after = await at_rest(running, WARM)
        assert after - before == Counter()
        assert files_after - files == Counter()
        nothing_is_held(running, WARM)


@pytest.mark.parametrize("when", ["at once", "before the answer"])
async def test_a_reserving_caller_who_vanishes_leaves_a_unit_that_ends_by_itself(when: str) -> None:
    async with stack(pools=STILL) as (running, provider):
        await running.until_warm(WARM)
        reserver = Reserver(running.channel)
        if when == "at once":
            await reserver.acquire(ttl_seconds=1)
        else:
            asking = asyncio.create_task(reserver.acquire(ttl_seconds=1))
            await asyncio.sleep(0)
            asking.cancel()
        await eventually(lambda: running.pool().reserved == 0, "it ends", seconds=3)
        await running.until_warm(WARM)
        assert all(each["state"] == "open" for each in provider.connections())
