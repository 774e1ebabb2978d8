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
        folder, port, authority = Path(name), free_port(), trustme.CA()
        ca_file, foreign = folder / "ca.pem", folder / "foreign.pem"
        authority.cert_pem.write_to_path(str(ca_file))
        trustme.CA().cert_pem.write_to_path(str(foreign))
        acl = folder / "users.acl"
        acl.write_text(f"user default off\n{gateway_user()}\n{operator_user()}\n", "utf-8")
        lines = [*_listener(folder, authority, port), f"aclfile {acl}", *options]
        how = {"host": "127.0.0.1", "port": port, "ssl": True, "ssl_ca_certs": str(ca_file), **AS_OPERATOR}
        server = RedisProcess(folder, lines, how)
        made = TlsRedis(server, port, ca_file, foreign, {})
        made.settings = redis_access.settings(folder, made.url, password=True, ca_file=ca_file)
        with all_ended([server]):
            server.start()
            yield made


def _listener(folder: Path, authority: trustme.CA, port: int) -> list[str]:
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(str(folder / "server.key"))
    (folder / "server.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    return [
        "port 0",
        f"tls-port {port}",
        f"tls-cert-file {folder / 'server.pem'}",
        f"tls-key-file {folder / 'server.key'}",
        f"tls-ca-cert-file {folder / 'ca.pem'}",
        "tls-auth-clients no",
    ]
