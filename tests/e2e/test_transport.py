"""The transport's settings: names that gRPC knows, pings that agree, TLS that follows its files, slow strangers."""

import asyncio
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import trustme
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from trunkline.v1 import event_pb2 as event
from trunkline_client import AsyncClient, ConnectionOptions, TlsOptions
from trunkline_client._channel import channel_arguments as client_arguments
from trunkline_client.events import ResponseDone

from gateway.rpc.server import ServerOptions
from gateway.rpc.server import channel_arguments as server_arguments
from tests.support.calls import Caller
from tests.support.stack import channel_to, gateway_on, simulator, stack

SERVER: dict[str, Any] = dict(server_arguments(ServerOptions(address="x", message_max_bytes=1)))
CLIENT: dict[str, Any] = dict(client_arguments("127.0.0.1:1", ConnectionOptions(tls=TlsOptions(server_name="x"))))


def known(name: str, library: bytes) -> bool:
    """Tell whether gRPC's core has a string of exactly this content."""
    wanted, at = name.encode() + b"\0", -1
    while (at := library.find(wanted, at + 1)) >= 0:
        if library[at - 1 : at] not in b"abcdefghijklmnopqrstuvwxyz_.":
            return True
    return False


@pytest.fixture(scope="module")
def library() -> bytes:
    return Path(cygrpc.__file__).read_bytes()


@pytest.mark.parametrize("name", sorted(SERVER.keys() | CLIENT.keys()))
def test_grpc_knows_every_channel_argument(name: str, library: bytes) -> None:
    """It ignores an unknown one in silence."""
    assert known(name, library)
    assert not known(name + "x", library)


def test_our_clients_pings_are_welcome_at_our_server() -> None:
    least = SERVER["grpc.http2.min_ping_interval_without_data_ms"]
    assert CLIENT["grpc.keepalive_time_ms"] >= 2 * least
    assert SERVER["grpc.keepalive_permit_without_calls"] == 1


def test_a_frozen_peer_is_noticed_on_both_sides() -> None:
    for side in (SERVER, CLIENT):
        assert 0 < side["grpc.http2.ping_timeout_ms"] <= 10_000
        assert side["grpc.http2.bdp_probe"] == 0


def test_a_port_is_not_shared_with_another_process() -> None:
    assert SERVER["grpc.so_reuseport"] == 0


@pytest.mark.heavy
@pytest.mark.timeout(120)
async def test_a_quiet_stream_of_our_client_lives_a_minute_and_then_holds_a_turn() -> None:
    async with (
        stack() as (running, _),
        AsyncClient(running.address) as client,
        client.open(resumable=False) as session,
    ):
        await asyncio.sleep(61)
        await session.send_text("Hello there")
        await session.create_response()
        async for each in session:
            if isinstance(each, ResponseDone):
                assert each.status == event.RESPONSE_STATUS_COMPLETED
                return
        raise AssertionError("the stream ended")


@pytest.mark.heavy
async def test_a_stranger_that_connects_and_says_nothing_is_closed_soon() -> None:
    async with stack() as (running, _):
        host, _, port = running.address.rpartition(":")
        loop = asyncio.get_running_loop()
        began = loop.time()
        reader, writer = await asyncio.open_connection(host, int(port))
        async with asyncio.timeout(8):
            while await reader.read(4096):
                pass
        assert 3 < loop.time() - began < 6.5
        writer.close()


# TLS.


