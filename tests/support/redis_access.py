"""Who may do what at the tests' Redis servers: the gateway no more than it needs, the tests everything."""

from pathlib import Path
from typing import Any, Final

GATEWAY_USER: Final = "trunkline"
GATEWAY_PASSWORD: Final = "pw-of-the-gateway"
OPERATOR_USER: Final = "operator"
OPERATOR_PASSWORD: Final = "pw-of-the-operator"
SEALING_KEY: Final = bytes(range(32))

# All that a gateway needs. The second line is what its scripts do, for which the same rights count;
# the third what it asks about the server. What a topology needs on top stands with the topology.
GATEWAY_RULES: Final = (
    "~trunkline:* resetchannels -@all +ping +eval +evalsha +script|load +wait +set +del +pexpire +xrange"
    " +exists +get +hget +hmget +hgetall +hset +hincrby +hdel +unlink +time +xadd +xdel +xlen +xrevrange"
    " +zadd +zcard +zrem +zscore +zrangebyscore +zremrangebyscore"
    " +info +acl|whoami"
)


def gateway_user(more_rules: str = "") -> str:
    """Return the line of an ACL file, or of redis.conf, that makes the gateway's user."""
    return f"user {GATEWAY_USER} on >{GATEWAY_PASSWORD} {GATEWAY_RULES} {more_rules}".rstrip()


def operator_user() -> str:
    """Return the line that makes a user for the tests themselves."""
    return f"user {OPERATOR_USER} on >{OPERATOR_PASSWORD} ~* &* +@all"


AS_OPERATOR: Final = {"username": OPERATOR_USER, "password": OPERATOR_PASSWORD}
AS_GATEWAY: Final = {"username": GATEWAY_USER, "password": GATEWAY_PASSWORD}


def settings(folder: Path, url: str, *, password: bool = False, ca_file: Path | None = None) -> dict[str, Any]:
    """Return the sections that a gateway needs to use a Redis; write the files that they name."""
    key = folder / "sealing-key"
    key.write_bytes(SEALING_KEY)
    redis: dict[str, Any] = {"url": url}
    if password:
        file = folder / "redis-password"
        file.write_text(GATEWAY_PASSWORD + "\n", "utf-8")
        redis["password_file"] = str(file)
    if ca_file is not None:
        redis["ca_file"] = str(ca_file)
    return {"redis": redis, "store": {"sealing_keys": [{"id": "k1", "file": str(key)}]}}
