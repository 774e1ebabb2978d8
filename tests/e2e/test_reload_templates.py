"""Templates change, come, go and move under running calls: nobody is refused for it, and nobody is cut."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from tests.support.calls import Caller
from tests.support.load import load, outcomes
from tests.support.processes import on_linux
from tests.support.reloading import Reloading, reloading
from tests.support.simulated import SimulatedProvider, simulated_provider
from tests.support.stack import UNLIMITED, channel_to, pool
from tests.support.steering import Operator, Reserver, refusal_by
from tests.support.store_calls import Call, held
from tests.support.waiting import eventually

pytestmark = on_linux

FORMAT: Final = {"type": "audio/pcm", "rate": 24_000}
STILL: Final = pool(floor=2, ceiling=12, demand={"enabled": False})
GONE_SECONDS: Final = 30.0
GAP_MAX_SECONDS: Final = 1.0


def template(model: str = "gpt-realtime-2.1", **more: Any) -> dict[str, Any]:
    target = more.pop("target", "openai")
    audio = {"input": {"format": FORMAT}, "output": {"format": FORMAT, "voice": "marin"}}
    return {"target": target, "model": model, "session": {"audio": audio, **more}, "recovery": {"user_turns": "none"}}


@dataclass
class Stand:
    """A gateway with one template, which a test changes."""

    gateway: Reloading
    provider: SimulatedProvider
    channel: grpc.aio.Channel
    folder: Path

    @property
    def operator(self) -> Operator:
        return Operator(self.channel)

    def caller(self) -> Caller:
        return Caller(self.channel, deadline_seconds=120)

    async def until_warm(self, lines: int = 2, name: str = "default") -> None:
        """Wait until a pool is there, and has so many lines ready."""
        async with asyncio.timeout(20):
            while not any(each.name == name and each.warm >= lines for each in await self.operator.pools()):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def open_lines(self) -> list[dict[str, Any]]:
        told = await asyncio.to_thread(self.provider.observe)
        return [each for each in told["connections"] if each["state"] == "open"]

    async def until_lines(self, count: int, model: str = "") -> None:
        """Wait until so many lines are open, of one model or of any."""
        async with asyncio.timeout(GONE_SECONDS):
            while sum(model in ("", each["model"]) for each in await self.open_lines()) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def stand(simulated: dict[str, Any] | None = None, **changes: Any) -> AsyncIterator[Stand]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        provider = stack.enter_context(simulated_provider(folder, **(simulated or {})))
        chosen = {"templates": {"default": template()}, "pools": {"default": STILL}, **changes}
        gateway = stack.enter_context(reloading(provider.url, **chosen))
        channel = await stack.enter_async_context(channel_to(gateway.address))
        here = Stand(gateway, provider, channel, folder)
        await here.until_warm()
        yield here


async def has_turn(caller: Caller) -> None:
    await caller.say("Hello there")
    await caller.answer_please()
    assert (await caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED


async def settles(here: Stand, name: str = "default") -> session.Opened:
    """Return what a caller gets when every line is of the newest version."""
    async with asyncio.timeout(GONE_SECONDS):
        while True:
            caller = here.caller()
            opened = await caller.open(template=name)
            caller.cancel()
            if opened.config == session.CONFIG_STATE_APPLIED:
                return opened
            await asyncio.sleep(0.1)


async def test_a_new_version_is_on_the_shelf_soon_and_calls_keep_their_lines() -> None:
    async with stand() as here:
        running = here.caller()
        before = (await running.open()).template_version
        await here.until_warm()
        await here.gateway.follow(templates={"default": template(instructions="Be brief.")})
        shown = await here.operator.pool()
        assert shown.template_version != before
        caller = here.caller()
        opened = await caller.open()
        assert (opened.template_version, opened.source) == (shown.template_version, types.LINE_SOURCE_WARM)
        await has_turn(caller)
        caller.cancel()
        assert (await settles(here)).template_version == shown.template_version
        await here.until_warm()
        await here.until_lines(3)
        await has_turn(running)


async def test_limits_that_an_operator_has_set_stay_until_the_file_says_otherwise() -> None:
    async with stand() as here:
        await here.operator.set_limits(floor=3, ceiling=9)
        await here.gateway.follow(templates={"default": template(instructions="Be brief.")})
        shown = await here.operator.pool()
        assert (shown.floor, shown.ceiling) == (3, 9)
        await here.until_warm(3)
        await here.gateway.follow(pools={"default": {**STILL, "ceiling": 10}})
        shown = await here.operator.pool()
        assert (shown.floor, shown.ceiling) == (2, 10)


ADDED: Final = pytest.mark.parametrize("model", ["gpt-realtime-2.1", "gpt-realtime-2.1-mini"], ids=["class", "model"])


@pytest.mark.heavy
@ADDED
async def test_a_template_comes_and_goes_and_nothing_else_changes(model: str) -> None:
    async with stand() as here:
        running, reserver = here.caller(), Reserver(here.channel)
        await running.open()
        made = await reserver.acquire(ttl_seconds=60)
        await here.operator.set_limits(waiters_max=7)
        assert (await here.caller().refused(template="other")).reason == "UNKNOWN_TEMPLATE"
        both = {"default": template(), "other": template(model, instructions="Be brief.")}
        await here.gateway.follow(templates=both, pools={"default": STILL, "other": STILL})
        await here.until_warm(name="other")
        guest = here.caller()
        assert (await guest.open(template="other")).template == "other"
        await here.gateway.follow(templates={"default": both["default"]}, pools={"default": STILL})
        assert (await here.caller().refused(template="other")).reason == "UNKNOWN_TEMPLATE"
        leases = {each.pool for each in await here.operator.leases()}
        assert leases == {"default", "other"}, "operators see the call of a template that is gone"
        for each in (guest, running):
            await has_turn(each)
        await guest.bye()
        await guest.rest()
        assert guest.all("closed")[0].reason == event.CLOSED_REASON_BYE
        late = here.caller()
        assert (await late.open(lease_token=made.lease_token)).source == types.LINE_SOURCE_WARM
        await eventually(lambda: "pool:other" not in here.gateway.ready()["components"], "it is shown no more", 20)
        await here.until_lines(4, "")  # two calls and the floor


async def test_a_pause_outlives_a_change_elsewhere() -> None:
    async with stand() as here:
        await here.operator.pause()
        both = {"default": template(), "other": template(instructions="Be brief.")}
        await here.gateway.follow(templates=both, pools={"default": STILL, "other": STILL})
        assert (await here.operator.pool()).paused
        assert (await here.caller().refused()).reason == "POOL_PAUSED"
        await here.operator.unpause()
        assert (await here.caller().open()).source == types.LINE_SOURCE_WARM


@pytest.mark.heavy
@pytest.mark.parametrize("where", ["model", "target"])
async def test_a_template_that_moves_refuses_no_caller_and_cuts_no_call(where: str) -> None:
    floor = {"default": {**STILL, "floor": 8, "ceiling": 32}}
    async with stand({"speed": 3.0, "created_delay_ms": 300}, pools=floor) as here:
        await here.until_warm(8)
        other = here.folder / "other"
        other.mkdir()
        with simulated_provider(other, speed=3.0, created_delay_ms=300) as elsewhere:
            now = asyncio.get_running_loop().time
            calls = [Call(here.channel) for _ in range(2)]
            targets = {"openai": {"url": here.provider.url}, "elsewhere": {"url": elsewhere.url}}
            after = {
                "model": template("gpt-realtime-2.1-mini"),
                "target": template(target="elsewhere"),
            }[where]
            async with held(calls) as enough, load([here.channel], per_second=4) as callers:
                await eventually(lambda: len(callers.came) >= 4, "callers come")
                moved_at = now()
                await here.gateway.follow(targets=targets, templates={"default": after})
                moved = len(callers.came)
                await eventually(lambda: len(callers.came) >= moved + 60, "they come to the new lines", 40)
                ended_at = now()
                enough.set()
            found = outcomes(callers.between(moved_at, ended_at))
            assert set(found) == {"WARM"}, found
            for each in calls:
                assert each.gap(moved_at, ended_at) < GAP_MAX_SECONDS
            if where == "model":
                await here.until_lines(8, "gpt-realtime-2.1-mini")
                await here.until_lines(8)
            else:
                await here.until_lines(0)


@pytest.mark.heavy
async def test_who_rings_when_a_template_moves_is_still_answered() -> None:
    async with stand() as here:
        made = await Reserver(here.channel).acquire(ttl_seconds=60)
        await here.gateway.follow(templates={"default": template("gpt-realtime-2.1-mini")})
        caller = here.caller()
        opened = await caller.open(lease_token=made.lease_token)
        assert opened.source == types.LINE_SOURCE_WARM
        await has_turn(caller)
        await caller.bye()
        await caller.rest()
        await here.until_lines(2, "gpt-realtime-2.1-mini")
        await here.until_lines(2)


async def test_a_target_that_is_put_right_serves_at_once() -> None:
    wrong = {"openai": {"url": "ws://127.0.0.1:19999/v1/realtime"}}
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        provider = stack.enter_context(simulated_provider(folder))
        gateway = stack.enter_context(reloading(provider.url, targets=wrong, pools={"default": STILL}))
        channel = await stack.enter_async_context(channel_to(gateway.address))
        operator = Operator(channel)
        async with asyncio.timeout(20):
            while not (await operator.pool()).breaker_open:  # noqa: ASYNC110 it is another process
                await asyncio.sleep(0.05)
        await gateway.follow(targets={"openai": {"url": provider.url}})
        async with asyncio.timeout(10):
            while (await operator.pool()).warm < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert not (await operator.pool()).breaker_open


@pytest.mark.heavy
async def test_a_template_that_gets_no_line_is_told_and_holds_nothing_else_up(tmp_path: Path) -> None:
    """Neither the calls of others nor the next change."""
    key = tmp_path / "key"
    key.write_text("key-that-was-there", "ascii")
    accounts = {"main": {**UNLIMITED["main"], "key_file": str(key)}}
    async with stand(accounts=accounts) as here:
        both = {"default": template(), "bad": template("no-such-model")}
        here.gateway.write(templates=both, pools={"default": STILL, "bad": STILL})
        here.gateway.hang_up()
        await eventually(lambda: here.gateway.events("dial_failed"), "the bad one is dialled")
        key.write_text("key-that-comes-next", "ascii")
        swapped_at = asyncio.get_running_loop().time()
        async with asyncio.timeout(20):
            while (await asyncio.to_thread(here.provider.observe))["totals"]["accepted"] < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert asyncio.get_running_loop().time() - swapped_at < 10.0, "the new key is used in time"
        await eventually(lambda: "pool:bad" in here.gateway.ready()["components"], "it is shown", 20)
        shown = here.gateway.ready()["components"]["pool:bad"]
        assert (shown["status"], "UNKNOWN_MODEL" in shown["reason"]) == ("degraded", True)
        async with asyncio.timeout(15):  # nobody is sent there before it has a line, or has had its time for one
            while (  # noqa: ASYNC110 it is another process
                reason := (await here.caller().refused(template="bad")).reason
            ) == "UNKNOWN_TEMPLATE":
                await asyncio.sleep(0.2)
        assert reason == "UNKNOWN_MODEL"
        assert (await here.caller().open()).source == types.LINE_SOURCE_WARM
        await here.gateway.follow(templates={"default": both["default"]}, pools={"default": STILL})
        await eventually(lambda: "pool:bad" not in here.gateway.ready()["components"], "it is shown no more", 20)
        assert (await refusal_by(here.operator.pause, "bad")).reason == "UNKNOWN_TEMPLATE"
