"""Who may call changes while the gateway runs: at once for new calls, and soon for those that run."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import errors_pb2 as errors
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import lease_pb2 as lease
from trunkline.v1 import lease_pb2_grpc

from tests.support.calls import Caller, Refusal, refusal_of
from tests.support.processes import on_linux
from tests.support.reloading import Reloading, reloading
from tests.support.simulated import simulated_provider
from tests.support.stack import caller_settings, channel_to
from tests.support.steering import Operator, Reserver, refusal_by
from tests.support.waiting import eventually

pytestmark = on_linux

# What was asked for; the gateway gives half of it.
EXPELLED_SECONDS: Final = 60.0
TOKENS: Final = {"stays": "token-that-stays", "goes": "token-that-goes"}


@dataclass
class Stand:
    """A gateway with two callers."""

    gateway: Reloading
    channel: grpc.aio.Channel
    folder: Path

    def settings(self, *names: str, rights: tuple[str, ...] = ("converse", "read")) -> list[dict[str, Any]]:
        return [caller_settings(self.folder, TOKENS[name], *rights, name=name) for name in names]

    def caller(self, name: str) -> Caller:
        return Caller(self.channel, TOKENS[name], deadline_seconds=120)

    async def refused(self, token: str) -> str:
        return (await Caller(self.channel, token).refused()).reason


@contextlib.asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        provider = stack.enter_context(simulated_provider(folder))
        callers = [caller_settings(folder, token, "converse", "read", name=name) for name, token in TOKENS.items()]
        gateway = stack.enter_context(reloading(provider.url, insecure_dev=False, callers=callers))
        yield Stand(gateway, await stack.enter_async_context(channel_to(gateway.address)), folder)


async def has_turn(caller: Caller) -> None:
    await caller.say("Hello there")
    await caller.answer_please()
    assert (await caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED


async def talk_until_cut(caller: Caller) -> None:
    """Have one turn after the other until the stream ends."""
    while not caller.all("closed"):
        await caller.say("Hello there")
        await caller.answer_please()
        while (message := await caller.read()) is not None:
            if message.WhichOneof("message") in ("response_done", "closed"):
                break
        await asyncio.sleep(0.5)


async def test_a_caller_that_is_added_may_call_and_the_others_do_not_notice() -> None:
    async with stand() as here:
        running = here.caller("goes")
        await running.open()
        assert await here.refused("token-of-a-third") == "UNAUTHENTICATED"
        third = caller_settings(here.folder, "token-of-a-third", "converse", name="third")
        await here.gateway.follow(callers=[*here.settings("stays", "goes"), third])
        async with contextlib.AsyncExitStack() as stack:
            caller = Caller(here.channel, "token-of-a-third")
            stack.callback(caller.cancel)
            await caller.open()
            await has_turn(caller)
        await has_turn(running)
        assert running.all("go_away") == []


@pytest.mark.heavy
async def test_a_caller_that_is_taken_away_is_told_and_its_session_ends() -> None:
    async with stand() as here:
        now = asyncio.get_running_loop().time
        going, staying = here.caller("goes"), here.caller("stays")
        await going.open()
        await staying.open()
        await here.gateway.follow(callers=here.settings("stays"))
        removed_at = now()
        assert await here.refused(TOKENS["goes"]) == "UNAUTHENTICATED"
        told = await going.until("go_away")
        assert told.reason == "credentials_expire"
        assert 0 < told.deadline_ms <= EXPELLED_SECONDS * 1000
        async with asyncio.timeout(EXPELLED_SECONDS - (now() - removed_at)):
            await talk_until_cut(going)
        (closed,) = going.all("closed")
        assert (closed.reason, closed.error.reason) == (
            event.CLOSED_REASON_REFUSED,
            errors.ERROR_REASON_UNAUTHENTICATED,
        )
        status = await going.status()
        assert (status.code, status.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
        assert now() - removed_at >= told.deadline_ms / 1000 - 2
        await has_turn(staying)
        assert staying.all("go_away") == []


@pytest.mark.heavy
async def test_a_caller_that_is_put_back_in_time_keeps_its_session() -> None:
    """As when somebody saves half of a list, and then all of it."""
    async with stand() as here:
        going = here.caller("goes")
        await going.open()
        await here.gateway.follow(callers=here.settings("stays"))
        told = await going.until("go_away")
        await here.gateway.follow(callers=here.settings("stays", "goes"))
        ends_at = asyncio.get_running_loop().time() + told.deadline_ms / 1000 + 3
        while asyncio.get_running_loop().time() < ends_at:
            await has_turn(going)
            await asyncio.sleep(1.0)


async def test_a_token_is_rotated_under_a_running_session() -> None:
    async with stand() as here:
        running = here.caller("goes")
        await running.open()
        renewed = caller_settings(here.folder, "token-that-is-new", "converse", "read", name="goes")
        assert renewed in here.gateway.content["callers"], "only the file has changed"
        await eventually(lambda: here.gateway.events("reloaded"), "it follows by itself")
        assert await here.refused(TOKENS["goes"]) == "UNAUTHENTICATED"
        fresh = Caller(here.channel, "token-that-is-new")
        await fresh.open()
        await has_turn(fresh)
        fresh.cancel()
        await has_turn(running)
        assert running.all("go_away") == []


async def test_two_tokens_of_one_caller_hold_while_it_changes_from_one_to_the_other() -> None:
    async with stand() as here:
        both = [
            *here.settings("stays"),
            caller_settings(here.folder, "token-that-is-new", "converse", "read", name="stays-2") | {"name": "stays"},
        ]
        running = here.caller("stays")
        await running.open()
        await here.gateway.follow(callers=both)
        for token in (TOKENS["stays"], "token-that-is-new"):
            caller = Caller(here.channel, token)
            await caller.open()
            caller.cancel()
        await here.gateway.follow(callers=both[1:])
        assert await here.refused(TOKENS["stays"]) == "UNAUTHENTICATED"
        await has_turn(running)
        assert running.all("go_away") == []


async def test_a_right_that_is_taken_away_is_gone_and_one_that_is_given_is_there() -> None:
    async with stand() as here:
        operator = Operator(here.channel, TOKENS["stays"])
        assert await operator.pools()
        await here.gateway.follow(callers=here.settings("stays", rights=("converse",)))
        assert (await refusal_by(operator.pools)).reason == "NOT_PERMITTED"
        await here.gateway.follow(callers=here.settings("stays", rights=("admin",)))
        assert await operator.pools()
        assert await here.refused(TOKENS["stays"]) == "NOT_PERMITTED"


async def end_of(call: Any) -> Refusal:
    """Read to the end of a call that the gateway ends; return how it did."""
    try:
        async with asyncio.timeout(10):
            while await call.read() is not grpc.aio.EOF:
                pass
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError("it ended in order")


async def test_an_operator_that_is_taken_away_watches_no_longer() -> None:
    async with stand() as here:
        watching = Operator(here.channel, TOKENS["goes"]).watch(interval_ms=100)
        assert (await watching.read()).pools
        await here.gateway.follow(callers=here.settings("stays"))
        assert (await end_of(watching)).reason == "UNAUTHENTICATED"


async def test_a_caller_that_is_taken_away_keeps_no_reservation_alive() -> None:
    async with stand() as here:
        made = await Reserver(here.channel, TOKENS["goes"]).acquire()
        stub: Any = lease_pb2_grpc.LeaseServiceStub(here.channel)
        call = stub.KeepAlive(metadata=(("authorization", f"Bearer {TOKENS['goes']}"),), timeout=30)
        await call.write(lease.KeepAliveRequest(lease_token=made.lease_token))
        assert (await call.read()).ttl_seconds > 0
        await here.gateway.follow(callers=here.settings("stays"))
        await call.write(lease.KeepAliveRequest(lease_token=made.lease_token))
        assert (await end_of(call)).reason == "UNAUTHENTICATED"


@pytest.mark.parametrize("content", ["", "beef", None], ids=["empty", "short", "gone"])
async def test_a_token_file_that_cannot_be_used_takes_nobodys_right(content: str | None) -> None:
    async with stand() as here:
        file = here.folder / "goes.sha256"
        if content is None:
            file.unlink()
        else:
            file.write_text(content, "ascii")
        why = await here.gateway.refused(0)
        assert "callers.goes.token_sha256_file" in why
        for name in TOKENS:
            caller = here.caller(name)
            await caller.open()
            caller.cancel()
        here.settings("goes")  # writes it again
        await eventually(lambda: here.gateway.configuration() == ("ok", ""), "all is well again")


async def test_a_gateway_is_never_left_without_anybody_who_may_call() -> None:
    async with stand() as here:
        here.gateway.write(callers=[])
        assert "nobody may call" in await here.gateway.refused(0)
        caller = here.caller("stays")
        await caller.open()
        caller.cancel()
