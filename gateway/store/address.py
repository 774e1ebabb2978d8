"""Where Redis is: one server, the primary that Sentinels name, or the primaries of a Cluster.

    redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]      rediss://…      unix://[USER[:PASSWORD]@]/PATH[?db=DB]
    redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…]/NAME[/DB]
    redis+cluster://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…]

`rediss+…` = with TLS. User and password are the servers'; Sentinels have their own.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote, urlsplit

PORT: Final = 6379
SENTINEL_PORT: Final = 26379
PORT_MAX: Final = 65_535
SCHEMES: Final = (
    "redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
)  # fmt: skip

Place = tuple[str, int]


class Topology(Enum):
    """How Redis is run."""

    SINGLE = auto()
    SENTINEL = auto()
    CLUSTER = auto()


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """What a URL says. `places` are the server, the Sentinels, or some nodes of the Cluster; a Unix socket has none."""

    topology: Topology
    tls: bool
    places: tuple[Place, ...] = ()
    # What the Sentinels call their primary.
    name: str = ""
    database: int = 0
    username: str | None = None
    # Never shown.
    password: str | None = field(default=None, repr=False)
    # The Unix socket.
    path: str = ""
    # No packet leaves this machine.
    is_local: bool = False


def parse(url: str) -> RedisAddress:
    """Return what a URL says. Raises `ValueError`, which repeats nothing of it: it may hold a password."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ValueError(f"redis.url must begin with one of {', '.join(f'{s}://' for s in SCHEMES)}")
    kind = scheme.partition("+")[2]
    tls = scheme.startswith("rediss")
    if scheme == "unix":
        return _unix(url)
    # The userinfo ends at the last @, whatever a password holds.
    userinfo, _, rest = url.partition("://")[2].rpartition("@")
    username, password = _userinfo(userinfo)
    listed, _, path = rest.partition("/")
    if "?" in rest or "#" in rest:
        raise ValueError("redis.url takes no query and no fragment")
    if not kind:
        if not path.isdigit() and path:
            raise ValueError("redis.url ends in the number of a database, if in anything")
        place = _place(listed, PORT)
        is_local = _is_loopback(place[0])
        return RedisAddress(Topology.SINGLE, tls, (place,), "", int(path or 0), username, password, "", is_local)
    default_port = SENTINEL_PORT if kind == "sentinel" else PORT
    places = tuple(_place(each, default_port) for each in listed.split(","))
    is_local = all(_is_loopback(host) for host, _ in places)
    if kind == "cluster":
        if path:
            raise ValueError("redis.url of a Cluster ends behind its nodes: it has one database")
        return RedisAddress(Topology.CLUSTER, tls, places, "", 0, username, password, "", is_local)
    name, _, database = path.partition("/")
    if not name or not (database.isdigit() or not database):
        raise ValueError("redis.url with Sentinels ends in /NAME or /NAME/DB, DB being a number")
    return RedisAddress(
        Topology.SENTINEL, tls, places, unquote(name), int(database or 0), username, password, "", is_local
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _unix(url: str) -> RedisAddress:
    authority, slash, rest = url.partition("://")[2].partition("/")
    path, _, query = rest.partition("?")
    name, _, database = query.partition("=")
    if not slash or not path or (query and (name != "db" or not database.isdigit())):
        raise ValueError("redis.url of a Unix socket is unix:///PATH or unix:///PATH?db=DB")
    username, password = _userinfo(authority.removesuffix("@"))
    socket = "/" + unquote(path)
    return RedisAddress(Topology.SINGLE, False, (), "", int(database or 0), username, password, socket, True)


def _userinfo(text: str) -> tuple[str | None, str | None]:
    name, colon, secret = text.partition(":")
    return unquote(name) or None, unquote(secret) if colon else None


def _place(text: str, default_port: int) -> Place:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.path or not 0 < (port or default_port) <= PORT_MAX:
        raise ValueError("redis.url must list its places as HOST:PORT,HOST:PORT")
    return host, port or default_port
