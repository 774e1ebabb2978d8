"""A redis-server as a careful operator runs it: TLS only, and a user for the gateway who may do little."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.support import redis_access
from tests.support.ports import free_port
from tests.support.redis_access import AS_OPERATOR, GATEWAY_USER, gateway_user, operator_user
from tests.support.redis_process import RedisProcess, all_ended


@dataclass
class TlsRedis:
    """The server, and what is known of it."""

    server: RedisProcess
    port: int
    ca_file: Path
    # Of an authority that nobody here trusts.
    foreign_ca_file: Path
    settings: dict[str, Any]

    @property
    def url(self) -> str:
        return f"rediss://{GATEWAY_USER}@127.0.0.1:{self.port}/0"


@contextmanager
def tls_redis(*options: str) -> Iterator[TlsRedis]:
    """Run one; `options` are lines of redis.conf."""
    with tempfile.TemporaryDirectory(prefix="tk", dir="/tmp") as name:
        folder, port = Path(name), free_port()
        certificates, foreign = Certificates(folder), folder / "foreign.pem"
        trustme.CA().cert_pem.write_to_path(str(foreign))
        acl = folder / "users.acl"
        acl.write_text(f"user default off\n{gateway_user()}\n{operator_user()}\n", "utf-8")
        listener, how = listening(port, certificates)
        server = RedisProcess(folder, [*listener, f"aclfile {acl}", *options], {**how, **AS_OPERATOR})
        made = TlsRedis(server, port, certificates.ca_file, foreign, {})
        made.settings = redis_access.settings(folder, made.url, password=True, ca_file=made.ca_file)
        with all_ended([server]):
            server.start()
            yield made


def listening(port: int, certificates: "Certificates | None") -> tuple[list[str], dict[str, Any]]:
    """Return the lines that have a server listen, and what redis-py needs to reach it."""
    if certificates is None:
        return [f"port {port}"], {"host": "127.0.0.1", "port": port}
    return certificates.lines(port), {"host": "127.0.0.1", "port": port, **certificates.how}


class Certificates:
    """One authority, and a server's certificate by it for this machine."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", "localhost")
        self.ca_file, self._key, self._chain = folder / "ca.pem", folder / "server.key", folder / "server.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        issued.private_key_pem.write_to_path(str(self._key))
        self._chain.write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))

    def lines(self, port: int) -> list[str]:
        """Have a server listen with TLS and no other way, and speak TLS to other servers."""
        return [
            "port 0",
            f"tls-port {port}",
            f"tls-cert-file {self._chain}",
            f"tls-key-file {self._key}",
            f"tls-ca-cert-file {self.ca_file}",
            "tls-auth-clients no",
            "tls-replication yes",
        ]

    @property
    def how(self) -> dict[str, Any]:
        """What redis-py needs."""
        return {"ssl": True, "ssl_ca_certs": str(self.ca_file)}
