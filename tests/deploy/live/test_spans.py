"""The spans of one session that lost its line and then its gateway arrive at a real collector, as one trace."""

import asyncio
import signal
from collections import Counter
from typing import Final

import pytest
from trunkline.v1 import control_pb2, event_pb2
from trunkline_client import AsyncClient, AsyncSession
from trunkline_client.events import ResponseDone

from tests.support.collector import Collector, collector
from tests.support.fleet import Fleet, at_rest, fleet
from tests.support.proxy import random_proxy
from tests.support.stack import channel_to, pool
from tests.support.steering import Operator
from tests.support.waiting import eventually

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(120)]
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
CALLERS_SPAN: Final = "b7ad6b7169203331"
TEXT: Final = control_pb2.SessionOverrides(output_modality=control_pb2.OUTPUT_MODALITY_TEXT)
POOLS: Final = {"default": pool(floor=2, ceiling=8)}


async def turn(session: AsyncSession, words: str) -> None:
    await session.send_text(words)
    await session.create_response()
    async with asyncio.timeout(20):
        async for event in session:
            if isinstance(event, ResponseDone) and event.status == event_pb2.RESPONSE_STATUS_COMPLETED:
                return


def named(running: Collector, name: str) -> int:
    return sum(span.name == name and span.trace == TRACE for span in running.spans)


async def at_rest_at(running: Fleet, address: str) -> None:
    channel = channel_to(address)
    await at_rest([Operator(channel)], 2)
    await channel.close()


async def test_a_session_that_was_recovered_and_taken_over_is_one_trace() -> None:
    with collector() as collected:
        tracing = {"endpoint": f"http://{collected.address}"}
        with fleet(2, pools=POOLS, tracing=tracing) as running:
            for each in running.addresses:
                await at_rest_at(running, each)
            async with (
                random_proxy(running.addresses) as address,
                AsyncClient(address, traceparent=lambda: f"00-{TRACE}-{CALLERS_SPAN}-01") as client,
                client.open(overrides=TEXT) as session,
            ):
                owner = session.opened.owner_address
                await turn(session, "My name is Marcelo.")
                line = session.opened.upstream_session_id
                assert await asyncio.to_thread(running.provider.close, 1011, session_id=line) == 1
                await turn(session, "What is my name?")
                await eventually(lambda: named(collected, "recover"), "the recovery has arrived")
                running.gateways[owner].send(signal.SIGKILL)
                await turn(session, "And now?")
            # The session's own span comes last, when it has ended.
            await eventually(lambda: named(collected, "session"), "the session has arrived")
            ours = [span for span in collected.spans if span.trace == TRACE]
            dials = [span for span in collected.spans if span.name == "dial"]
            everything = collected.process.output

    counts = Counter(span.name for span in ours)
    assert counts == {"session": 1, "acquire": 3, "turn": 3, "recover": 2, "resume": 1}
    causes = {span.attributes["trunkline.cause"] for span in ours if span.name == "recover"}
    assert causes == {"line_lost", "claimed"}
    # Each line is of a dial that has a trace of its own.
    links = {link for span in ours for link in span.links}
    assert len(links) == 3
    assert links <= {span.trace for span in dials}
    assert TRACE not in links
    (session_span,) = [span for span in ours if span.name == "session"]
    assert session_span.attributes["session.id"] == session.id
    assert "Marcelo" not in everything
