"""The settings of a connection by what they do: gRPC ignores in silence what it does not know."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import pytest
from trunkline.v1.event_pb2 import OutputAudio
from trunkline.v1.session_pb2 import ConverseResponse

from trunkline_client import AsyncClient, Client, ConnectionLost, ConnectionOptions, TrunklineError

from . import scripts
from .names import name_server
from .scripted_gateway import Conversation, ScriptedGateway, free_port, serving
from .shells import Connect
from .wire import tapped

MEBIBYTE = 1024 * 1024


async def eventually(holds: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - what is waited for lives in threads
            await asyncio.sleep(0.02)


async def answered(client: AsyncClient, seconds: float) -> float:
    """Return after how many seconds a call was answered that is repeated until then."""
    begun = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            with suppress(ConnectionLost):
                await client.pools()
                return time.monotonic() - begun
            await asyncio.sleep(0.02)


NUMBERS = [name for name in ConnectionOptions.__slots__ if name not in {"tls", "allow_plaintext"}]


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_means_nothing_is_refused(name: str) -> None:
    for value in (0, -1, float("nan")):
        wrong: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"{name} must be above 0"):
            ConnectionOptions(**wrong)


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:50051", "https://gateway", "grpc://gateway:50051"])
def test_an_address_that_is_none_is_refused_with_what_one_is(address: str) -> None:
    for client in (AsyncClient, Client):
        with pytest.raises(ValueError, match="host:port"):
            client(address)


# Pings.


async def test_pings_go_on_with_no_call_and_in_a_silent_one() -> None:
    options = ConnectionOptions(keepalive_time_ms=1000)
    with serving(scripts.text_turn) as gateway:
        async with tapped(gateway.address) as wire, AsyncClient(wire.address, options=options) as client:
            await client.pools()
            # By itself gRPC sends none without a call, and two at most without data.
            await eventually(lambda: wire.pings() >= 4, 6)
            async with client.open(resumable=False):
                before = wire.pings()
                await eventually(lambda: wire.pings() >= before + 3, 5)


# Connecting.


async def test_each_client_has_a_connection_of_its_own(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with tapped(gateway.address) as wire, connect(wire.address) as one, connect(wire.address) as other:
            for client in (one, other, one, other):
                await client.pools()
            assert wire.connections == 2


async def test_a_gateway_that_is_a_quarter_of_a_second_away_can_be_reached(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with (
            tapped(gateway.address, delay_seconds=0.25) as wire,
            connect(wire.address) as client,
            client.open(resumable=False) as session,
        ):
            assert session.id == "s1"


async def test_an_attempt_to_connect_is_given_up_and_repeated() -> None:
    options = ConnectionOptions(connect_timeout_ms=200, max_reconnect_backoff_ms=200)
    async with tapped("127.0.0.1:1", delay_seconds=60) as wire, AsyncClient(wire.address, options=options) as client:
        begun = time.monotonic()
        with pytest.raises(ConnectionLost, match="CONNECTION_LOST"):
            await client.pools()
        assert time.monotonic() - begun < 2
        with pytest.raises(TimeoutError):
            await answered(client, 1.5)
        assert wire.connections >= 4


async def test_a_slow_attempt_to_connect_is_one_attempt() -> None:
    options = ConnectionOptions(call_timeout_seconds=1.5)
    async with tapped("127.0.0.1:1", delay_seconds=60) as wire, AsyncClient(wire.address, options=options) as client:
        with pytest.raises(ConnectionLost, match="TIMED_OUT"):
            await client.pools()
        assert wire.connections == 1


async def test_a_gateway_that_comes_back_is_found_soon() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with AsyncClient(address, options=ConnectionOptions(max_reconnect_backoff_ms=300)) as client:
        # Long enough for pauses that double to have grown to seconds.
        with pytest.raises(TimeoutError):
            await answered(client, 4.6)
        with serving(scripts.text_turn, port=int(address.partition(":")[2])):
            assert await answered(client, 5) < 1


async def test_a_gateway_that_was_away_for_a_moment_is_found_in_a_moment() -> None:
    address = f"127.0.0.1:{free_port()}"
    async with AsyncClient(address) as client:
        with pytest.raises(ConnectionLost):
            await client.pools()
        with serving(scripts.text_turn, port=int(address.partition(":")[2])):
            # By itself gRPC would wait for a second.
            assert await answered(client, 5) < 0.6


async def test_no_call_is_made_twice_whatever_the_name_service_asks_for() -> None:
    """A name service may hand out a policy of retries with the addresses."""
    policy = {
        "maxAttempts": 4,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    handed_out = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    with serving(unavailable) as gateway:
        client = AsyncClient(gateway.address)
        client._arguments.append(("grpc.service_config", handed_out))
        async with client:
            with pytest.raises(TrunklineError, match="OVERLOADED"):
                await client.open(resumable=False).__aenter__()
        gateway.conversation()
        assert gateway._conversations.empty()


def unavailable(conversation: Conversation) -> scripts.Answers:
    scripts.refuse(conversation.context, "OVERLOADED", grpc.StatusCode.UNAVAILABLE)
    yield scripts.opened()


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            await client.pools()


# Several gateways behind one name.


async def test_calls_go_round_the_addresses_of_a_name_and_find_new_ones_within_a_second_or_two() -> None:
    port = free_port()
    options = ConnectionOptions(allow_plaintext=True)
    async with name_server() as names:
        target = f"dns://{names.authority}/gateway.test:{port}"
        names.addresses = ["127.0.0.1", "127.0.0.2"]
        async with AsyncClient(target, options=options) as client:
            with ExitStack() as stack:
                gateways = [stack.enter_context(serving(scripts.text_turn, host=h, port=port)) for h in names.addresses]
                await answered(client, 5)
                await all_asked(client, gateways)
            # A roll-out: all of them are replaced.
            names.addresses = ["127.0.0.3"]
            with serving(scripts.text_turn, host="127.0.0.3", port=port):
                # By itself gRPC would ask for the name again after 30 s.
                assert await answered(client, 10) < 4


async def all_asked(client: AsyncClient, gateways: list[ScriptedGateway]) -> None:
    async with asyncio.timeout(5):
        while not all(gateway.headers for gateway in gateways):
            await client.pools()


# Limits and deadlines.


def says_much(conversation: Conversation) -> scripts.Answers:
    """Opens and sends the largest piece that a gateway may send."""
    for request in conversation:
        if request.HasField("open"):
            yield scripts.opened()
            yield ConverseResponse(audio=OutputAudio(data=bytes(4 * MEBIBYTE)))
        elif request.HasField("bye"):
            yield scripts.goodbye(request, 2)
            return


async def test_the_largest_message_of_a_gateway_is_taken(connect: Connect) -> None:
    with serving(says_much) as gateway:
        async with connect(gateway.address) as client, client.open(resumable=False) as session:
            event = await anext(session)
            assert isinstance(event, OutputAudio)
            assert len(event.data) == 4 * MEBIBYTE


async def test_a_message_above_the_limit_of_the_client_ends_the_session(connect: Connect) -> None:
    with serving(says_much) as gateway:
        async with connect(gateway.address, options=ConnectionOptions(receive_message_max_bytes=MEBIBYTE)) as client:
            with pytest.raises(TrunklineError, match="larger than max") as refused:
                async with client.open(resumable=False) as session:
                    await anext(session)
    assert not refused.value.retryable


async def test_a_session_ends_with_its_deadline(connect: Connect) -> None:
    with serving(scripts.ignores_bye) as gateway:
        async with connect(gateway.address, options=ConnectionOptions(session_timeout_seconds=0.4)) as client:
            begun = time.monotonic()
            with pytest.raises(ConnectionLost, match="TIMED_OUT"):
                async with client.open(resumable=False) as session:
                    await anext(session)
            assert 0.3 < time.monotonic() - begun < 2


# What may lie on the way is in test_pressure.py; one figure is on the wire.


@pytest.mark.parametrize("lookahead_bytes", [16_384, 131_072])
async def test_a_gateway_may_send_so_much_ahead(connect: Connect, lookahead_bytes: int) -> None:
    with serving(scripts.text_turn) as gateway:
        async with (
            tapped(gateway.address) as wire,
            connect(wire.address, options=ConnectionOptions(lookahead_bytes=lookahead_bytes)) as client,
        ):
            await client.pools()
            assert wire.initial_window() == lookahead_bytes


# The token.


async def test_a_function_is_asked_for_the_token_before_each_call(connect: Connect) -> None:
    tokens = iter(["first", "second", "third"])
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address, token=lambda: next(tokens)) as client:
            await client.pools()
            async with client.open(resumable=False):
                pass
            await client.pools()
        assert gateway.headers == ["Bearer first", "Bearer third"]
        assert gateway.conversation().header("authorization") == "Bearer second"


async def test_a_bad_token_of_a_function_is_refused_without_showing_it(connect: Connect) -> None:
    async with connect("localhost:1", token=lambda: "tok 4711\n") as client:
        with pytest.raises(ValueError, match="header") as refused:
            await client.pools()
    assert "4711" not in str(refused.value)
