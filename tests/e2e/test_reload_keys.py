"""An API key is rotated under running calls, as Kubernetes mounts it: no caller waits, and no call ends."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from trunkline.v1 import types_pb2 as types

from tests.support.calls import Caller
from tests.support.keyed import KeyedProvider, keyed_provider
from tests.support.kubelet import MountedSecret
from tests.support.load import load, outcomes
from tests.support.processes import on_linux
from tests.support.reloading import Reloading, reloading
from tests.support.simulated import simulated_provider
from tests.support.stack import UNLIMITED, channel_to, pool
from tests.support.steering import Operator
from tests.support.store_calls import Call, held
from tests.support.waiting import eventually

pytestmark = on_linux

OLD: Final = "key-that-was-there"
NEW: Final = "key-that-comes-next"
OTHER: Final = "key-of-another-account"
# What was asked for.
USED_SECONDS: Final = 10.0
GONE_SECONDS: Final = 30.0
# A dial that was under way when the key changed.
UNDER_WAY_SECONDS: Final = 2.0
# The simulator says something thirty times a second.
GAP_MAX_SECONDS: Final = 1.0
FLOOR: Final = 8


def pools(floor: int = 2, ceiling: int = 8, **more: Any) -> dict[str, Any]:
    return {"default": pool(floor=floor, ceiling=ceiling, demand={"enabled": False}, **more)}


@dataclass
class Stand:
    """A gateway whose key comes from a mounted secret, and a provider that sees which."""

    gateway: Reloading
    provider: KeyedProvider
    secret: MountedSecret
    channel: grpc.aio.Channel

    @property
    def operator(self) -> Operator:
        return Operator(self.channel)

    async def until_warm(self, lines: int) -> None:
        async with asyncio.timeout(20):
            while (await self.operator.pool()).warm < lines:  # noqa: ASYNC110 it is another process
                await asyncio.sleep(0.05)

    async def until_key_is(self, key: str, seconds: float = USED_SECONDS, lines: int = 1) -> None:
        await eventually(lambda: self.provider.open_with(key) >= lines, "lines come with the key", seconds)

    async def until_gone(self, key: str) -> None:
        await eventually(lambda: self.provider.open_with(key) == 0, "its lines are gone", GONE_SECONDS)


@contextlib.asynccontextmanager
async def stand(simulated: dict[str, Any] | None = None, **changes: Any) -> AsyncIterator[Stand]:
    """Run it. A second account has a key and a target of its own; a template may use them."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        simulator = stack.enter_context(simulated_provider(folder, **(simulated or {})))
        provider = await stack.enter_async_context(keyed_provider(simulator.port))
        secret = MountedSecret(folder / "secret", {"api-key": OLD + "\n", "other-key": OTHER})
        chosen = {
            "accounts": {
                "main": {**UNLIMITED["main"], "key_file": secret.path("api-key")},
                "second": {**UNLIMITED["main"], "key_file": secret.path("other-key")},
            },
            "targets": {"openai": {"url": provider.url}, "second": {"url": provider.url, "accounts": ["second"]}},
            "pools": pools(),
            **changes,
        }
        gateway = stack.enter_context(reloading(provider.url, **chosen))
        channel = await stack.enter_async_context(channel_to(gateway.address))
        yield Stand(gateway, provider, secret, channel)


async def opens(stand: Stand) -> str:
    """Return where a caller's line came from, or why it got none."""
    caller = Caller(stand.channel)
    try:
        return types.LineSource.Name((await caller.open()).source).removeprefix("LINE_SOURCE_")
    except AssertionError:
        return (await caller.status()).reason
    finally:
        caller.cancel()


@pytest.mark.heavy
async def test_a_rotated_key_costs_no_caller_a_hit_and_no_call_its_line() -> None:
    """Lines take a third of a second to open: had the old ones been closed first, callers would wait."""
    simulated = {"speed": 3.0, "created_delay_ms": 300}
    async with stand(simulated, pools=pools(floor=FLOOR, ceiling=32)) as here:
        now = asyncio.get_running_loop().time
        await here.until_warm(FLOOR)
        calls = [Call(here.channel) for _ in range(2)]
        async with held(calls) as enough, load([here.channel], per_second=4) as callers:
            await eventually(lambda: len(callers.came) >= 8, "callers come")
            here.secret.put(**{"api-key": NEW + "\n"})
            swapped_at = now()
            await here.until_key_is(NEW)
            first_new_at = here.provider.came_with(NEW)[0].asked_at
            left = GONE_SECONDS - (now() - swapped_at)
            await eventually(lambda: here.provider.open_with(OLD) <= len(calls), "the old lines are gone", left)
            gone_at = now()
            after = len(callers.came)
            await eventually(lambda: len(callers.came) >= after + 8, "callers come on the new key")
            ended_at = now()
            assert here.provider.open_with(OLD) == len(calls), "the calls have their lines"
            enough.set()
        assert set(outcomes(callers.between(swapped_at, ended_at))) == {"WARM"}, outcomes(callers.came)
        assert len(callers.between(swapped_at, gone_at)) > 0
        assert here.provider.came_with(OLD, first_new_at + UNDER_WAY_SECONDS) == []
        for each in calls:
            assert each.gap(swapped_at, ended_at) < GAP_MAX_SECONDS
            assert each.turns > 0
        assert here.gateway.events("dial_failed") == []


