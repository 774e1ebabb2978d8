"""A name server that knows one name, as a cluster's knows a headless service: all addresses that are ready."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.support.ports import free_port

# What clusters come with: CoreDNS hands an answer out again for so long, whatever has changed meanwhile.
TTL_SECONDS: Final = 5


class NameServer(asyncio.DatagramProtocol):
    """Answers over UDP. `asked` counts the questions for addresses."""

    def __init__(self, name: str, endpoints: Sequence[str]) -> None:
        """Answer for `name` with what is in `endpoints` (host:port), which may change at any time."""
        self.address = f"127.0.0.1:{free_port()}"
        self.asked = 0
        self._name = dns.name.from_text(name)
        self._endpoints = endpoints
        self._kept: tuple[str, ...] = ()
        self._kept_until = 0.0
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: Any) -> None:
        """Take the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer a question, or drop what is none."""
        try:
            question = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        answer = dns.message.make_response(question)
        (asked,) = question.question
        if asked.name != self._name:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif asked.rdtype == dns.rdatatype.A and (found := self._addresses(time.monotonic())):
            answer.answer.append(dns.rrset.from_text(asked.name, TTL_SECONDS, "IN", "A", *found))
        self._transport.sendto(answer.to_wire(), addr)

    def _addresses(self, now: float) -> Sequence[str]:
        self.asked += 1
        if now >= self._kept_until:
            self._kept = tuple(each.rpartition(":")[0] for each in self._endpoints)
            self._kept_until = now + TTL_SECONDS
        return self._kept


@asynccontextmanager
async def name_server(name: str, endpoints: Sequence[str]) -> AsyncIterator[NameServer]:
    """Answer for one name, as long as the block runs."""
    server = NameServer(name, endpoints)
    host, _, port = server.address.rpartition(":")
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: server, (host, int(port)))
    try:
        yield server
    finally:
        transport.close()
