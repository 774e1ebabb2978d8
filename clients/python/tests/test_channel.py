"""The channel: arguments that gRPC knows, plaintext at home only, a token nobody sees."""

import dataclasses
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # private, and the only way to it

from trunkline_client import AsyncClient, Client, ConnectionOptions, TlsOptions, TrunklineError
from trunkline_client._channel import channel_arguments, is_local, stream_arguments

from . import scripts
from .scripted_gateway import serving
from .shells import Connect

TOKEN = "tok-4711-secret"
LOCAL = [
    "127.0.0.1:1",
    "localhost:1",
    "[::1]:1",
    "dns:///localhost:1",
    "ipv4:127.0.0.1:1,127.0.0.2:1",
]
LOCAL += ["unix:/run/t.sock", "unix:t.sock", "unix:///t.sock", "unix-abstract:t", "ipv6:[::1]:1"]
REMOTE = [
    "10.0.0.1:1",
    "gateway:1",
    "dns:///gateway.svc:1",
    "[2001:db8::1]:1",
    "localhost.evil.org:1",
]
REMOTE += ["ipv4:127.0.0.1:1,10.0.0.1:1", "127.0.0.1.evil.org:1", "0.0.0.0:1", "xds:///localhost"]


def every_option() -> ConnectionOptions:
    return ConnectionOptions(tls=TlsOptions(server_name="gateway"))


def test_the_core_of_grpc_knows_every_argument() -> None:
    library = Path(cygrpc.__file__).read_bytes()
    names = [name for name, _ in channel_arguments("127.0.0.1:1", every_option())]
    assert [name for name in names if name.encode() + b"\0" not in library] == []
    assert b"grpc.no_such_argument\0" not in library
    assert len(names) == len(set(names))


def test_a_channel_for_one_stream_takes_one_connection_and_gives_up_with_who_waits_for_it() -> None:
    library = Path(cygrpc.__file__).read_bytes()
    arguments = dict(stream_arguments("127.0.0.1:1", every_option(), 0.25, "127.0.0.1:1"))
    assert [name for name in arguments if name.encode() + b"\0" not in library] == []
    assert "grpc.lb_policy_name" not in arguments
    assert arguments["grpc.use_local_subchannel_pool"] == 1
    assert arguments["grpc.min_reconnect_backoff_ms"] == 250
    assert (
        dict(stream_arguments("127.0.0.1:1", every_option(), 60.0, "127.0.0.1:1"))["grpc.min_reconnect_backoff_ms"]
        == 5_000
    )


def test_the_arguments_are_those_that_a_voice_stream_needs() -> None:
    arguments = dict(channel_arguments("gateway:1", ConnectionOptions()))
    assert arguments["grpc.keepalive_time_ms"] == 10_000
    assert arguments["grpc.keepalive_timeout_ms"] == arguments["grpc.http2.ping_timeout_ms"] == 5_000
    assert arguments["grpc.keepalive_permit_without_calls"] == 1
    assert arguments["grpc.http2.max_pings_without_data"] == arguments["grpc.http2.bdp_probe"] == 0
    assert arguments["grpc.http2.lookahead_bytes"] == 16_384
    assert arguments["grpc.enable_retries"] == 0
    assert arguments["grpc.use_local_subchannel_pool"] == 1
    assert int(arguments["grpc.max_receive_message_length"]) > 4 * 1024 * 1024
    assert "grpc.enable_http_proxy" not in arguments


def test_every_option_of_http2_reaches_an_argument() -> None:
    before = channel_arguments("gateway:1", ConnectionOptions())
    http2 = [field for field in dataclasses.fields(ConnectionOptions) if field.name.endswith("_ms")]
    for name in [*(field.name for field in http2), "lookahead_bytes", "receive_message_max_bytes"]:
        different: dict[str, Any] = {name: 4_321}
        changed = dataclasses.replace(ConnectionOptions(), **different)
        assert channel_arguments("gateway:1", changed) != before, name


@pytest.mark.parametrize("address", LOCAL)
def test_this_machine_may_be_reached_in_plaintext(address: str) -> None:
    assert is_local(address)
    AsyncClient(address)
    Client(address)


