"""`trunkline pause`, `unpause`, `drain`, `retire`, `limits`, `kill`: what operators do to gateways."""

import sys
from collections.abc import Mapping
from typing import Final

import typer
from trunkline.v1 import admin_pb2

from gateway.cli.access import Access
from gateway.cli.admin import print_json, show_pools
from gateway.cli.failure import CommandError, UnfulfilledError
from gateway.cli.gateways import ask, complain, complaint, found

_UNKNOWN: Final = "UNKNOWN_SESSION"


def pause(access: Access, pool: str, *, as_json: bool) -> None:
    """Refuse new callers of a pool."""
    show_pools(ask(access, lambda gateway: gateway.pause(pool)), as_json=as_json)


def unpause(access: Access, pool: str, *, as_json: bool) -> None:
    """End a pause or a drain."""
    show_pools(ask(access, lambda gateway: gateway.unpause(pool)), as_json=as_json)


def limits(access: Access, pool: str, changes: Mapping[str, int | None], *, as_json: bool) -> None:
    """Change what a pool may; what is None stays."""
    if all(value is None for value in changes.values()):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in changes)
        raise CommandError(f"there is nothing to change: give one of {options}")
    wanted = admin_pb2.SetLimitsRequest(pool=pool, **changes)
    show_pools(ask(access, lambda gateway: gateway.set_limits(wanted)), as_json=as_json)


def drain_pool(access: Access, pool: str, deadline_seconds: int | None, *, as_json: bool) -> None:
    """Close a pool's idle lines and refuse new callers."""
    if deadline_seconds is not None:
        raise CommandError("--deadline-seconds is for a whole gateway: sessions of a drained pool may finish")
    name = _named(pool)
    show_pools(ask(access, lambda gateway: gateway.drain_pool(name)), as_json=as_json)


def drain_gateway(access: Access, deadline_seconds: int, *, at_all: bool, sure: bool, as_json: bool) -> None:
    """Make a gateway ready to stop; several only where that was said."""
    gateways = found(access)
    addresses = [each.address for each in gateways]
    if len(addresses) > 1 and not at_all:
        several = f"{access.address} is {len(addresses)} gateways ({', '.join(addresses)})"
        raise CommandError(f"{several}: name one of them, or give --all")
    if not sure and sys.stdin.isatty():
        question = f"{' and '.join(addresses)}: refuse callers, end all sessions after a while, and stop?"
        if not typer.confirm(question, err=True):
            raise UnfulfilledError("nothing was drained")
    answers = ask(access, lambda gateway: gateway.drain_gateway(deadline_seconds), at=gateways)
    if as_json:
        print_json(answers)
    else:
        for each in answers:
            if each.message is not None:
                print(f"{each.address}: draining, {_counted(each.message.sessions, 'session')} running")
    complain(answers)


def retire(access: Access, pool: str | None, below_version: str, *, as_json: bool) -> None:
    """Replace idle lines that an older template has configured."""
    name = "" if pool is None else _named(pool)
    answers = ask(access, lambda gateway: gateway.retire(name, below_version))
    if as_json:
        print_json(answers)
    else:
        for each in answers:
            if each.message is not None:
                print(f"{each.address}: {_counted(each.message.retired, 'line')} retired")
    complain(answers)


def kill(access: Access, session_id: str, reason: str, *, as_json: bool) -> None:
    """End one session, wherever it runs."""
    answers = ask(access, lambda gateway: gateway.kill(session_id, reason), enough=lambda answer: answer.killed)
    killed = [each for each in answers if each.message is not None and each.message.killed]
    if killed:
        print_json(killed) if as_json else print(f"{killed[0].address}: the session was ended")
        return
    failures = [(each.address, each.failure) for each in answers if each.failure is not None]
    # Each gateway knows its own sessions only; that one does not know this one says nothing yet.
    others = [complaint(*each) for each in failures if each[1].reason != _UNKNOWN]
    if len(others) < len(answers):
        others.append(
            f"no gateway that answered runs session {session_id!r}: `trunkline sessions` shows those that run"
        )
    raise UnfulfilledError(*others)


def _named(pool: str) -> str:
    """Refuse an empty name: a script whose variable is not set must not do it to everything."""
    if not pool:
        raise CommandError("the name of the pool is empty: name one, or leave it out to mean all")
    return pool


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
