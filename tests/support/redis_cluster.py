"""Three primaries that share the hash slots, with a replica each where a test wants them."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from redis.crc import key_slot

from tests.support import redis_access
from tests.support.ports import free_port
from tests.support.redis_access import (
    AS_OPERATOR,
    GATEWAY_USER,
    OPERATOR_PASSWORD,
    OPERATOR_USER,
    gateway_user,
    operator_user,
)
from tests.support.redis_process import RedisProcess, all_ended
from tests.support.redis_tls import Certificates, listening
from tests.support.waiting import eventually_sync

PRIMARIES: Final = 3
SLOTS: Final = 16384
NODE_TIMEOUT_MS: Final = 1000
READY_SECONDS: Final = 30.0
MIGRATE_MS: Final = 2000
# What a gateway asks to learn which node has which slots, and what it says to a node that a slot moves to.
CLUSTER_RULES: Final = "+cluster|slots +asking"


@dataclass
class RedisCluster:
    """What runs, by port; `primaries` are those that began as such."""

    nodes: dict[int, RedisProcess]
    primaries: list[int]
    settings: dict[str, Any]
    scheme: str = "redis"

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.primaries)
        return f"{self.scheme}+cluster://{GATEWAY_USER}@{places}"

    def owner_of(self, key: str) -> int:
        """Return the port of the node that serves a key, as the nodes that run agree."""
        owners = set(self._owners(key_slot(key.encode())).values())
        assert len(owners) == 1, f"the nodes name {owners} for {key}"
        return owners.pop()

    def replica_of(self, port: int) -> RedisProcess:
        """Return the replica of a node."""
        primaries = (self.nodes[each].info("replication").get("master_port") for each in self._running())
        return self.nodes[next(each for each, of in zip(self._running(), primaries, strict=True) if of == port)]

    def kill_owner(self, key: str) -> int:
        """Kill the node that serves a key; return its port."""
        port = self.owner_of(key)
        self.nodes[port].kill()
        return port

    def until_ok(self, without: int = 0) -> None:
        """Wait until the nodes agree on who serves each slot: all of them but `without`, and nobody who is dead."""
        eventually_sync(lambda: self._ok(without), "the cluster is ok", READY_SECONDS)

    # Moving a slot: in between, its old owner answers ASK for keys that have gone.

    def begin_move(self, key: str, to: int) -> int:
        """Begin to move a key's slot; no key has gone yet. Return its owner's port."""
        slot, source = key_slot(key.encode()), self.owner_of(key)
        self.nodes[to].ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        self.nodes[source].ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(to))
        return source

    def move_keys(self, key: str, source: int, to: int) -> int:
        """Move the keys of a slot that is on its way; return how many."""
        keys: Any = self.nodes[source].ask("CLUSTER", "GETKEYSINSLOT", key_slot(key.encode()), 1000)
        if keys:
            self._migrate(source, to, keys)
        return len(keys)

    def move_key(self, key: str, source: int, to: int) -> None:
        """Move one key of a slot that is on its way."""
        self._migrate(source, to, [key])

    def finish_move(self, key: str, to: int) -> None:
        """Give a slot to its new owner, and tell everybody: from now on others answer MOVED."""
        slot = key_slot(key.encode())
        for port in (to, *(port for port in self._running() if port != to)):
            with suppress(redis.ResponseError):  # a replica is told by its primary
                self.nodes[port].ask("CLUSTER", "SETSLOT", slot, "NODE", self._id(to))
        eventually_sync(lambda: set(self._owners(slot).values()) == {to}, f"{to} has slot {slot}", READY_SECONDS)

    def move(self, key: str, to: int) -> None:
        """Move a key's slot with all that is in it."""
        source = self.begin_move(key, to)
        self.move_keys(key, source, to)
        self.finish_move(key, to)

    def elsewhere(self, key: str) -> int:
        """Return the port of a primary that does not serve a key."""
        owner = self.owner_of(key)
        return next(port for port in self.primaries if port != owner and self.nodes[port].running)

    def _migrate(self, source: int, to: int, keys: Sequence[str | bytes]) -> None:
        where = ("MIGRATE", "127.0.0.1", to, "", 0, MIGRATE_MS)
        self.nodes[source].ask(*where, "AUTH2", OPERATOR_USER, OPERATOR_PASSWORD, "KEYS", *keys)

    # Asking.

    def _running(self) -> list[int]:
        return [port for port, node in self.nodes.items() if node.running]

    def _id(self, port: int) -> str:
        answer: bytes = self.nodes[port].ask("CLUSTER", "MYID")
        return answer.decode()

    def _owners(self, slot: int) -> dict[int, int]:
        """Return for each node that runs whom it takes for the owner of a slot; 0 = nobody."""
        return {port: _owner(self.nodes[port], slot) for port in self._running()}

    def _ok(self, without: int) -> bool:
        views = set[tuple[tuple[int, int, int], ...]]()
        serving = [port for port in self._running() if port != without]
        for port in serving:
            try:
                info, ranges = _state(self.nodes[port]), _ranges(self.nodes[port])
            except (redis.RedisError, OSError):
                return False
            if info["cluster_state"] != "ok" or info["cluster_slots_ok"] != str(SLOTS):
                return False
            views.add(tuple(ranges))
        return len(views) == 1 and all(port in serving for _, _, port in views.pop())


