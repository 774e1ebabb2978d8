"""Where both clients open a session whose first gateway goes away: elsewhere, at once, and not for ever."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from grpc import StatusCode
from trunkline.v1.errors_pb2 import PoolNumbers
from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client import CapacityError, TrunklineError

from . import scripts
from .cutting import Cutter, cuttable
from .long_session import LongSession
from .resuming import QUICK, items_until
from .scripted_gateway import Conversation, Script, ScriptedGateway, serving
from .shells import Connect

KINDS = pytest.mark.parametrize("resumable", [False, True])


def refusing(reason: str, numbers: PoolNumbers | None = None) -> Script:
    def refuse(conversation: Conversation) -> Iterator[ConverseResponse]:
        next(iter(conversation))
        scripts.refuse(conversation.context, reason, StatusCode.UNAVAILABLE, numbers)
        yield ConverseResponse()

    return refuse


@contextmanager
def a_gateway_that_goes_away(reason: str = "DRAINING") -> Iterator[tuple[ScriptedGateway, Cutter]]:
    with serving(refusing(reason)) as leaving, cuttable(leaving.address) as cutter:
        yield leaving, cutter


@KINDS
async def test_a_session_opens_where_a_new_connection_leads(connect: Connect, *, resumable: bool) -> None:
    long = LongSession()
    with a_gateway_that_goes_away() as (_, cutter), serving(long.script) as staying:
        async with connect(cutter.address, options=QUICK) as client:
            await client.pools()  # over a connection that stands, and leads to the one that goes away
            cutter.lead_to(staying.address)
            async with client.open(resumable=resumable) as session:
                await session.send_text("1")
                assert (await items_until(session, "1"))[0] == ["1"]
            assert cutter.connections == 2


@KINDS
async def test_what_is_said_first_reaches_the_gateway_that_stays_and_no_other(
    connect: Connect, *, resumable: bool
) -> None:
    with a_gateway_that_goes_away() as (leaving, cutter), serving(scripts.echo) as staying:
        async with connect(cutter.address, options=QUICK) as client:
            await client.pools()
            cutter.lead_to(staying.address)
            async with client.open(resumable=resumable) as session:
                await session.send_audio(b"ab")
                await anext(aiter(session))
        assert leaving.conversation().kinds() == ["open"]
        assert staying.conversation().kinds()[:2] == ["open", "audio"]


@KINDS
async def test_it_is_tried_a_few_times_and_then_told(connect: Connect, *, resumable: bool) -> None:
    with a_gateway_that_goes_away() as (leaving, cutter):
        async with connect(cutter.address, options=QUICK) as client:
            async with asyncio.timeout(5):
                with pytest.raises(CapacityError, match="DRAINING"):
                    await client.open(resumable=resumable).__aenter__()
        assert cutter.connections == 4
    assert leaving.conversations_begun == 4


@KINDS
@pytest.mark.parametrize("reason", ["OVERLOADED", "QUEUE_FULL", "POOL_PAUSED"])
async def test_no_other_refusal_is_answered_by_asking_again(connect: Connect, reason: str, *, resumable: bool) -> None:
    with a_gateway_that_goes_away(reason) as (leaving, cutter):
        async with connect(cutter.address, options=QUICK) as client:
            with pytest.raises(TrunklineError, match=reason):
                await client.open(resumable=resumable).__aenter__()
        assert cutter.connections == 1
    assert leaving.conversations_begun == 1


@KINDS
async def test_a_pool_that_goes_away_is_gone_at_every_gateway_and_asked_once(
    connect: Connect, *, resumable: bool
) -> None:
    with serving(refusing("DRAINING", scripts.NUMBERS)) as gateway, cuttable(gateway.address) as cutter:
        async with connect(cutter.address, options=QUICK) as client:
            with pytest.raises(CapacityError, match="DRAINING") as refused:
                await client.open(resumable=resumable).__aenter__()
    assert refused.value.numbers == scripts.NUMBERS
    assert (cutter.connections, gateway.conversations_begun) == (1, 1)


async def test_an_older_gateway_elsewhere_is_asked_again_for_what_it_serves(connect: Connect) -> None:
    def older(conversation: Conversation) -> Iterator[ConverseResponse]:
        opening = next(iter(conversation)).open
        if opening.features:
            scripts.refuse(conversation.context, "NOT_IMPLEMENTED_YET", StatusCode.UNIMPLEMENTED)
        yield scripts.opened(opening)
        for request in conversation:
            if request.HasField("bye"):
                yield scripts.goodbye(request, 2)
                return

    with a_gateway_that_goes_away() as (leaving, cutter), serving(older) as staying:
        async with connect(cutter.address, options=QUICK) as client:
            await client.pools()
            cutter.lead_to(staying.address)
            async with client.open(correlation_id="c1", resumable=True) as session:
                assert session.opened.correlation_id == "c1"
    assert (leaving.conversations_begun, staying.conversations_begun, cutter.connections) == (1, 2, 2)
