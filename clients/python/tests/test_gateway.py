"""Both clients against a real gateway and a simulator: what the scripts of the other tests stand for."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from tests.support.processes import on_linux, process_stack
from trunkline.v1.admin_pb2 import LEASE_KIND_RESERVATION, LEASE_KIND_SESSION
from trunkline.v1.event_pb2 import RESPONSE_STATUS_COMPLETED
from trunkline.v1.session_pb2 import GetSessionResponse
from trunkline.v1.types_pb2 import LINE_SOURCE_WARM

from trunkline_client import AsyncClient, CallerError, CapacityError, GatewayError, SessionOverrides
from trunkline_client.audio import PCMA, PCMU, SAMPLE_BYTES, silence
from trunkline_client.errors import as_exception
from trunkline_client.events import Closed, Error, OutputAudio, ResponseDone

from .cutting import cuttable
from .shells import Connect, events_of

pytestmark = on_linux
ONE_LINE = {"default": {"floor": 1, "ceiling": 1, "reserve": 0, "demand": {"enabled": False}}}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with process_stack(pools=ONE_LINE) as stack:
        stack.until_warm()
        yield stack.address


async def until_free(client: AsyncClient) -> None:
    """Wait until the one line is ready for the next test."""
    async with asyncio.timeout(10):
        while (await client.leases()).leases or (await client.pools()).pools[0].warm < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_reservation_outlives_its_ttl_keeps_others_away_and_becomes_the_session(
    connect: Connect, address: str
) -> None:
    async with connect(address) as client:
        await until_free(client)
        async with client.reserve(ttl_seconds=2, correlation_id="ringing") as lease:
            assert not await lease.wait_ended(3.5)
            (shown,) = (await client.leases()).leases
            assert (shown.kind, shown.lease_id, shown.correlation_id) == (LEASE_KIND_RESERVATION, lease.id, "ringing")
            with pytest.raises(CapacityError) as full:
                await client.open(wait_max_ms=100).__aenter__()
            assert full.value.retryable
            assert full.value.advice
            assert full.value.numbers is not None
            assert full.value.numbers.total == 1
            async with client.open(lease=lease) as session:
                assert (session.opened.source, session.opened.waited_ms) == (LINE_SOURCE_WARM, 0)
                (shown,) = (await client.leases()).leases
                assert (shown.kind, shown.session_id) == (LEASE_KIND_SESSION, session.id)
        assert lease.failure is None


async def test_a_reservation_that_nobody_uses_is_free_for_the_next_at_once(connect: Connect, address: str) -> None:
    async with connect(address) as client:
        await until_free(client)
        async with client.reserve(ttl_seconds=300):
            pass
        begun = time.monotonic()
        async with client.open() as session:
            assert session.opened.source == LINE_SOURCE_WARM
        assert time.monotonic() - begun < 3


async def test_one_that_another_has_given_back_is_told_as_ended(connect: Connect, address: str) -> None:
    async with connect(address) as client:
        await until_free(client)
        async with client.reserve(ttl_seconds=1) as lease:
            assert (await client.release(lease.acquired.lease_token)).released
            assert await lease.wait_ended(3)
            assert lease.failure is not None
            assert lease.failure.reason == "LEASE_ENDED"


async def test_the_plain_calls_do_the_same_by_hand(connect: Connect, address: str) -> None:
    async with connect(address) as client:
        await until_free(client)
        acquired = await client.acquire(ttl_seconds=2, idempotency_key="call-7")
        assert (await client.acquire(ttl_seconds=2, idempotency_key="call-7")).lease_id == acquired.lease_id
        renewed = await client.keep_alive(acquired.lease_token)
        assert (renewed.lease_id, renewed.ttl_seconds) == (acquired.lease_id, 2)
        async with client.open(lease_token=acquired.lease_token) as session:
            assert session.opened.source == LINE_SOURCE_WARM
        assert not (await client.release(acquired.lease_token)).released
        assert (await client.keep_alive(acquired.lease_token)).ttl_seconds == 0


async def test_what_is_stored_of_a_session_is_told_to_its_caller(connect: Connect, address: str) -> None:
    async with connect(address) as client:
        await until_free(client)
        async with client.open(correlation_id="c-7") as session:
            await session.send_text("Hello")
            await session.create_response()
            await until_done(session)
            stored = await stored_of(client, session.id)
            assert stored is None or (stored.session_id, stored.correlation_id) == (session.id, "c-7")


async def stored_of(client: AsyncClient, session_id: str) -> GetSessionResponse | None:
    """Return what is stored, None at a gateway that does not serve it, and says so."""
    try:
        return await client.get_session(session_id)
    except GatewayError as refused:
        if refused.reason != "NOT_IMPLEMENTED_YET":
            raise
        return None


async def until_done(session: object) -> None:
    assert hasattr(session, "__anext__")
    while not isinstance(await session.__anext__(), ResponseDone):
        pass


@pytest.mark.parametrize("audio_format", [PCMU, PCMA])
async def test_a_telephones_format_goes_both_ways(connect: Connect, address: str, audio_format: int) -> None:
    overrides = SessionOverrides(input_format=audio_format, output_format=audio_format)  # type: ignore[arg-type]
    async with connect(address) as client:
        await until_free(client)
        async with client.open(overrides=overrides) as session:
            assert session.opened.output_format == audio_format
            await session.send_audio(silence(0.1, session.opened.input_format))
            await session.create_response()
            await session.end_input()
            heard = b"".join([each.data for each in await events_of(session) if isinstance(each, OutputAudio)])
    assert len(heard) > 8000


async def test_a_recording_that_is_sent_at_once_is_taken_at_the_gateways_pace_and_whole(
    connect: Connect, address: str
) -> None:
    async with connect(address) as client:
        await until_free(client)
        async with client.open() as session:
            begun = time.monotonic()
            for _ in range(100):
                await session.send_audio(silence(0.1))
            async with asyncio.timeout(10):
                while (await client.sessions()).sessions[0].audio_in_bytes < len(silence(10)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            # Five seconds at once, the rest at twice the pace of speech.
            assert 2 < time.monotonic() - begun < 8
            assert (await client.sessions()).sessions[0].audio_in_bytes == len(silence(10))


async def test_errors_of_a_real_gateway_are_typed(connect: Connect, address: str) -> None:
    async with connect(address) as client:
        await until_free(client)
        with pytest.raises(CallerError) as unknown:
            await client.open("nonesuch").__aenter__()
        assert (unknown.value.reason, unknown.value.retryable) == ("UNKNOWN_TEMPLATE", False)
        assert unknown.value.advice == "Name a template that the gateway's configuration has."
        with pytest.raises(CallerError) as ended:
            await client.open(lease_token="forged").__aenter__()
        assert ended.value.reason == "LEASE_UNKNOWN"
        async with client.open() as session:
            number = await session.send_raw({"type": "no.such.event"})
            await session.end_input()
            events = await events_of(session)
        (told,) = [event for event in events if isinstance(event, Error)]
        assert told.cseq == number
        error = as_exception(told)
        assert (type(error), error.reason) == (CallerError, "INVALID_EVENT_JSON")
        assert isinstance(events[-1], Closed)


async def test_a_resumable_session_goes_on_to_the_sample_where_its_wire_was_cut(connect: Connect, address: str) -> None:
    with cuttable(address) as cutter:
        async with connect(cutter.address) as client:
            await until_free(client)
            async with client.open(resumable=True) as session:
                await session.send_text("Tell me something long.")
                await session.create_response()
                heard_samples = pieces = 0
                async with asyncio.timeout(15):
                    while not isinstance(event := await anext(session), ResponseDone):
                        if isinstance(event, OutputAudio):
                            assert event.position == heard_samples
                            heard_samples += len(event.data) // SAMPLE_BYTES
                            pieces += 1
                            if pieces == 3:
                                cutter.cut()
                assert event.status == RESPONSE_STATUS_COMPLETED
                assert (session.resumed_count, pieces > 3) == (1, True)
            assert session.closed is not None
