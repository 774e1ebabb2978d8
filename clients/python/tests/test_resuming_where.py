"""Where both clients ask for a session whose connection was lost, and what a refusal means."""

import asyncio
import dataclasses
from pathlib import Path

import grpc
import pytest
import trustme
from grpc import StatusCode
from trunkline.v1.event_pb2 import GoAway
from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client import TlsOptions

from .cutting import cuttable
from .long_session import LongSession
from .resuming import QUICK, items_until, refusing, talking
from .scripted_gateway import serving
from .shells import Connect, names_of


async def test_the_owner_is_asked_first(connect: Connect) -> None:
    long = LongSession()
    with serving(long.script) as owner, cuttable(owner.address) as cutter:
        long.owner_address = owner.address
        async with connect(cutter.address, options=QUICK) as client, client.open(resumable=True) as session:
            cutter.cut(lets_in=False)
            await session.send_text("1")
            items, _ = await items_until(session, "1")
            assert items == ["1"]
        assert cutter.connections == 1
    assert len(long.resumes) == 1


async def test_an_owner_with_a_bare_address_is_held_to_the_name_that_the_caller_chose(
    connect: Connect, tmp_path: Path
) -> None:
    authority, long = trustme.CA(), LongSession()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    served = authority.issue_cert("localhost")  # and not the IP that the owner tells
    pair = (served.private_key_pem.bytes(), served.cert_chain_pems[0].bytes())
    options = dataclasses.replace(QUICK, tls=TlsOptions(ca_file=str(tmp_path / "ca.pem")))
    with (
        serving(long.script, grpc.ssl_server_credentials([pair])) as owner,
        cuttable(owner.address) as cutter,
    ):
        long.owner_address = owner.address
        name = cutter.address.replace("127.0.0.1", "dns:///localhost")
        async with connect(name, options=options) as client, client.open(resumable=True) as session:
            cutter.cut(lets_in=False)
            await session.send_text("1")
            async with asyncio.timeout(10):
                items, _ = await items_until(session, "1")
            assert items == ["1"]
    assert len(long.resumes) == 1


async def test_an_owner_that_is_gone_costs_no_more_than_its_time(connect: Connect) -> None:
    long = LongSession()
    with cuttable("127.0.0.1:1") as owner:
        long.owner_address = owner.address
        async with talking(connect, long) as (session, cutter):
            cutter.cut()
            await session.send_text("1")
            async with asyncio.timeout(4):
                items, _ = await items_until(session, "1")
            assert items == ["1"]


async def test_a_gateway_that_drains_is_left_without_asking_it_again(connect: Connect) -> None:
    long = LongSession()
    with serving(long.script) as elsewhere:
        long.owner_address = "127.0.0.1:1"
        async with connect(elsewhere.address, options=QUICK) as client, client.open(resumable=True) as session:
            long.say(ConverseResponse(go_away=GoAway(reason="draining")))
            long.refuse("DRAINING", StatusCode.UNAVAILABLE)
            await session.send_text("1")
            items, others = await items_until(session, "1")
            assert (items, names_of(others)) == (["1"], ["GoAway", "Resumed"])


async def test_a_gateway_that_cannot_now_is_asked_again(connect: Connect) -> None:
    long = LongSession()
    long.answers = [refusing("OVERLOADED"), refusing("STORE_UNAVAILABLE"), refusing("RATE_LIMITED")]
    async with talking(connect, long) as (session, cutter):
        cutter.cut()
        await session.send_text("1")
        items, _ = await items_until(session, "1")
        assert items == ["1"]
        assert session.resumed_count == 1
    assert len(long.resumes) == 4


@pytest.mark.parametrize("reason", ["RESUME_REFUSED", "SUPERSEDED"])
async def test_a_session_that_is_refused_is_lost(connect: Connect, reason: str) -> None:
    long = LongSession(answers=[refusing(reason)])
    async with talking(connect, long) as (session, cutter):
        cutter.cut()
        with pytest.raises(Exception, match=reason):
            await items_until(session, "never")
        with pytest.raises(Exception, match=reason):
            await session.send_text("more")
    assert len(long.resumes) == 1


async def test_a_stream_that_ends_by_a_gateways_word_is_not_resumed(connect: Connect) -> None:
    long = LongSession()
    async with talking(connect, long) as (session, _):
        long.refuse("SUPERSEDED", StatusCode.ABORTED)
        with pytest.raises(Exception, match="SUPERSEDED"):
            await items_until(session, "never")
    assert long.resumes == []


async def test_after_the_window_the_session_is_lost_and_the_last_cause_is_told(connect: Connect) -> None:
    long = LongSession(resume_window_seconds=1)
    async with talking(connect, long) as (session, cutter):
        cutter.cut(lets_in=False)
        with pytest.raises(Exception, match="CONNECTION_LOST: not resumed within 1 s; the last cause: CONNECTION_LOST"):
            async with asyncio.timeout(3):
                await items_until(session, "never")


async def test_a_session_that_is_not_parked_is_not_resumed(connect: Connect) -> None:
    long = LongSession(resume_window_seconds=0)
    async with talking(connect, long) as (session, cutter):
        cutter.cut()
        with pytest.raises(Exception, match="CONNECTION_LOST"):
            await items_until(session, "never")
    assert long.resumes == []
