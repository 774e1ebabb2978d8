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
SINGLE_SCHEMES: Final = ("redis", "rediss", "unix")
SCHEMES: Final = (
    *SINGLE_SCHEMES, "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster",
)  # fmt: skip

Place = tuple[str, int]


class Topology(Enum):
    """How Redis is run."""

    SINGLE = auto()
    SENTINEL = auto()
    CLUSTER = auto()


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """What a URL says. `places` are the Sentinels, or some nodes of the Cluster; a single server stands in its URL."""

    topology: Topology
    tls: bool
    places: tuple[Place, ...] = ()
    # What the Sentinels call their primary.
    name: str = ""
    database: int = 0
    username: str | None = None
    # Never shown.
    password: str | None = field(default=None, repr=False)
    # No packet leaves this machine.
    is_local: bool = False


def parse(url: str) -> RedisAddress:
    """Return what a URL says. Raises `ValueError`, which repeats nothing of it: it may hold a password."""
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise ValueError(f"redis.url must begin with one of {', '.join(f'{s}://' for s in SCHEMES)}")
    kind = scheme.partition("+")[2]
    tls = scheme.startswith("rediss")
    # The userinfo ends at the last @, as everywhere; what follows is ours where it lists several places.
    username, password = _userinfo(url)
    if not kind:
        host = urlsplit(url).hostname or "localhost"
        is_local = scheme == "unix" or _is_loopback(host)
        return RedisAddress(Topology.SINGLE, tls, username=username, password=password, is_local=is_local)
    rest = url.partition("://")[2].rpartition("@")[2]
    listed, _, path = rest.partition("/")
    if "?" in rest or "#" in rest:
        raise ValueError("redis.url with Sentinels or a Cluster takes no query and no fragment")
    default_port = SENTINEL_PORT if kind == "sentinel" else PORT
    places = tuple(_place(each, default_port) for each in listed.split(","))
    is_local = all(_is_loopback(host) for host, _ in places)
    if kind == "cluster":
        if path:
            raise ValueError("redis.url of a Cluster ends behind its nodes: it has one database")
        return RedisAddress(Topology.CLUSTER, tls, places, "", 0, username, password, is_local)
    name, _, database = path.partition("/")
    if not name or not (database.isdigit() or not database):
        raise ValueError("redis.url with Sentinels ends in /NAME or /NAME/DB, DB being a number")
    return RedisAddress(Topology.SENTINEL, tls, places, unquote(name), int(database or 0), username, password, is_local)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _userinfo(url: str) -> tuple[str | None, str | None]:
    rest = url.partition("://")[2]
    if "@" not in rest.partition("?")[0]:
        return None, None
    name, colon, secret = rest.partition("?")[0].rpartition("@")[0].partition(":")
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