@pytest.mark.parametrize("address", REMOTE)
def test_another_machine_may_not_unless_asked_for(address: str) -> None:
    for client in (AsyncClient, Client):
        with pytest.raises(ValueError, match="allow_plaintext"):
            client(address, token=TOKEN)
        client(address, options=ConnectionOptions(allow_plaintext=True))
        client(address, options=ConnectionOptions(tls=TlsOptions()))


def test_half_of_a_key_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="belong together"):
        TlsOptions(cert_file="cert.pem")


@pytest.mark.parametrize("token", [TOKEN + "\n", "tok en-4711-secret", "tök-4711-secret"])
def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValueError, match="header") as refused:
        AsyncClient("localhost:1", token=token)
    assert "4711" not in str(refused.value)


async def test_the_token_goes_with_each_call_and_is_shown_nowhere(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[Any] = []
    with serving(scripts.fails_midway) as gateway:
        async with connect(gateway.address, token=TOKEN) as client:
            await client.pools()
            with pytest.raises(TrunklineError) as unknown:
                await client.get_session("nobody")
            session = client.open(resumable=False)
            async with session:
                await session.send_audio(b"1")
                await session.send_audio(b"2")
                with pytest.raises(TrunklineError) as lost:
                    _ = [event async for event in session]
            shown += [client, session, unknown.value, lost.value]
        assert gateway.conversation().header("authorization") == f"Bearer {TOKEN}"
        assert gateway.headers == [f"Bearer {TOKEN}"] * 2
    for value in shown:
        assert TOKEN not in repr(value) + str(value)
    for error in (unknown.value, lost.value):
        assert TOKEN not in "".join(traceback.format_exception(error))
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("client", [AsyncClient("localhost:1", token=TOKEN), Client("localhost:1", token=TOKEN)])
def test_a_client_shows_where_to_and_never_with_what(client: AsyncClient | Client) -> None:
    assert repr(client) == f"{type(client).__name__}('localhost:1')"


async def test_without_a_token_there_is_no_header(connect: Connect) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address) as client:
            await client.pools()
        assert gateway.headers == [None]


SPAN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(("told", "shown"), [(SPAN, SPAN), ("", None), ("no span\n", None), (None, None)])
async def test_a_call_says_in_which_span_it_is_made(connect: Connect, told: str | None, shown: str | None) -> None:
    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address, token="t", traceparent=lambda: told) as client:
            await client.pools()
        assert (gateway.headers, gateway.spans) == (["Bearer t"], [shown])


async def test_no_call_fails_because_nobody_knows_its_span(connect: Connect) -> None:
    def fails() -> str:
        raise LookupError

    with serving(scripts.text_turn) as gateway:
        async with connect(gateway.address, traceparent=fails) as client:
            await client.pools()
        assert gateway.spans == [None]


@pytest.mark.parametrize(
    ("owner", "client", "name"),
    [
        ("10.1.2.3:50051", "dns:///gateways.speech.svc:50051", "gateways.speech.svc"),
        ("[fd00::1]:50051", "gateways:50051", "gateways"),
        ("10.1.2.3:50051", "dns://10.0.0.10/gateways.speech.svc:50051", "gateways.speech.svc"),
        ("10.1.2.3:50051", "passthrough:///gateways:50051", "gateways"),
        # It has a name of its own, and a certificate for that.
        ("gw0.example:50051", "dns:///gateways.example:50051", None),
        ("gateways:50051", "gateways:50051", None),
        ("10.1.2.3:50051", "unix:/run/t.sock", None),
        ("10.1.2.3:50051", "ipv4:10.1.2.4:1,10.1.2.5:1", None),
    ],
)
def test_only_an_owner_without_a_name_is_held_to_the_clients_own(owner: str, client: str, name: str | None) -> None:
    options = ConnectionOptions(tls=TlsOptions(ca_file="ca.pem"))
    assert dict(stream_arguments(owner, options, 1.0, client)).get("grpc.ssl_target_name_override") == name
