"""Every dangerous setting gets its sentence; a safe server gets none."""

from typing import Any

import pytest

from gateway.store import checks
from gateway.store.link import Command
from gateway.store.options import RedisOptions

SAFE: dict[Command, Any] = {
    checks.POLICY: b"# Memory\r\nmaxmemory_policy:noeviction\r\n",
    checks.REPLICATION: b"# Replication\r\nrole:master\r\nconnected_slaves:1\r\n",
    checks.PERSISTENCE: b"aof_enabled:0\r\n",
    checks.WHO: b"trunkline",
}
OPTIONS = RedisOptions(url="rediss://h", replicas_wait=1)


def test_a_safe_server_gets_no_warning() -> None:
    assert checks.warnings(SAFE, OPTIONS) == []


@pytest.mark.parametrize(
    ("question", "answer", "said"),
    [
        (checks.POLICY, b"maxmemory_policy:allkeys-lru\r\n", "allkeys-lru"),
        (checks.REPLICATION, b"connected_slaves:0\r\n", "no append is confirmed"),
        (checks.REPLICATION, b"connected_slaves:0\r\n", "forgets every session"),
        (checks.WHO, b"default", "user is default"),
        (checks.POLICY, None, "INFO memory: not checked"),
        (checks.REPLICATION, None, "INFO replication: not checked"),
    ],
)
def test_each_danger_gets_its_sentence(question: Command, answer: object, said: str) -> None:
    found = checks.warnings({**SAFE, question: answer}, OPTIONS)
    assert any(said in sentence for sentence in found)


def test_a_plain_connection_is_named() -> None:
    plain = RedisOptions(url="redis://h")
    assert "not encrypted" in " ".join(checks.warnings(SAFE, plain))
