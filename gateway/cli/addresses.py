"""From what stands after `--address` to the gateways that are asked: a name may stand for several of them."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

from gateway.cli.failure import CommandError

_LOOK_UP_SECONDS: Final = 10.0
_UNIX: Final = "unix:"
_LOCALHOST: Final = "localhost"
_PORTS: Final = range(1, 65_536)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One gateway: where it is dialled, and the name by which it was found; empty = by none."""

    address: str
    name: str = ""


def parts(address: str) -> list[str]:
    """Return what the commas of an address divide. Raises `CommandError`."""
    found = [part.removeprefix("dns:///") for each in address.split(",") if (part := each.strip())]
    if not found:
        raise CommandError("--address is empty: say HOST:PORT")
    for part in found:
        _host_and_port(part)
    return found


async def endpoints(address: str) -> list[Endpoint]:
    """Return every gateway of an address, each once. Raises `CommandError`."""
    found = await asyncio.gather(*(_endpoints(part) for part in parts(address)))
    return list(dict.fromkeys(each for of_part in found for each in of_part))


async def _endpoints(part: str) -> list[Endpoint]:
    host, port = _host_and_port(part)
    # This name has an address of each family, and a gateway on one of them.
    if not port or host == _LOCALHOST or _ip(host):
        return [Endpoint(part)]
    try:
        async with asyncio.timeout(_LOOK_UP_SECONDS):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # It is asked by its name then, and the answer says what is wrong with that.
        return [Endpoint(part)]
    # A gateway with an address of each family is asked once, by the family that this machine prefers.
    family = found[0][0]
    hosts = [str(where[0]) for each, _, _, _, where in found if each == family]
    return [Endpoint(f"[{each}]:{port}" if ":" in each else f"{each}:{port}", host) for each in hosts]


def _host_and_port(part: str) -> tuple[str, str]:
    """Take HOST:PORT apart; a Unix socket has no port."""
    if part.startswith(_UNIX):
        return part, ""
    host, _, port = part.rpartition(":")
    if (
        not host
        or not (port.isascii() and port.isdigit())
        or int(port) not in _PORTS
        or (":" in host and host[0] != "[")
    ):
        raise CommandError(f"--address {part}: say HOST:PORT, such as 127.0.0.1:50051")
    return host, port


def is_here(address: str) -> bool:
    """Tell whether an address never leaves this machine, so that it needs no TLS."""
    host, port = _host_and_port(address)
    ip = _ip(host)
    return not port or host == _LOCALHOST or (ip is not None and ip.is_loopback)


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