class Authority:
    """A certificate authority and the files of a listener."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self.issue()

    def issue(self) -> bytes:
        """Write a new certificate; return it."""
        issued = self.ca.issue_cert("127.0.0.1", "localhost")
        self.put(self.key, issued.private_key_pem.bytes())
        chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
        self.put(self.cert, chain)
        return chain

    def put(self, file: Path, content: bytes) -> None:
        """Replace a file as kubelet does: at once."""
        fresh = self.folder / f"{file.name}.new"
        fresh.write_bytes(content)
        fresh.replace(file)

    @property
    def settings(self) -> dict[str, str]:
        return {"cert_file": str(self.cert), "key_file": str(self.key)}

    def credentials(self, client: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
        roots = self.ca.cert_pem.bytes()
        if client is None:
            return grpc.ssl_channel_credentials(roots)
        chain = b"".join(each.bytes() for each in client.cert_chain_pems)
        return grpc.ssl_channel_credentials(roots, client.private_key_pem.bytes(), chain)


def serial_at(address: str, ca: trustme.CA) -> str:
    """Return the serial number of the certificate that a fresh handshake shows."""
    import ssl  # noqa: PLC0415

    context = ssl.create_default_context()
    ca.configure_trust(context)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        certificate = secured.getpeercert()
        assert certificate is not None
        assert secured.version() in ("TLSv1.2", "TLSv1.3")
        return str(certificate["serialNumber"])


async def turn(caller: Caller) -> None:
    await caller.say("Hello there")
    await caller.answer_please()
    await caller.until("response_done")


def grpc_settings(authority: Authority, **more: str) -> dict[str, object]:
    from tests.support.ports import free_port  # noqa: PLC0415

    return {"address": f"127.0.0.1:{free_port()}", "tls": {**authority.settings, **more}}


async def test_a_caller_connects_by_tls_and_not_without(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        simulator() as sim,
        gateway_on(sim.url, grpc=grpc_settings(authority), credentials=authority.credentials()) as running,
    ):
        caller = running.caller()
        await caller.open()
        await turn(caller)
        ca_file = tmp_path / "ca.pem"
        ca_file.write_bytes(authority.ca.cert_pem.bytes())
        options = ConnectionOptions(tls=TlsOptions(ca_file=str(ca_file)))
        async with AsyncClient(running.address, options=options) as client:
            assert (await client.pools()).pools[0].name == "default"
        for credentials in (None, grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes())):
            async with channel_to(running.address, credentials) as channel:
                stranger = Caller(channel)
                assert (await stranger.status()).code is grpc.StatusCode.UNAVAILABLE


async def test_a_replaced_certificate_is_shown_from_the_next_handshake_on(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        simulator() as sim,
        gateway_on(sim.url, grpc=grpc_settings(authority), credentials=authority.credentials()) as running,
    ):
        caller = running.caller()
        await caller.open()
        show = asyncio.get_running_loop().run_in_executor
        first = await show(None, serial_at, running.address, authority.ca)
        assert await show(None, serial_at, running.address, authority.ca) == first
        authority.issue()
        second = await show(None, serial_at, running.address, authority.ca)
        assert second != first
        await turn(caller)
        async with channel_to(running.address, authority.credentials()) as channel:
            later = Caller(channel)
            await later.open()
            await turn(later)
            later.cancel()
        await turn(caller)


@pytest.mark.parametrize("broken", ["garbage", "empty", "missing", "key of another", "half"])
async def test_a_broken_replacement_keeps_the_certificate_in_use(broken: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with (
        simulator() as sim,
        gateway_on(sim.url, grpc=grpc_settings(authority), credentials=authority.credentials()) as running,
    ):
        show = asyncio.get_running_loop().run_in_executor
        first = await show(None, serial_at, running.address, authority.ca)
        kept = SimpleNamespace(cert=authority.cert.read_bytes(), key=authority.key.read_bytes())
        match broken:
            case "garbage":
                authority.put(authority.cert, b"no certificate")
            case "empty":
                authority.put(authority.key, b"")
            case "missing":
                authority.cert.unlink()
            case "key of another":
                other = authority.ca.issue_cert("127.0.0.1")
                authority.put(authority.key, other.private_key_pem.bytes())
            case "half":
                authority.put(authority.cert, kept.cert[: len(kept.cert) // 2])
        for _ in range(2):
            assert await show(None, serial_at, running.address, authority.ca) == first
        # And a good one after it is taken.
        authority.issue()
        assert await show(None, serial_at, running.address, authority.ca) != first


async def test_callers_must_show_a_certificate_where_an_authority_is_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ca_file = tmp_path / "clients.pem"
    ca_file.write_bytes(authority.ca.cert_pem.bytes())
    shown = authority.credentials(authority.ca.issue_cert("bot.acme"))
    async with (
        simulator() as sim,
        gateway_on(
            sim.url,
            grpc=grpc_settings(authority, client_ca_file=str(ca_file)),
            credentials=shown,
        ) as running,
    ):
        caller = running.caller()
        await caller.open()
        strange = trustme.CA().issue_cert("bot.acme")
        for credentials in (authority.credentials(), authority.credentials(strange)):
            async with channel_to(running.address, credentials) as channel:
                assert (await Caller(channel).status()).code is grpc.StatusCode.UNAVAILABLE
