"""The listener's certificate is renewed under a running call, as a mounted Secret is."""

import asyncio
import contextlib
import signal
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc
import trustme
from trunkline.v1 import event_pb2 as event

from tests.support.calls import Caller
from tests.support.kubelet import MountedSecret
from tests.support.ports import free_port
from tests.support.processes import on_linux
from tests.support.reloading import Reloading, reloading
from tests.support.simulated import simulated_provider
from tests.support.stack import channel_to
from tests.support.waiting import eventually

pytestmark = on_linux
# Certificates tell whole seconds.
FIRST_ENDS: Final = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
ENDS: Final = "trunkline_certificate_not_after_timestamp_seconds"
REFUSED: Final = 'trunkline_degraded{component="configuration"}'


class Authority:
    """Issues certificates, as the files of a Secret."""

    def __init__(self) -> None:
        self._ca = trustme.CA()

    def issue(self, ends: datetime = FIRST_ENDS) -> dict[str, bytes]:
        issued = self._ca.issue_cert("127.0.0.1", not_after=ends)
        chain = b"".join(each.bytes() for each in issued.cert_chain_pems)
        return {"tls.crt": chain, "tls.key": issued.private_key_pem.bytes()}

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self._ca.cert_pem.bytes())

    def serial_at(self, address: str) -> str:
        """Return the number of the certificate that a fresh handshake shows."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        context.set_alpn_protocols(["h2"])
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=5) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            shown = secured.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


@dataclass
class Stand:
    """A gateway that listens with TLS, and a running call."""

    gateway: Reloading
    address: str
    authority: Authority
    secret: MountedSecret
    caller: Caller

    async def serial(self) -> str:
        return await asyncio.to_thread(self.authority.serial_at, self.address)

    async def still_talks(self) -> None:
        await self.caller.say("Hello there")
        await self.caller.answer_please()
        assert (await self.caller.until("response_done")).status == event.RESPONSE_STATUS_COMPLETED


@contextlib.asynccontextmanager
async def stand() -> AsyncIterator[Stand]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tk", dir="/tmp")))
        provider = stack.enter_context(simulated_provider(folder))
        authority = Authority()
        secret = MountedSecret(folder / "tls", authority.issue())
        address = f"127.0.0.1:{free_port()}"
        tls = {"cert_file": secret.path("tls.crt"), "key_file": secret.path("tls.key")}
        gateway = stack.enter_context(reloading(provider.url, grpc={"address": address, "tls": tls}))
        channel = await stack.enter_async_context(channel_to(address, authority.credentials))
        caller = Caller(channel)
        await caller.open()
        yield Stand(gateway, address, authority, secret, caller)
        caller.cancel()


async def test_a_renewed_certificate_is_shown_and_the_running_call_does_not_notice() -> None:
    async with stand() as here:
        first = await here.serial()
        assert here.gateway.metric(ENDS) == FIRST_ENDS.timestamp()
        ends = FIRST_ENDS + timedelta(days=30)
        here.secret.become(here.authority.issue(ends))
        assert await here.serial() != first
        await here.still_talks()
        assert here.gateway.events("tls_reloaded")
        await eventually(lambda: here.gateway.metric(ENDS) == ends.timestamp(), "operators see until when it is good")


async def test_what_is_no_certificate_with_its_key_is_refused_and_told_until_a_good_one_comes() -> None:
    async with stand() as here:
        first = await here.serial()
        here.secret.put(**{"tls.key": here.authority.issue()["tls.key"]})
        assert await here.serial() == first
        await eventually(lambda: here.gateway.configuration()[0] == "degraded", "operators see it")
        assert "grpc.tls" in here.gateway.configuration()[1]
        assert here.gateway.metric(REFUSED) == 1
        assert here.gateway.metric(ENDS) == FIRST_ENDS.timestamp()
        await here.still_talks()
        here.secret.become(here.authority.issue())
        assert await here.serial() != first
        await eventually(lambda: here.gateway.configuration() == ("ok", ""), "all is well again")
        assert f"{REFUSED} 0.0" in here.gateway.metrics()


async def test_operators_see_the_certificate_that_is_shown_though_something_else_is_refused() -> None:
    async with stand() as here:
        here.gateway.write(limits={"drain_seconds": 2})
        assert "limits: a change needs a restart" in await here.gateway.refused(0)
        ends = FIRST_ENDS + timedelta(days=30)
        here.secret.become(here.authority.issue(ends))
        await eventually(lambda: here.gateway.metric(ENDS) == ends.timestamp(), "without a handshake, too", 10)
        assert here.gateway.configuration()[0] == "degraded"


async def test_who_leaves_is_not_told_of_a_change_that_it_cannot_follow() -> None:
    async with stand() as here:
        here.gateway.write(limits={"drain_seconds": 2})
        await here.gateway.refused(0)
        await eventually(lambda: here.gateway.metric(REFUSED) == 1, "operators see it")
        here.gateway.process.send(signal.SIGTERM)
        await eventually(lambda: "draining" in here.gateway.ready()["obstacles"], "it leaves")
        await eventually(lambda: here.gateway.configuration() == ("ok", ""), "its successor has the change")


async def test_another_place_of_the_files_needs_a_restart() -> None:
    async with stand() as here:
        first = await here.serial()
        elsewhere = {name: file + ".new" for name, file in here.gateway.content["grpc"]["tls"].items()}
        here.gateway.write(grpc={**here.gateway.content["grpc"], "tls": elsewhere})
        assert "grpc: a change needs a restart" in await here.gateway.refused(0)
        assert await here.serial() == first
        await here.still_talks()
