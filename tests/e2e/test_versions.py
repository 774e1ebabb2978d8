"""Gateways and clients of two versions serve one session: this tree's, and those of the formats before it."""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.fleet import Fleet, at_rest, fleet
from tests.support.processes import ROOT, on_linux
from tests.support.proxy import random_proxy
from tests.support.simulated import SimulatedProvider, simulated_provider
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator
from tests.support.tools import tool
from tests.support.versions import PACKAGES, Talker, earlier_commit, earlier_tree, later_tree, runs_from, talker

pytestmark = [on_linux, pytest.mark.heavy, pytest.mark.timeout(120)]
WARM: Final = 2
POOLS: Final = {"default": pool(floor=WARM, ceiling=32, demand={"enabled": False})}
OLD, NEW = "old", "new"
# From one gateway to the next: within a version, to the other, and back with a log that both have written.
CHAINS: Final = [(OLD, OLD, NEW, NEW, OLD), (NEW, NEW, OLD, OLD, NEW)]


@pytest.fixture(scope="module")
def trees() -> Iterator[dict[str, Path]]:
    with earlier_tree() as tree:
        yield {OLD: tree, NEW: ROOT}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedProvider]:
    with simulated_provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@asynccontextmanager
async def gateways(trees: Sequence[Path], provider: SimulatedProvider) -> AsyncIterator[Fleet]:
    assert tool("redis-server")
    environments = [runs_from(each) for each in trees]
    with fleet(len(trees), provider=provider, pools=POOLS, environments=environments) as running:
        channels = [channel_to(each) for each in running.addresses]
        await at_rest([Operator(each) for each in channels], WARM)
        for channel in channels:
            await channel.close()
        yield running


async def restarted(running: Fleet, address: str) -> None:
    """Start a gateway again; the balancer, which is in this loop, goes on meanwhile."""
    await asyncio.to_thread(running.gateways[address].wait)
    await asyncio.to_thread(running.restart(address).says, '"serving"')


@asynccontextmanager
async def talking(trees: Sequence[Path], address: str) -> AsyncIterator[list[Talker]]:
    """Open a session with the client of each tree, and tell the first thing that is to be remembered."""
    async with AsyncExitStack() as stack:
        talkers = [await stack.enter_async_context(talker(tree, address)) for tree in trees]
        for each, tree in zip(talkers, trees, strict=True):
            assert Path((await each.hears())["client"]).is_relative_to(tree)
        await all_say(talkers, "My name is Marcelo.")
        yield talkers


async def all_say(talkers: Sequence[Talker], words: str) -> None:
    async with asyncio.TaskGroup() as turns:
        for each in talkers:
            turns.create_task(each.turn(words))


def all_know_everything(talkers: Sequence[Talker], turns: int) -> None:
    """See that each was answered from what it said first, and has each item and each answer once."""
    for told in (each.told for each in talkers):
        names = [item_id for item_id, _, _ in told["items"]]
        assert len(names) == len(set(names)) == 2 * turns, told
        assert len(told["responses"]) == len(set(told["responses"])) == turns, told
        assert [role for _, role, _ in told["items"]] == ["user", "assistant"] * turns
        assert "Marcelo" in told["items"][-1][2], told
        assert told["gaps"] == 0
        assert told["unrestored"] == []


def owners(talkers: Sequence[Talker]) -> set[str]:
    return {each.told["owner"] for each in talkers}


def test_each_version_runs_what_is_its_own(trees: dict[str, Path]) -> None:
    words = f"import importlib, json; print(json.dumps([importlib.import_module(n).__file__ for n in {PACKAGES}]))"
    for tree in trees.values():
        said = subprocess.run([sys.executable, "-c", words], env=runs_from(tree), capture_output=True, check=True)
        found = json.loads(said.stdout)
        assert all(Path(each).is_relative_to(tree) for each in found), found


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
async def test_a_session_goes_on_from_version_to_version(
    trees: dict[str, Path], provider: SimulatedProvider, chain: Sequence[str]
) -> None:
    async with (
        gateways([trees[each] for each in chain], provider) as running,
        random_proxy(backends := running.addresses[:1]) as address,
        talking([*trees.values()], address) as talkers,
    ):
        turns = 1
        for here, there in itertools.pairwise(running.addresses):
            assert owners(talkers) == {here}
            backends[:] = [here, there]
            async with asyncio.TaskGroup() as asking:
                asking.create_task(all_say(talkers, "What is my name?"))
                await asyncio.sleep(0)  # it is asked; whether the question still comes to `here`, nobody knows
                running.gateways[here].send(signal.SIGKILL)
            all_know_everything(talkers, turns := turns + 1)
            await all_say(talkers, "And what is my name?")
            all_know_everything(talkers, turns := turns + 1)
        assert owners(talkers) == {there}


@pytest.mark.parametrize(("before", "after"), [(OLD, NEW), (NEW, OLD)])
async def test_gateways_are_replaced_one_by_one_and_nobody_is_lost(
    trees: dict[str, Path], provider: SimulatedProvider, before: str, after: str
) -> None:
    async with (
        gateways([trees[before]] * 2, provider) as running,
        random_proxy(running.addresses) as address,
        talking([*trees.values()], address) as talkers,
    ):
        for turns, leaving in enumerate(running.addresses, start=2):
            running.gateways[leaving].send(signal.SIGTERM)
            assert await asyncio.to_thread(running.gateways[leaving].wait) == 0
            running.environments[leaving] = runs_from(trees[after])
            await restarted(running, leaving)
            await all_say(talkers, "What is my name?")
            all_know_everything(talkers, turns)
        assert all(each.told["resumed"] for each in talkers)


async def test_a_session_waits_for_a_gateway_that_can_read_it(provider: SimulatedProvider) -> None:
    with later_tree() as later:
        async with (
            gateways([later, ROOT], provider) as running,
            random_proxy(backends := running.addresses[:1]) as address,
            talking([ROOT], address) as talkers,
        ):
            here, there = running.addresses
            backends.append(there)
            running.gateways[here].send(signal.SIGKILL)
            async with asyncio.TaskGroup() as asking:
                asking.create_task(all_say(talkers, "What is my name?"))
                await asyncio.to_thread(running.gateways[there].says, "STORE_UNAVAILABLE")
                await restarted(running, here)
            all_know_everything(talkers, 2)
            assert owners(talkers) == {here}


def test_a_checkout_without_history_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shallow: list[Any] = [tool("git"), "clone", "--quiet", "--depth", "1", ROOT.as_uri(), tmp_path / "shallow"]
    subprocess.run(shallow, check=True, capture_output=True)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="git fetch --deepen"):
        earlier_commit(tmp_path / "shallow")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="git fetch --deepen"):
        earlier_commit(tmp_path / "shallow")
