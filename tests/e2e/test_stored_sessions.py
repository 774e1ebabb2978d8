"""What a caller can read of a session: its own alone, while it runs and for as long as it is kept afterwards."""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import session_pb2_grpc
from trunkline.v1 import types_pb2 as types

from gateway.simulator import speech
from tests.support.calls import SECONDS, Caller, Refusal, refusal_of
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, plain_redis
from tests.support.stack import Running, caller_settings, gateway_on, pool, simulator
from tests.support.steering import Operator
from tests.support.store_calls import WITH_TOOL

TOKENS: Final = {"bot": "token-of-bot", "colleague": "token-of-colleague", "stranger": "token-of-stranger"}
OPERATOR: Final = "token-of-an-operator"
TENANTS: Final = {"bot": "acme", "colleague": "acme", "stranger": "umbrella"}
TEXT: Final = control.SessionOverrides(output_modality=control.OUTPUT_MODALITY_TEXT)
SPOKEN: Final = speech.questions()[0]
KEPT_SECONDS: Final = 60


@dataclass
class Stand:
    """A gateway with three callers of two tenants, on a Redis of its own."""

    running: Running
    redis: RedisServer

    def caller(self, name: str = "bot") -> Caller:
        return self.running.caller(TOKENS[name])

    @property
    def operator(self) -> Operator:
        return Operator(self.running.channel, OPERATOR)

    async def get(self, session_id: str, name: str = "bot") -> session.GetSessionResponse:
        stub: Any = session_pb2_grpc.SessionServiceStub(self.running.channel)
        how = {"timeout": SECONDS, "metadata": (("authorization", f"Bearer {TOKENS[name]}"),)}
        found: session.GetSessionResponse = await stub.GetSession(
            session.GetSessionRequest(session_id=session_id), **how
        )
        return found

    async def refused(self, session_id: str, name: str = "bot") -> Refusal:
        try:
            found = await self.get(session_id, name)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
        raise AssertionError(f"it was answered: {found}")


@contextlib.asynccontextmanager
async def stand(retention_seconds: int = KEPT_SECONDS, **changes: Any) -> AsyncIterator[Stand]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        redis = stack.enter_context(plain_redis())
        sim = await stack.enter_async_context(simulator())
        sections = {
            "redis": redis.settings["redis"],
            "store": {**redis.settings["store"], "retention_seconds": retention_seconds},
            "callers": [
                caller_settings(folder, token, "converse", name=name, tenant=TENANTS[name])
                for name, token in TOKENS.items()
            ]
            + [caller_settings(folder, OPERATOR, "read", "admin", name="operator")],
            "pools": {"default": pool(floor=2, demand={"enabled": False})},
            "grpc": {"address": f"127.0.0.1:{free_port()}", "advertise": "gateway-7:50051"},
            **changes,
        }
        running = await stack.enter_async_context(gateway_on(sim.url, insecure_dev=False, **sections))
        yield Stand(running, redis)


async def text_turn(caller: Caller, words: str) -> str:
    """Ask and be answered; return the answer."""
    await caller.say(words)
    await caller.answer_please()
    await caller.until("response_done")
    answer: str = [each.text for each in caller.all("item_done") if each.role == "assistant"][-1]
    return answer


async def ends(caller: Caller) -> None:
    await caller.bye()
    await caller.rest()


async def test_a_running_session_is_shown_with_its_words_marks_and_tokens() -> None:
    async with stand() as here:
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
    async with stand() as here:
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


@pytest.mark.parametrize("how", ["half close", "bye now", "killed", "expired"])
async def test_a_session_is_shown_as_ended_however_it_ended(how: str) -> None:
    async with stand() as here:
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
    async with stand(retention_seconds=0) as here:
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


async def refusal_for(here: Stand, name: str) -> Refusal | None:
    """Return how it is refused; None = it is answered still."""
    try:
        await here.get(name)
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    return None


@pytest.mark.parametrize("when", ["running", "ended"])
async def test_anothers_session_is_refused_exactly_as_one_that_never_was(when: str) -> None:
    async with stand() as here:
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


async def test_a_spoken_turn_is_shown_with_its_transcript() -> None:
    async with stand() as here:
        caller = here.caller()
        name = (await caller.open()).session_id
        await caller.speak(SPOKEN.pcm)
        await caller.speak(bytes(48_000 * 2))
        await caller.until("response_done")
        while not any(each.final for each in caller.all("user_transcript")):
            assert await caller.read() is not None
        found = await here.get(name)
        user, model = found.items
        assert (user.role, user.text) == (control.ROLE_USER, SPOKEN.text)
        assert model.role == control.ROLE_ASSISTANT
        assert model.text == [each.text for each in caller.all("item_done") if each.role == "assistant"][-1] != ""
        assert user.item_id == next(each.item_id for each in caller.all("user_transcript") if each.final)
        await ends(caller)
        assert [each.text for each in (await here.get(name)).items] == [user.text, model.text]


async def test_a_function_call_is_shown_with_its_name_and_its_result_with_the_call() -> None:
    async with stand() as here:
        caller = here.caller()
        name = (await caller.open(overrides=WITH_TOOL)).session_id
        await caller.say("What is the weather in London?")
        await caller.answer_please()
        called = await caller.until("tool_call")
        await caller.until("response_done")
        await caller.ask(tool_result=control.ToolResult(call_id=called.call_id, output="Foggy", create_response=True))
        await caller.until("response_done")
        found = await here.get(name)
        assert [each.type for each in found.items] == ["message", "function_call", "function_call_output", "message"]
        call, result = found.items[1:3]
        assert (call.call_id, call.name) == (called.call_id, "get_weather")
        assert result.type == "function_call_output"


async def test_history_that_was_given_at_the_opening_is_shown_first() -> None:
    async with stand() as here:
        caller = here.caller()
        history = [
            session.HistoryItem(text="My name is Ada.", role=control.ROLE_USER),
            session.HistoryItem(text="Hello, Ada.", role=control.ROLE_ASSISTANT),
        ]
        name = (await caller.open(overrides=TEXT, history=history)).session_id
        answer = await text_turn(caller, "Go on")
        found = await here.get(name)
        assert [each.text for each in found.items] == ["My name is Ada.", "Hello, Ada.", "Go on", answer]


async def test_who_waits_has_no_more_than_a_state() -> None:
    async with stand(pools={"default": pool(floor=1, ceiling=1, wait_max_ms=20_000)}) as here:
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
    async with stand() as here:
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
    async with stand() as here:
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
