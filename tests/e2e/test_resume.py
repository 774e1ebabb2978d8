"""A conversation goes on when its stream, or its gateway, is lost: real processes, the Python client, a balancer."""

import asyncio
import json
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from trunkline.v1 import control_pb2
from trunkline_client import AsyncClient, TrunklineError
from trunkline_client._aio_session import AsyncSession
from trunkline_client.events import ItemDone, ResponseDone, Resumed, StateChanged

from tests.support.fleet import Fleet, at_rest, fleet
from tests.support.processes import on_linux
from tests.support.proxy import random_proxy
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator
from tests.support.tools import tool

pytestmark = [on_linux, pytest.mark.timeout(120)]
WARM: Final = 4
POOLS: Final = {"default": pool(floor=WARM, ceiling=32, demand={"enabled": False})}
TEXT: Final = control_pb2.SessionOverrides(output_modality=control_pb2.OUTPUT_MODALITY_TEXT)


@dataclass
class Talk:
    """One session, what came of it, and when."""

    session: AsyncSession
    seqs: list[int] = field(default_factory=list)
    items: list[ItemDone] = field(default_factory=list)
    resumed: list[Resumed] = field(default_factory=list)
    unrestored: list[str] = field(default_factory=list)

    async def until(self, kind: type[object], seconds: float = 20.0) -> object:
        async with asyncio.timeout(seconds):
            async for event in self.session:
                if isinstance(event, ItemDone):
                    self.items.append(event)
                elif isinstance(event, Resumed):
                    self.resumed.append(event)
                elif isinstance(event, StateChanged):
                    self.unrestored += event.unrestored_items
                if isinstance(event, kind):
                    return event
        raise AssertionError(f"the session ended before {kind}")

    async def turn(self, words: str) -> str:
        await self.session.send_text(words)
        await self.session.create_response()
        await self.until(ResponseDone)
        return [each.text for each in self.items if each.role == "assistant"][-1]


@asynccontextmanager
async def gateways(count: int, **changes: Any) -> AsyncIterator[Fleet]:
    assert tool("redis-server")
    with fleet(count, pools=POOLS, **changes) as running:
        channels = [channel_to(each) for each in running.addresses]
        await at_rest([Operator(each) for each in channels], WARM)
        yield running
        for channel in channels:
            await channel.close()


async def test_a_conversation_goes_on_at_another_gateway_when_its_own_is_killed() -> None:
    async with (
        gateways(2) as running,
        random_proxy(running.addresses) as address,
        AsyncClient(address) as client,
        client.open(resumable=True, overrides=TEXT) as session,
    ):
        talk = Talk(session)
        await talk.turn("My name is Marcelo.")
        running.gateways[session.opened.owner_address].send(signal.SIGKILL)
        answer = await talk.turn("What is my name?")
        assert "Marcelo" in answer
        (resumed,) = talk.resumed
        assert not resumed.HasField("gap")
        assert resumed.owner_address != session.opened.owner_address
        assert talk.unrestored == []
        names = [each.item_id for each in talk.items]
        assert len(names) == len(set(names)) == 4, "each item once"


async def all_go_on(talks: list[Talk], there: list[Talk], running: Fleet, leaving: str) -> None:
    """Stop a gateway; those who are there go on elsewhere, and nobody has forgotten anything."""
    running.gateways[leaving].send(signal.SIGTERM)
    for talk in there:
        resumed = await talk.until(Resumed)
        assert isinstance(resumed, Resumed)
        assert resumed.owner_address != leaving
        assert not resumed.HasField("gap")
    answers = await asyncio.gather(*(talk.turn("What is my name?") for talk in talks))
    assert all("Marcelo" in answer for answer in answers)
    assert running.gateways[leaving].wait() == 0


async def test_a_gateway_that_is_stopped_loses_nobody() -> None:
    async with gateways(2) as running, AsyncExitStack() as stack:
        first, second = running.addresses
        address = await stack.enter_async_context(random_proxy([first, second]))
        client = await stack.enter_async_context(AsyncClient(address))
        talks = list[Talk]()
        for _ in range(6):
            session = await stack.enter_async_context(client.open(resumable=True, overrides=TEXT))
            talks.append(Talk(session))
            await talks[-1].turn("My name is Marcelo.")
        leaving = talks[0].session.opened.owner_address
        there = [talk for talk in talks if talk.session.opened.owner_address == leaving]
        await all_go_on(talks, there, running, leaving)


async def test_sessions_of_a_gateway_that_goes_away_move_before_it_lets_them_go() -> None:
    async with gateways(3, limits={"drain_seconds": 20}) as running, AsyncExitStack() as stack:
        address = await stack.enter_async_context(random_proxy(list(running.addresses)))
        client = await stack.enter_async_context(AsyncClient(address))
        talks = [Talk(await stack.enter_async_context(client.open(overrides=TEXT))) for _ in range(9)]
        for talk in talks:
            await talk.turn("My name is Marcelo.")
        leaving = talks[0].session.opened.owner_address
        there = [talk for talk in talks if talk.session.opened.owner_address == leaving]
        await all_go_on(talks, there, running, leaving)
        ends = [line for line in running.gateways[leaving].output.splitlines() if '"event": "session"' in line]
        reports = [json.loads(line) for line in ends]
    ended = Counter(report["reason"] for report in reports if report["session_id"])
    assert ended == {"superseded": len(there)}, "each was taken away, and none was sent away"


@pytest.mark.heavy
@pytest.mark.timeout(300)
async def test_how_soon_a_killed_gateway_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    kills, took = 12, list[float]()
    for _ in range(kills // 3):
        async with (
            gateways(4) as running,
            random_proxy(running.addresses) as address,
            AsyncClient(address) as client,
            client.open(resumable=True, overrides=TEXT) as session,
        ):
            talk = Talk(session)
            await talk.turn("My name is Marcelo.")
            owner = session.opened.owner_address
            for _ in range(3):
                running.gateways[owner].send(signal.SIGKILL)
                began = time.perf_counter()
                resumed = await talk.until(Resumed)
                took.append(time.perf_counter() - began)
                assert isinstance(resumed, Resumed)
                owner = resumed.owner_address
                assert "Marcelo" in await talk.turn("What is my name?")
    with capsys.disabled():
        middle, longest = statistics.median(took) * 1000, max(took) * 1000
        sys.stdout.write(f"\nkilled to resumed: p50 {middle:.0f} ms, max {longest:.0f} ms (n={len(took)})\n")
    assert statistics.median(took) <= 0.5


async def test_a_token_is_worth_nothing_after_goodbye() -> None:
    async with gateways(1) as running, AsyncClient(running.addresses[0]) as client:
        async with client.open(resumable=True, overrides=TEXT) as session:
            token = session.opened.resume_token
        assert token
        with pytest.raises(TrunklineError):
            await client.get_session(session.id)
