"""What both clients do with a reservation: keep it alive, tell of its end, use it or give it back."""

import asyncio
import itertools
import time
from collections.abc import Callable

import grpc
import pytest

from trunkline_client import (
    AsyncClient,
    CallerError,
    CapacityError,
    Client,
    ConnectionLost,
    ConnectionOptions,
    TrunklineError,
)

from . import scripts
from .scripted_gateway import ScriptedGateway, free_port, serving
from .shells import Connect

UNAVAILABLE = ("STORE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)
IMPATIENT = ConnectionOptions(close_timeout_seconds=0.3)


async def renewals(gateway: ScriptedGateway, count: int) -> list[float]:
    """Return when the reservation was renewed, once that has happened so often."""
    async with asyncio.timeout(5):
        while len(gateway.renewed_at) < count:  # noqa: ASYNC110 - the gateway lives in threads
            await asyncio.sleep(0.01)
    return gateway.renewed_at


async def test_it_keeps_itself_alive_and_is_given_back_once(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            begun = time.monotonic()
            async with client.reserve("L1", ttl_seconds=1) as lease:
                assert (lease.id, lease.acquired.lease_token, lease.ended) == ("l1", "L1", False)
                moments = [begun, *await renewals(gateway, 4)]
            assert lease.ended
            assert lease.failure is None
            assert gateway.released == ["L1"]
            assert await lease.release() is False
        assert gateway.released == ["L1"]
    pauses = [after - before for before, after in itertools.pairwise(moments)]
    # A third of a second each, never early; a busy machine may be late, but not too late.
    assert all(0.3 < pause < 1.0 for pause in pauses), pauses


async def test_no_renewal_follows_its_end(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.reserve("L1", ttl_seconds=1) as lease:
            await renewals(gateway, 1)
            assert await lease.release() is True
            seen = len(gateway.renewed_at)
            assert await lease.wait_ended(0)
            # Longer than two renewals are apart.
            assert not await _happens(lambda: len(gateway.renewed_at) > seen, 0.8)
    assert gateway.released == ["L1"]


async def _happens(condition: Callable[[], bool], seconds: float) -> bool:
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_session_that_uses_it_takes_it_over(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            async with client.reserve("L1") as lease:
                async with client.open(lease=lease) as session:
                    assert session.id == "s1"
                    assert lease.ended
                    assert await lease.wait_ended(0)
                with pytest.raises(CallerError, match="a session has used this reservation"):
                    await client.open(lease=lease).__aenter__()
            assert (lease.failure, gateway.released) == (None, [])
        message = gateway.conversation().received[0].open
    # It names its template itself.
    assert (message.lease_token, message.template) == ("L1", "")


async def test_a_session_that_is_refused_leaves_it_to_be_given_back(connect: Connect) -> None:
    with serving(scripts.full) as gateway:
        async with connect(gateway.address) as client, client.reserve("L1", ttl_seconds=1) as lease:
            with pytest.raises(CapacityError):
                await client.open(lease=lease).__aenter__()
            assert not lease.ended
            await renewals(gateway, len(gateway.renewed_at) + 1)
        assert gateway.released == ["L1"]


async def test_the_end_that_the_gateway_tells_is_told_and_nothing_is_sent_after_it(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.reserve("L1", ttl_seconds=1) as lease:
            await renewals(gateway, 1)
            assert not await lease.wait_ended(0.05)
            gateway.ttl_seconds = 0
            assert await lease.wait_ended(2)
            assert lease.failure is not None
            assert lease.failure.reason == "LEASE_ENDED"
            with pytest.raises(CallerError, match="LEASE_ENDED"):
                await client.open(lease=lease).__aenter__()
        assert gateway.released == []
        assert gateway._conversations.empty()


async def test_a_gateway_that_fails_for_a_while_is_asked_again(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.reserve("L1", ttl_seconds=2) as lease:
            gateway.refusal = UNAVAILABLE
            await renewals(gateway, 3)
            gateway.refusal = None
            await renewals(gateway, 6)
            assert not lease.ended


async def test_a_gateway_that_is_gone_ends_it_when_its_life_is_over(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            begun = time.monotonic()
            async with client.reserve("L1", ttl_seconds=1) as lease:
                gateway.refusal = UNAVAILABLE
                assert await lease.wait_ended(5)
                assert 0.9 < time.monotonic() - begun < 3.0
                with pytest.raises(TrunklineError) as lost:
                    await client.open(lease=lease).__aenter__()
            assert lost.value is lease.failure
            assert lost.value.reason == "STORE_UNAVAILABLE"


async def test_a_gateway_that_does_not_answer_ends_it_when_its_life_is_over(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            begun = time.monotonic()
            async with client.reserve("L1", ttl_seconds=1) as lease:
                gateway.renewals_hang = True
                assert await lease.wait_ended(5)
                assert 0.9 < time.monotonic() - begun < 3.0
            assert isinstance(lease.failure, ConnectionLost)
            assert lease.failure.reason == "TIMED_OUT"


async def test_what_no_repetition_mends_ends_it_at_once(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        gateway.refusal = ("UNAUTHENTICATED", grpc.StatusCode.UNAUTHENTICATED)
        async with connect(gateway.address) as client, client.reserve("L1", ttl_seconds=3) as lease:
            assert await lease.wait_ended(2)
            assert isinstance(lease.failure, CallerError)
    assert len(gateway.renewed_at) == 1


async def test_a_token_that_cannot_be_given_is_an_error_of_the_block(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address, token=["first"].pop) as client:
            with pytest.raises(IndexError):
                async with client.reserve("L1", ttl_seconds=1) as lease:
                    assert await lease.wait_ended(3)


async def test_leaving_does_not_wait_for_a_renewal_under_way(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        gateway.renewals_hang = True
        async with connect(gateway.address) as client:
            # Each renewal may take two seconds.
            async with client.reserve("L1", ttl_seconds=6):
                await renewals(gateway, 1)
                begun = time.monotonic()
            assert time.monotonic() - begun < 1
        assert gateway.released == ["L1"]


async def test_an_exception_in_the_block_gives_it_back_too(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            with pytest.raises(ZeroDivisionError):
                async with client.reserve("L1"):
                    raise ZeroDivisionError
            assert gateway.released == ["L1"]


async def test_a_gateway_that_cannot_be_asked_to_release_is_left(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address, options=IMPATIENT) as client, client.reserve("L1"):
            await client.close()
        assert gateway.released == []


async def test_closing_the_client_ends_its_reservations(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.reserve("L1", ttl_seconds=1) as lease:
            await client.close()
            assert await lease.wait_ended(3)
            assert lease.failure is not None


async def test_a_refused_reservation_is_an_error_of_the_block(connect: Connect) -> None:
    async with connect(f"127.0.0.1:{free_port()}") as client:
        lease = client.reserve()
        with pytest.raises(ConnectionLost):
            await lease.__aenter__()
        with pytest.raises(CallerError, match="NOT_OPEN"):
            _ = lease.acquired
        assert not lease.ended


async def test_wrong_uses_are_named(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            lease = client.reserve("L1")
            with pytest.raises(CallerError, match="enter `async with` or `with` first"):
                client.open(lease=lease)
            async with lease:
                with pytest.raises(ValueError, match="not both"):
                    client.open(lease=lease, lease_token="L2")
                with pytest.raises(CallerError, match="ALREADY_OPEN"):
                    await lease.__aenter__()
            with pytest.raises(CallerError, match="LEASE_ENDED"):
                await lease.__aenter__()
            with pytest.raises(CallerError, match="given back"):
                await client.open(lease=lease).__aenter__()


async def test_its_token_is_shown_nowhere(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client, client.reserve("secret-4711", ttl_seconds=1) as lease:
            gateway.ttl_seconds = 0
            assert await lease.wait_ended(3)
    shown = getattr(lease, "blocking", lease)
    assert repr(shown) in {"AsyncLease(LOST)", "Lease(LOST)"}
    assert "4711" not in str(lease.failure)


# On asyncio alone.


async def test_cancelling_the_holder_gives_it_back() -> None:
    async def hold(address: str) -> None:
        async with AsyncClient(address) as client, client.reserve("L1"):
            held.set()
            await asyncio.Event().wait()

    held = asyncio.Event()
    with serving(scripts.text_turn) as gateway:
        before = asyncio.all_tasks()
        holding = asyncio.create_task(hold(gateway.address))
        async with asyncio.timeout(5):
            await held.wait()
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding
        assert gateway.released == ["L1"]
        async with asyncio.timeout(2):
            while asyncio.all_tasks() - before:  # noqa: ASYNC110 - tasks signal nothing
                await asyncio.sleep(0)


# Blocking alone.


def test_the_thread_ends_with_the_block_whatever_it_does() -> None:
    with serving(scripts.text_turn) as gateway, Client(gateway.address) as client:
        with client.reserve("L1", ttl_seconds=1) as lease:
            thread = lease._renewing
            assert thread is not None
            assert thread.is_alive()
            assert thread.daemon
        assert not thread.is_alive()


def test_any_thread_may_open_with_it() -> None:
    with serving(scripts.text_turn) as gateway, Client(gateway.address) as client:
        for _ in range(20):
            with client.reserve("L1", ttl_seconds=1) as lease, client.open(lease=lease):
                pass
        assert gateway.released == []
