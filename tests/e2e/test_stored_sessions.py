"""What a caller can read of a session: its own alone, while it runs and for as long as it is kept afterwards."""

import asyncio
import time

import grpc
import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from tests.support.calls import SECONDS, Refusal, refusal_of
from tests.support.stack import pool, stack
from tests.support.stored import KEPT_SECONDS, TEXT, TOKENS, Keeping, ends, keeping, session_of, text_turn


async def test_a_running_session_is_shown_with_its_words_marks_and_tokens() -> None:
    async with keeping() as here:
        caller, began_ms = here.caller(), time.time() * 1000
        marks = {"queue": "billing", "größe": "groß"}
        name = (await caller.open(overrides=TEXT, correlation_id="c-1", metadata=marks)).session_id
        answer = await text_turn(caller, "What is the weather in London?")
        found = await here.get(name)
        assert (found.session_id, found.state, found.template) == (name, types.SESSION_STATE_ACTIVE, "default")
        assert (found.owner_address, found.correlation_id, dict(found.metadata)) == ("gateway-7:50051", "c-1", marks)
        assert [(each.type, each.role, each.text) for each in found.items] == [
            ("message", control.ROLE_USER, "What is the weather in London?"),
            ("message", control.ROLE_ASSISTANT, answer),
        ]
        assert [each.item_id for each in found.items] == [each.item_id for each in caller.all("item_done")]
        assert found.usage == caller.all("response_done")[-1].usage
        assert found.usage.output_tokens > 0
        assert began_ms - 1000 <= found.opened_at_unix_ms <= time.time() * 1000
        assert found.seq == max(each.seq for each in caller.seen)
        assert [each.seq for each in found.items] == sorted(each.seq for each in found.items)


async def test_an_ended_session_is_shown_for_as_long_as_it_is_kept() -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open(overrides=TEXT, correlation_id="c-1")).session_id
        answer = await text_turn(caller, "What is the weather in London?")
        await ends(caller)
        found = await here.get(name)
        assert (found.state, found.correlation_id) == (types.SESSION_STATE_CLOSED, "c-1")
        assert [each.text for each in found.items] == ["What is the weather in London?", answer]
        assert found.usage == caller.all("closed")[0].usage
        assert found.usage.output_tokens > 0
        with here.redis.client() as client:
            lives = [client.ttl(key) for key in client.scan_iter() if name.encode() in key]
        assert len(lives) == 2
        assert all(0 < each <= KEPT_SECONDS for each in lives)


async def test_a_session_whose_caller_hung_up_is_shown_as_ended() -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open(overrides=TEXT)).session_id
        await text_turn(caller, "What is the weather in London?")
        used = (await here.get(name)).usage
        caller.cancel()
        async with asyncio.timeout(10):
            while (found := await here.get(name)).state != types.SESSION_STATE_CLOSED:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert found.usage == used


@pytest.mark.parametrize("how", ["half close", "bye now", "killed", "expired"])
async def test_a_session_is_shown_as_ended_however_it_ended(how: str) -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open(overrides=TEXT, life_max_seconds=3 if how == "expired" else 0)).session_id
        await text_turn(caller, "What is the weather in London?")
        used = (await here.get(name)).usage
        match how:
            case "half close":
                await caller.half_close()
            case "bye now":
                await caller.bye(now=True)
            case "killed":
                assert await here.operator.kill(name, "enough")
        async with asyncio.timeout(10):
            while (found := await here.get(name)).state != types.SESSION_STATE_CLOSED:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert found.usage == used
        assert len(found.items) == 2


async def test_without_retention_an_ended_session_is_as_unknown_as_one_that_never_was() -> None:
    async with keeping(retention_seconds=0) as here:
        caller = here.caller()
        name = (await caller.open()).session_id
        assert (await here.get(name)).session_id == name
        await ends(caller)
        async with asyncio.timeout(5):
            while (status := await refusal_for(here, name)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (status.code, status.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SESSION")
        with here.redis.client() as client:
            assert not [key for key in client.scan_iter() if name.encode() in key]


async def refusal_for(here: Keeping, name: str) -> Refusal | None:
    """Return how it is refused; None = it is answered still."""
    try:
        await here.get(name)
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    return None


@pytest.mark.parametrize("when", ["running", "ended"])
async def test_anothers_session_is_refused_exactly_as_one_that_never_was(when: str) -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open(overrides=TEXT)).session_id
        await text_turn(caller, "What is the weather in London?")
        if when == "ended":
            await ends(caller)
        told = [
            await here.refused(asked, who)
            for who in TOKENS
            for asked in ("sess_never-was", "sess_" + "x" * 20, "", "lease_x", name.upper(), "a/b", "*", "x" * 10_000)
        ]
        told += [await here.refused(name, "colleague"), await here.refused(name, "stranger")]
        assert told == [told[0]] * len(told)
        assert (told[0].code, told[0].reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SESSION")
        assert name not in told[0].text
        assert (await here.get(name)).session_id == name


async def test_who_waits_has_no_more_than_a_state() -> None:
    async with keeping(pools={"default": pool(floor=1, ceiling=1, wait_max_ms=20_000)}) as here:
        holder, waiter = here.caller(), here.caller()
        await holder.open()
        await waiter.send(open=session.Open())
        await waiter.until("queued")
        (name,) = [
            each.session_id for each in await here.operator.sessions() if each.state == types.SESSION_STATE_OPENING
        ]
        found = await here.get(name)
        assert (found.state, list(found.items), found.seq) == (types.SESSION_STATE_OPENING, [], 0)
        assert (await here.refused(name, "colleague")).reason == "UNKNOWN_SESSION"


async def test_without_its_store_a_gateway_says_so_soon_and_to_everybody_alike() -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open(overrides=TEXT)).session_id
        await text_turn(caller, "What is the weather in London?")
        here.redis.kill()
        loop = asyncio.get_running_loop()
        began = loop.time()
        told = [await here.refused(name, "colleague"), await here.refused("sess_never-was", "stranger")]
        for each in told:
            assert (each.code, each.reason) == (grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert name not in each.text
        assert told[0].info.metadata["retryable"] == "true"
        assert loop.time() - began < SECONDS
        mine = await refusal_for(here, name)
        assert mine is None or mine.reason == "STORE_UNAVAILABLE"
        await text_turn(caller, "And in Paris?")
        here.redis.start()
        async with asyncio.timeout(20):
            while await refusal_for(here, name) is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.2)


async def test_many_who_ask_while_the_store_stands_still_are_all_answered_in_time() -> None:
    async with keeping() as here:
        caller = here.caller()
        name = (await caller.open(overrides=TEXT)).session_id
        await here.get(name)
        loop = asyncio.get_running_loop()
        with here.redis.frozen():
            began = loop.time()
            told = await asyncio.gather(*(here.refused(name, who) for who in list(TOKENS)[1:] * 10))
            took = loop.time() - began
        assert {each.reason for each in told} == {"STORE_UNAVAILABLE"}
        assert took < SECONDS / 2


async def test_an_embedded_store_keeps_sessions_as_long_as_it_is_told() -> None:
    async with stack(store={"retention_seconds": KEPT_SECONDS}) as (running, _):
        caller = running.caller()
        name = (await caller.open(overrides=TEXT)).session_id
        answer = await text_turn(caller, "What is the weather in London?")
        await ends(caller)
        found = await session_of(running.channel, name)
        assert (found.state, found.items[-1].text) == (types.SESSION_STATE_CLOSED, answer)
