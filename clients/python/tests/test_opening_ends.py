"""Where both clients look for a gateway to open at, and the time is over, or the session is closed meanwhile."""

import asyncio
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest
from grpc import StatusCode
from trunkline.v1.session_pb2 import ConverseResponse, Open

from trunkline_client import ConnectionLost, ConnectionOptions
from trunkline_client._resume import OpeningAttempts
from trunkline_client._session import SessionCore
from trunkline_client._sync_dialling import Dialler, OwnChannel
from trunkline_client._sync_elsewhere import Opening
from trunkline_client.errors import refusal

from . import scripts
from .cutting import Cutter, cuttable
from .long_session import LongSession
from .resuming import QUICK, until
from .scripted_gateway import Conversation, serving
from .shells import Connect

KINDS = pytest.mark.parametrize("resumable", [False, True])
# A dial has all the time there is.
PATIENT = dataclasses.replace(QUICK, owner_timeout_seconds=5.0)
DRAINING = refusal("DRAINING", "going")


@contextmanager
def a_gateway_that_goes_away(after_seconds: float = 0.0) -> Iterator[Cutter]:
    def refuse(conversation: Conversation) -> Iterator[ConverseResponse]:
        next(iter(conversation))
        conversation.over.wait(after_seconds)
        scripts.refuse(conversation.context, "DRAINING", StatusCode.UNAVAILABLE)
        yield ConverseResponse()

    with serving(refuse) as leaving, cuttable(leaving.address) as cutter:
        yield cutter


@KINDS
@pytest.mark.parametrize("refused_after_seconds", [0.0, 0.6])
async def test_the_time_to_open_bounds_all_of_it(
    connect: Connect, refused_after_seconds: float, *, resumable: bool
) -> None:
    with a_gateway_that_goes_away(refused_after_seconds) as cutter, cuttable("127.0.0.1:1") as nobody:
        async with connect(cutter.address, options=PATIENT) as client:
            await client.pools()
            cutter.lead_to(nobody.address)
            begun = time.monotonic()
            with pytest.raises(ConnectionLost, match=r"TIMED_OUT: no `opened` within 1 s; the last cause: DRAINING"):
                await client.open(resumable=resumable, open_timeout_seconds=1.0).__aenter__()
            assert time.monotonic() - begun < 1.5


@KINDS
@pytest.mark.parametrize("pause_seconds", [0.01, 60.0])
async def test_who_finds_nobody_is_told_so_of_the_opening(
    connect: Connect, pause_seconds: float, *, resumable: bool
) -> None:
    options = dataclasses.replace(
        QUICK, resume_backoff_first_seconds=pause_seconds, resume_backoff_max_seconds=pause_seconds
    )
    with a_gateway_that_goes_away() as cutter:
        async with connect(cutter.address, options=options) as client:
            await client.pools()
            cutter.lets_in.clear()
            with pytest.raises(ConnectionLost, match=r"TIMED_OUT: no `opened` within 0\.6 s; .*: CONNECTION_LOST: no"):
                await client.open(resumable=resumable, open_timeout_seconds=0.6).__aenter__()


@KINDS
async def test_who_closes_while_it_looks_elsewhere_ends_that_at_once(connect: Connect, *, resumable: bool) -> None:
    with a_gateway_that_goes_away() as cutter, cuttable("127.0.0.1:1") as nobody:
        async with connect(cutter.address, options=PATIENT) as client:
            await client.pools()
            cutter.lead_to(nobody.address)
            session = client.open(resumable=resumable)
            entering = asyncio.create_task(session.__aenter__())
            await until(lambda: cutter.connections == 2)
            async with asyncio.timeout(2):
                await session.close()
                with pytest.raises(ConnectionLost, match="CANCELLED"):
                    await entering
            assert cutter.connections == 2


