"""The ways in which operators run Redis, behind one face, all with TLS and rights.

What the store promises, it promises on each of them.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.store.options import RedisOptions
from gateway.store.sealing_keys import DataKey, SealingKeys
from tests.support.redis_access import GATEWAY_PASSWORD, SEALING_KEY
from tests.support.redis_cluster import redis_cluster
from tests.support.redis_process import RedisProcess
from tests.support.redis_sentinel import sentinel_redis
from tests.support.redis_tls import tls_redis


@dataclass
class Topology:
    """What a gateway is told, and the servers that take writes now."""

    settings: Mapping[str, Any]
    servers: Callable[[], list[RedisProcess]]

    def options(self, **more: Any) -> RedisOptions:
        """Return what the store is told."""
        return options_for(self.settings, **more)

    def each(self, *command: str | int) -> list[Any]:
        """Do one command at every server."""
        return [server.ask(*command) for server in self.servers()]

    def lives(self) -> dict[str, int]:
        """Return every key of every server, and how long it has to live, in ms; -1 = for ever."""
        found = dict[str, int]()
        for server in self.servers():
            with server.client() as client:
                found |= {key.decode(): client.pttl(key) for key in client.scan_iter()}
        return found

    def holders(self) -> int:
        """Return how many servers hold keys."""
        return sum(size > 0 for size in self.each("DBSIZE"))

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let no server take what needs memory."""
        self.each("CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            self.each("CONFIG", "SET", "maxmemory", 0)


def options_for(settings: Mapping[str, Any], **more: Any) -> RedisOptions:
    """Return what the store is told, from what a gateway is told."""
    told = settings["redis"]
    ca_file = Path(told["ca_file"]) if "ca_file" in told else None
    # Quick to try again, and patient with a busy machine.
    chosen = {"probe_max_seconds": 0.2, "deadline_seconds": 1.0, **more}
    return RedisOptions(url=told["url"], password=GATEWAY_PASSWORD, tls_ca_file=ca_file, **chosen)


def sealing_keys() -> SealingKeys:
    """Return the keys that the settings' files hold."""
    return SealingKeys([DataKey("k1", SEALING_KEY)])


@contextmanager
def _tls() -> Iterator[Topology]:
    with tls_redis() as secured:
        yield Topology(secured.settings, lambda: [secured.server])


@contextmanager
def _sentinel() -> Iterator[Topology]:
    with sentinel_redis(tls=True) as watched:
        yield Topology(watched.settings, lambda: [watched.primary])


@contextmanager
def _cluster() -> Iterator[Topology]:
    with redis_cluster(tls=True) as sharded:
        yield Topology(sharded.settings, lambda: [sharded.nodes[port] for port in sharded.primaries])


TOPOLOGIES: Final = {"tls": _tls, "sentinel": _sentinel, "cluster": _cluster}


def sessions_of(lives: Mapping[str, int]) -> list[str]:
    """Return the keys of sessions among all."""
    return [key for key in lives if "/" in key]
