"""A primary, its replicas, and three Sentinels that put one of them in its place when it is gone."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis

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
from tests.support.redis_process import RedisProcess, all_ended, parted
from tests.support.redis_tls import Certificates, listening
from tests.support.waiting import eventually_sync

NAME: Final = "trunks"
SENTINELS: Final = 3
QUORUM: Final = 2
DOWN_AFTER_MS: Final = 700
READY_SECONDS: Final = 20.0
PROMOTION_SECONDS: Final = 30.0
# To ask all of them is work for a machine that is measured meanwhile.
LOOK_SECONDS: Final = 0.05
# Before a gateway sends its first write it may ask a server whether it is the primary.
SENTINEL_RULES: Final = "+role"


@dataclass
class SentinelRedis:
    """What runs. Ports are names: a server that comes back has the same one."""

    servers: dict[int, RedisProcess]
    sentinels: dict[int, RedisProcess]
    settings: dict[str, Any]
    scheme: str = "redis"

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"{self.scheme}+sentinel://{GATEWAY_USER}@{places}/{NAME}/0"

    def current_primary(self) -> int:
        """Return the port that most Sentinels name."""
        named = [port for port in map(_named_by, self.sentinels.values()) if port]
        assert named, "no Sentinel answers"
        return max(named, key=named.count)

    @property
    def primary(self) -> RedisProcess:
        return self.servers[self.current_primary()]

    def kill_primary(self) -> int:
        """Kill it; return its port."""
        port = self.current_primary()
        self.servers[port].kill()
        return port

    def freeze_primary(self) -> int:
        """Freeze it; return its port."""
        port = self.current_primary()
        self.servers[port].freeze()
        return port

    def lose_primary(self, *, frozen: bool) -> int:
        """Lose it with what no replica has; return it when another one has its place."""
        old = self.current_primary()
        with parted(self.servers[old], [each for port, each in self.servers.items() if port != old]):
            assert (self.freeze_primary() if frozen else self.kill_primary()) == old
        self.until_promoted(old)
        return old

    def until_promoted(self, instead_of: int) -> int:
        """Wait until every Sentinel that runs names another server, and it takes writes; return its port."""

        def promoted() -> bool:
            named = [_named_by(each) for each in self.sentinels.values() if each.running]
            return len({*named} - {0, instead_of}) == len({*named}) == 1 and _is_primary(self.servers[named[0]])

        eventually_sync(promoted, f"another primary than {instead_of}", PROMOTION_SECONDS, LOOK_SECONDS)
        return self.current_primary()

    def until_replicated(self) -> None:
        """Wait until the primary has its replicas in step, and every Sentinel knows of all and of the others."""
        eventually_sync(self._whole, "the Sentinels know everybody", READY_SECONDS, LOOK_SECONDS)

    def _whole(self) -> bool:
        primary, replicas = self.primary.info("replication"), len(self.servers) - 1
        online = [each for at in range(replicas) if (each := primary.get(f"slave{at}", {})).get("state") == "online"]
        if primary["role"] != "master" or len(online) < replicas:
            return False
        for sentinel in self.sentinels.values():
            with sentinel.client() as client:
                state: Any = client.sentinel_master(NAME)
            if (
                state["num-slaves"] < replicas
                or state["num-other-sentinels"] != SENTINELS - 1
                or state["flags"] != "master"
            ):
                return False
        return True


def _named_by(sentinel: RedisProcess) -> int:
    """Return the port of the primary that it names; 0 = it does not answer."""
    with suppress(redis.RedisError, OSError), sentinel.client() as client:
        found: Any = client.sentinel_get_master_addr_by_name(NAME)
        return int(found[1]) if found else 0
    return 0


def _is_primary(server: RedisProcess) -> bool:
    with suppress(redis.RedisError, OSError):
        return bool(server.info("replication")["role"] == "master")
    return False


@contextmanager
def sentinel_redis(
    *options: str, replicas: int = 1, sentinel_password: str = "", tls: bool = False
) -> Iterator[SentinelRedis]:
    """Run them all; `options` are lines of every server's redis.conf. With `tls` nobody speaks anything else."""
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name:
        folder = Path(name)
        first, *others = (free_port() for _ in range(1 + replicas + SENTINELS))
        certificates = Certificates(folder) if tls else None
        follow = f"replicaof 127.0.0.1 {first}"
        servers = {first: _server(folder, first, certificates, *options)}
        servers |= {each: _server(folder, each, certificates, follow, *options) for each in others[:replicas]}
        sentinels = {
            port: _sentinel(folder, port, first, sentinel_password, certificates) for port in others[replicas:]
        }
        made = SentinelRedis(servers, sentinels, {}, "rediss" if tls else "redis")
        ca_file = certificates.ca_file if certificates else None
        made.settings = redis_access.settings(folder, made.url, password=True, ca_file=ca_file)
        with all_ended([*servers.values(), *sentinels.values()]):
            for process in (*servers.values(), *sentinels.values()):
                process.start()
            made.until_replicated()
            yield made


def _server(folder: Path, port: int, certificates: Certificates | None, *options: str) -> RedisProcess:
    listener, how = listening(port, certificates)
    lines = [
        *listener,
        "user default off",
        gateway_user(SENTINEL_RULES),
        operator_user(),
        f"masteruser {OPERATOR_USER}",
        f"masterauth {OPERATOR_PASSWORD}",
        *options,
    ]
    return RedisProcess(_own(folder, port), lines, {**how, **AS_OPERATOR})


def _sentinel(folder: Path, port: int, primary: int, password: str, certificates: Certificates | None) -> RedisProcess:
    listener, how = listening(port, certificates)
    lines = [
        *listener,
        f"sentinel monitor {NAME} 127.0.0.1 {primary} {QUORUM}",
        f"sentinel auth-user {NAME} {OPERATOR_USER}",
        f"sentinel auth-pass {NAME} {OPERATOR_PASSWORD}",
        f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}",
        # A Sentinel that lost the vote tries again after twice that.
        f"sentinel failover-timeout {NAME} 3000",
    ]
    if password:
        # It is what they show each other, too.
        lines.append(f"requirepass {password}")
        how["password"] = password
    return RedisProcess(_own(folder, port), lines, how, name="sentinel", program="redis-sentinel")


def _own(folder: Path, port: int) -> Path:
    own = folder / str(port)
    own.mkdir()
    return own