async def test_a_refused_key_is_healed_by_the_next_one() -> None:
    async with stand(pools=pools(wait_max_ms=1000)) as here:
        await here.until_warm(2)
        here.provider.refused.add(OLD)
        async with asyncio.timeout(30):
            while not (await here.operator.pool()).key_refused:
                await opens(here)  # uses up what is warm; what comes after it is refused
        shown = await here.operator.pool()
        assert (shown.breaker_open, shown.last_dial_failure) == (True, "UPSTREAM_REFUSED_KEY")
        assert here.gateway.metric('trunkline_key_refused{account="main"}') == 1
        assert await opens(here) == "UPSTREAM_REFUSED_KEY"
        here.secret.put(**{"api-key": NEW})
        async with asyncio.timeout(USED_SECONDS):
            while await opens(here) not in ("WARM", "WAITED"):  # noqa: ASYNC110 it is another process
                await asyncio.sleep(0.1)
        await here.until_warm(2)
        shown = await here.operator.pool()
        assert (shown.key_refused, shown.breaker_open, shown.last_dial_failure) == (False, False, "")
        assert here.gateway.metric('trunkline_key_refused{account="main"}') == 0


@pytest.mark.heavy
async def test_a_key_that_is_written_in_place_in_two_steps_is_used_when_it_is_whole(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(OLD, "ascii")
    accounts = {name: {**UNLIMITED["main"], "key_file": str(key)} for name in ("main", "second")}
    async with stand(accounts=accounts) as here:
        await here.until_warm(2)
        before = len(here.gateway.events("reload_refused"))
        with key.open("w", encoding="ascii") as file:  # empty from here on
            here.gateway.hang_up()
            why = await here.gateway.refused(before)
            assert "accounts.main.key_file" in why
            await eventually(lambda: here.gateway.configuration() == ("degraded", why), "operators see it")
            assert await opens(here) == "WARM"
            file.write(NEW)
        await here.until_key_is(NEW, lines=2)
        await here.until_gone(OLD)
        await eventually(lambda: here.gateway.configuration() == ("ok", ""), "all is well again")


@pytest.mark.heavy
@pytest.mark.parametrize("content", ["two words", "", None], ids=["words", "empty", "removed"])
async def test_a_key_that_cannot_be_used_changes_nothing_until_a_good_one_comes(content: str | None) -> None:
    async with stand() as here:
        await here.until_warm(2)
        if content is None:
            here.secret.become({"other-key": OTHER})
        else:
            here.secret.put(**{"api-key": content})
        why = await here.gateway.refused(0)
        assert "accounts.main.key_file" in why
        assert content is None or content == "" or content not in why
        assert await opens(here) == "WARM"
        await here.until_warm(2)
        assert here.provider.came_with("two") == []
        here.secret.become({"api-key": NEW, "other-key": OTHER})
        await here.until_key_is(NEW, lines=2)
        await eventually(lambda: here.gateway.configuration() == ("ok", ""), "all is well again")


async def test_a_secret_that_is_mounted_anew_with_the_same_key_replaces_no_line() -> None:
    async with stand() as here:
        await here.until_warm(2)
        here.secret.put(**{"other-key": "changed"})
        await here.gateway.reloaded(0)
        await here.until_warm(2)
        assert len(here.provider.sockets) == here.provider.open_with(OLD) == 2


async def test_only_the_lines_of_the_account_whose_key_changed_are_replaced() -> None:
    two = {**pools(), "other": pools()["default"]}
    async with stand(templates={"default": {}, "other": {"target": "second"}}, pools=two) as here:
        await here.until_key_is(OTHER, lines=2)
        await here.until_warm(2)
        here.secret.put(**{"api-key": NEW})
        await here.until_key_is(NEW, lines=2)
        await here.until_gone(OLD)
        assert len(here.provider.came_with(OTHER)) == here.provider.open_with(OTHER) == 2


@pytest.mark.heavy
async def test_a_new_key_that_is_refused_leaves_callers_on_the_old_lines_until_it_is_put_right() -> None:
    async with stand(pools=pools(floor=4, wait_max_ms=1000)) as here:
        await here.until_warm(4)
        here.provider.refused.add(NEW)
        here.secret.put(**{"api-key": NEW})
        await eventually(lambda: here.provider.refusals[NEW] > 0, "the new key is tried", USED_SECONDS)
        assert await opens(here) == "WARM"
        here.secret.put(**{"api-key": "key-at-last"})
        await here.until_key_is("key-at-last", lines=4)


@pytest.mark.heavy
async def test_a_key_that_comes_back_is_used_again() -> None:
    """A rotation that is rolled back: the lines of the key in between go as well."""
    async with stand() as here:
        await here.until_warm(2)
        for key, gone in ((NEW, OLD), (OLD, NEW)):
            here.secret.put(**{"api-key": key})
            await here.until_key_is(key, lines=2)
            await here.until_gone(gone)
