"""Settings of a Redis server that would break a promise without anyone noticing."""

from collections.abc import Mapping
from typing import Final

from gateway.store.link import Command, Reply
from gateway.store.options import RedisOptions

POLICY: Final[Command] = ("INFO", "memory")
REPLICATION: Final[Command] = ("INFO", "replication")
PERSISTENCE: Final[Command] = ("INFO", "persistence")
WHO: Final[Command] = ("ACL", "WHOAMI")
QUESTIONS: Final = (POLICY, REPLICATION, PERSISTENCE, WHO)


def warnings(answers: Mapping[Command, Reply], options: RedisOptions) -> list[str]:
    """Return one sentence for each danger; what the server would not tell is one too."""
    found = [
        _policy(answers[POLICY]),
        _replicas(answers[REPLICATION], options.replicas_wait),
        _persistence(answers[REPLICATION], answers[PERSISTENCE]),
        _user(answers[WHO]),
        "" if options.address.tls or options.address.is_local else "the connection to Redis is not encrypted",
    ]
    refused = [" ".join(map(str, question)) for question, answer in answers.items() if not answer]
    if refused:
        found.append(f"Redis would not answer {', '.join(refused)}: not checked")
    return [sentence for sentence in found if sentence]


def _policy(answer: Reply) -> str:
    policy = _info(answer).get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return ""
    return f"maxmemory-policy is {policy}: Redis may drop a live session; set noeviction"


def _replicas(answer: Reply, wanted: int) -> str:
    there = int(_info(answer).get("connected_slaves", wanted))
    if there == wanted or not wanted:
        return ""
    if there > wanted:
        return (
            f"replicas_wait is {wanted}, but Redis has {there} replicas: a fail-over to one of the others may lose "
            f"what was confirmed; set {there}"
        )
    return f"replicas_wait is {wanted}, but Redis has {there} replicas: no append is confirmed"


def _persistence(replication: Reply, persistence: Reply) -> str:
    replicas = int(_info(replication).get("connected_slaves", 1))
    if replicas or _info(persistence).get("aof_enabled", "1") == "1":
        return ""
    return "Redis has neither a replica nor an append-only file: a restart forgets every session"


def _user(answer: Reply) -> str:
    if answer != b"default":
        return ""
    return "the Redis user is default: give the gateway one that may touch trunkline:* only"


def _info(answer: Reply) -> dict[str, str]:
    lines = bytes(answer or b"").decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
