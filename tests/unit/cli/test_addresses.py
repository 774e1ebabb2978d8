"""From an address to the gateways that it stands for."""

import socket
from typing import Any

import pytest

from gateway.cli.addresses import Endpoint, endpoints, is_here, parts
from gateway.cli.failure import CommandError


def names(monkeypatch: pytest.MonkeyPatch, **known: list[str]) -> None:
    """Let names be known; dots are underscores. Every other name is not."""

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if (found := known.get(host.replace(".", "_"))) is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kinds = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in found]
        return [(kind, socket.SOCK_STREAM, 6, "", (each, port)) for kind, each in zip(kinds, found, strict=True)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


async def test_a_name_with_several_addresses_is_several_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, gateways_svc=["10.0.0.1", "10.0.0.2", "10.0.0.1"])
    assert await endpoints("gateways.svc:50051") == [
        Endpoint("10.0.0.1:50051", "gateways.svc"),
        Endpoint("10.0.0.2:50051", "gateways.svc"),
    ]


async def test_a_gateway_with_two_families_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, six=["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"], four=["10.0.0.1", "fd00::1"])
    assert [each.address for each in await endpoints("six:1")] == ["[fd00::1]:1", "[fd00::2]:1"]
    assert [each.address for each in await endpoints("four:1")] == ["10.0.0.1:1"]


async def test_a_name_that_is_not_known_is_asked_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch)
    assert await endpoints("nonesuch:1") == [Endpoint("nonesuch:1")]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/trunkline.sock"])
async def test_what_is_one_gateway_is_not_looked_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch)
    assert await endpoints(address) == [Endpoint(address)]


async def test_several_stand_between_commas_and_each_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, name=["10.0.0.1"])
    found = await endpoints("127.0.0.1:1, 127.0.0.1:2,127.0.0.1:1,dns:///name:3")
    assert [each.address for each in found] == ["127.0.0.1:1", "127.0.0.1:2", "10.0.0.1:3"]


@pytest.mark.parametrize(
    "address",
    ["", ",", "nonsense", "host:", ":50051", "host:0", "host:65536", "host:many", "host:٣", "::1:50051", "a:1,b"],
)
def test_what_is_no_address_is_refused_with_how_one_looks(address: str) -> None:
    with pytest.raises(CommandError, match="HOST:PORT") as raised:
        parts(address)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "unix:/run/x"])
def test_this_machine_needs_no_tls(address: str) -> None:
    assert is_here(address)


@pytest.mark.parametrize("address", ["10.0.0.1:1", "localhost.example.com:1", "[fd00::1]:1", "0.0.0.0:1"])
def test_every_other_does(address: str) -> None:
    assert not is_here(address)