def _owner(node: RedisProcess, slot: int) -> int:
    return next((port for first, last, port in _ranges(node) if first <= slot <= last), 0)


def _ranges(node: RedisProcess) -> list[tuple[int, int, int]]:
    """Return first slot, last slot and port of its primary, for each range that the node knows of."""
    answer: Any = node.ask("CLUSTER", "SLOTS")
    return sorted((first, last, primary[1]) for first, last, primary, *_ in answer)


def _state(node: RedisProcess) -> dict[str, str]:
    answer: bytes = node.ask("CLUSTER", "INFO")
    return dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)


@contextmanager
def redis_cluster(*options: str, replicas: bool = False, tls: bool = False) -> Iterator[RedisCluster]:
    """Run three nodes, or six; `options` are lines of each one's redis.conf. With `tls` nobody speaks anything else."""
    count = PRIMARIES * (2 if replicas else 1)
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name:
        folder, ports = Path(name), [free_port() for _ in range(2 * count)]
        # Not its port + 10000, which lies where outgoing connections do.
        buses = dict(zip(ports[:count], ports[count:], strict=True))
        certificates = Certificates(folder) if tls else None
        nodes = {port: _node(folder, port, bus, certificates, *options) for port, bus in buses.items()}
        made = RedisCluster(nodes, list(nodes)[:PRIMARIES], {}, "rediss" if tls else "redis")
        ca_file = certificates.ca_file if certificates else None
        made.settings = redis_access.settings(folder, made.url, password=True, ca_file=ca_file)
        with all_ended(list(nodes.values())):
            for node in nodes.values():
                node.start()
            _join(made, buses)
            made.until_ok()
            yield made


def _node(folder: Path, port: int, bus: int, certificates: Certificates | None, *options: str) -> RedisProcess:
    own = folder / str(port)
    own.mkdir()
    listener, how = listening(port, certificates)
    lines = [
        *listener,
        *(["tls-cluster yes"] if certificates else []),
        "cluster-enabled yes",
        f"cluster-port {bus}",
        f"cluster-node-timeout {NODE_TIMEOUT_MS}",
        "user default off",
        gateway_user(CLUSTER_RULES),
        operator_user(),
        f"masteruser {OPERATOR_USER}",
        f"masterauth {OPERATOR_PASSWORD}",
        *options,
    ]
    return RedisProcess(own, lines, {**how, **AS_OPERATOR})


def _join(cluster: RedisCluster, buses: dict[int, int]) -> None:
    """Make the nodes know each other, give the slots out, and give each replica its primary."""
    ports = list(buses)
    for at, port in enumerate(ports):
        # Epochs of their own, or they argue about slots first.
        cluster.nodes[port].ask("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
    for port in ports[1:]:
        cluster.nodes[port].ask("CLUSTER", "MEET", "127.0.0.1", ports[0], buses[ports[0]])
    bounds = [SLOTS * at // PRIMARIES for at in range(PRIMARIES + 1)]
    for port, first, end in zip(cluster.primaries, bounds, bounds[1:], strict=False):
        cluster.nodes[port].ask("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
    eventually_sync(lambda: all(_knows(node, len(ports)) for node in cluster.nodes.values()), "all have met")
    for port, primary in zip(ports[PRIMARIES:], cluster.primaries, strict=False):
        cluster.nodes[port].ask("CLUSTER", "REPLICATE", cluster._id(primary))
    replicas = [cluster.nodes[port] for port in ports[PRIMARIES:]]
    eventually_sync(lambda: all(map(_in_step, replicas)), "every replica is in step")


def _in_step(replica: RedisProcess) -> bool:
    return bool(replica.info("replication").get("master_link_status") == "up")


def _knows(node: RedisProcess, count: int) -> bool:
    met: bytes = node.ask("CLUSTER", "NODES")
    return int(_state(node)["cluster_known_nodes"]) == count and b"handshake" not in met