@KINDS
async def test_who_closes_while_it_pauses_ends_that_at_once(connect: Connect, *, resumable: bool) -> None:
    options = dataclasses.replace(QUICK, resume_backoff_first_seconds=10.0, resume_backoff_max_seconds=10.0)
    with a_gateway_that_goes_away() as cutter:
        async with connect(cutter.address, options=options) as client:
            await client.pools()
            cutter.lets_in.clear()
            session = client.open(resumable=resumable, open_timeout_seconds=60)
            entering = asyncio.create_task(session.__aenter__())
            await until(lambda: cutter.refused > 0)
            async with asyncio.timeout(2):
                await session.close()
                with pytest.raises(ConnectionLost, match="CANCELLED"):
                    await entering
            assert cutter.refused < 10


def slow_from_the(number: int, going_on: threading.Event, seconds: float) -> Callable[[], str]:
    """Return what gives the token, and takes its time for that from one call on."""
    calls = itertools.count(1)

    def token() -> str:
        if next(calls) >= number:
            going_on.set()
            threading.Event().wait(seconds)
        return "t"

    return token


@KINDS
@pytest.mark.parametrize(("seconds", "reason"), [(0.3, "TIMED_OUT"), (15.0, "CANCELLED")])
async def test_a_session_that_nobody_waits_for_is_not_left_open_where_it_went(
    connect: Connect, seconds: float, reason: str, *, resumable: bool
) -> None:
    long, going_on = LongSession(), threading.Event()
    with a_gateway_that_goes_away() as cutter, serving(long.script) as staying:
        token = slow_from_the(3, going_on, 0.6)
        async with connect(cutter.address, options=PATIENT, token=token) as client:
            await client.pools()
            cutter.lead_to(staying.address)
            session = client.open(resumable=resumable, open_timeout_seconds=seconds)
            entering = asyncio.create_task(session.__aenter__())
            await until(going_on.is_set)
            if reason == "CANCELLED":
                await session.close()
            with pytest.raises(ConnectionLost, match=reason):
                await entering
            for conversation in long.conversations:
                assert conversation.over.wait(5)
                if resumable:
                    assert conversation.kinds()[:2] in ([], ["open", "bye"])


@KINDS
async def test_a_gateway_that_comes_too_late_is_not_asked(connect: Connect, *, resumable: bool) -> None:
    long = LongSession()
    with a_gateway_that_goes_away(0.3) as cutter, serving(long.script) as staying:
        async with connect(cutter.address, options=QUICK) as client:
            await client.pools()
            cutter.lead_to(staying.address)
            cutter.lets_in.clear()
            entering = asyncio.create_task(client.open(resumable=resumable, open_timeout_seconds=0.5).__aenter__())
            await asyncio.sleep(0.6)  # it is the time itself that is measured
            cutter.lets_in.set()
            with pytest.raises(ConnectionLost, match="TIMED_OUT"):
                await entering
        assert staying.conversations_begun == 0


def test_a_time_that_is_over_before_the_core_is_turned_back_is_not_forgotten() -> None:
    core, changed, over = SessionCore(), threading.Condition(), threading.Event()

    def connect(address: str, seconds: float) -> grpc.Channel:
        raise AssertionError(f"dialled {address} for {seconds} s")

    def refused_in_the_last_moment(own: OwnChannel | None) -> None:
        del own
        with changed:
            core.end(DRAINING)
        assert over.wait(5)
        raise DRAINING

    core.open_request(Open())
    dialler = Dialler("nowhere", connect, lambda requests, channel: pytest.fail(f"{requests} {channel}"))
    opening = Opening(dialler, core, changed, over)
    with pytest.raises(ConnectionLost, match="TIMED_OUT"):
        opening.run(refused_in_the_last_moment, lambda: None, 0.05, ConnectionOptions())


def test_the_last_cause_is_told_where_there_is_one() -> None:
    attempts = OpeningAttempts(2.0, ConnectionOptions(), now=10.0)
    assert attempts.too_late().message == "no `opened` within 2 s"
    attempts.turn_away(DRAINING)
    assert attempts.next(10.5, 1.0).dial_seconds == 1.0
    assert attempts.next(11.75, 0.0).dial_seconds == 0.25
    with pytest.raises(ConnectionLost, match="TIMED_OUT: no `opened` within 2 s; the last cause: DRAINING: going"):
        attempts.next(12.0, 0.0)
