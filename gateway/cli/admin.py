"""`trunkline pools`, `leases`, `sessions`, `capabilities`: what gateways show, as tables or as JSON."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text
from trunkline.v1 import admin_pb2, lease_pb2, session_pb2, speech_pb2
from trunkline.v1.types_pb2 import Durability, Feature, SessionState

from gateway.cli.access import Access
from gateway.cli.gateways import Answer, ask, complain
from gateway.cli.words import printable

_Row = Sequence[object]
_POOL: Final = "pool class warm leased dialling draining waiting floor ceiling hits waits state"
_LEASE: Final = "lease kind pool tenant caller session held_s ends_in_s correlation"
_SESSION: Final = "session pool tenant caller state age_s idle_s in_bytes out_bytes tokens"
# A pipe has no width; a name that is cut short would be of no use to a script.
_PIPE_WIDTH: Final = 10_000


def pools(access: Access, *, as_json: bool) -> None:
    """Show pools."""
    answers = ask(access, lambda gateway: gateway.pools())
    if as_json:
        _print_merged(answers, admin_pb2.ListPoolsResponse())
    else:
        _print_rows(_POOL, [(each.address, _pool(pool)) for each, pool in _each(answers, "pools")], answers)
    complain(answers)


def leases(access: Access, *, as_json: bool) -> None:
    """Show leases."""
    answers = ask(access, lambda gateway: gateway.leases())
    if as_json:
        _print_merged(answers, admin_pb2.ListLeasesResponse())
    else:
        _print_rows(_LEASE, [(each.address, _lease(lease)) for each, lease in _each(answers, "leases")], answers)
    complain(answers)


def sessions(access: Access, *, as_json: bool) -> None:
    """Show sessions."""
    answers = ask(access, lambda gateway: gateway.sessions())
    if as_json:
        _print_merged(answers, admin_pb2.ListSessionsResponse())
    else:
        found = _each(answers, "sessions")
        _print_rows(_SESSION, [(each.address, _session(session)) for each, session in found], answers)
    complain(answers)


def capabilities(access: Access, *, as_json: bool) -> None:
    """Show what each gateway can do, and what of the contract it does not serve."""
    answers = ask(access, lambda gateway: gateway.capabilities())
    if as_json:
        print_json(answers)
    else:
        for each in answers:
            if each.message is not None:
                _print_capabilities(each.address, each.message)
    complain(answers)


def show_pools(answers: Sequence[Answer[Any]], *, as_json: bool) -> None:
    """Show the pool that each gateway has changed, and who did not."""
    if as_json:
        print_json(answers)
    else:
        rows = [(each.address, _pool(each.message.pool)) for each in answers if each.message is not None]
        _print_rows(_POOL, rows, answers)
    complain(answers)


def print_json(answers: Sequence[Answer[Any]]) -> None:
    """Print the answers as the contract has them: one as a page, several as one line each."""
    indent = 2 if len(answers) == 1 else None
    for each in answers:
        if each.message is not None:
            _print_message(each.message, indent)


def _print_merged(answers: Sequence[Answer[Any]], merged: Message) -> None:
    """Print one answer with what all have said; nothing if nobody said anything."""
    said = [each.message for each in answers if each.message is not None]
    for message in said:
        merged.MergeFrom(message)
    if said:
        _print_message(merged, 2)


def _print_message(message: Message, indent: int | None) -> None:
    # Numbers and falsehoods too: a reader of JSON should not have to know what was left out.
    print(MessageToJson(message, always_print_fields_with_no_presence=True, indent=indent))


def _each(answers: Sequence[Answer[Any]], field: str) -> Iterable[tuple[Answer[Any], Any]]:
    for answer in answers:
        for each in getattr(answer.message, field, ()):
            yield answer, each


def _pool(pool: admin_pb2.Pool) -> _Row:
    return (
        pool.name,
        pool.line_class,
        pool.warm,
        pool.leased,
        pool.dialling,
        pool.draining,
        pool.waiting,
        pool.floor,
        pool.ceiling,
        pool.acquires.get("hit", 0),
        pool.acquires.get("wait", 0),
        pool_state(pool),
    )


def pool_state(pool: admin_pb2.Pool) -> str:
    """Say what an operator has set, and what is wrong."""
    words = ["draining" if pool.is_draining else "paused" if pool.paused else "serving"]
    if pool.key_refused:
        words.append("the key is refused")
    elif pool.breaker_open:
        words.append("the breaker is open")
    if pool.last_dial_failure:
        words.append(f"dialling fails: {pool.last_dial_failure}")
    return ", ".join(words)


def _lease(lease: admin_pb2.Lease) -> _Row:
    kind = _word(admin_pb2.LeaseKind, lease.kind)
    ends_in = _seconds(lease.expires_in_ms) if lease.expires_in_ms else ""
    session, held = lease.session_id, _seconds(lease.held_ms)
    return (lease.lease_id, kind, lease.pool, lease.tenant, lease.caller, session, held, ends_in, lease.correlation_id)


def _session(session: admin_pb2.Session) -> _Row:
    return (
        session.session_id,
        session.pool,
        session.tenant,
        session.caller,
        session_state(session),
        _seconds(session.age_ms),
        _seconds(session.idle_ms),
        session.audio_in_bytes,
        session.audio_out_bytes,
        session_tokens(session),
    )


def session_state(session: admin_pb2.Session) -> str:
    """Return the state in one word; a number where the gateway is newer than this command."""
    return _word(SessionState, session.state)


def session_tokens(session: admin_pb2.Session) -> int:
    """Return all tokens so far."""
    return session.usage.input_tokens + session.usage.output_tokens


def _print_capabilities(address: str, able: admin_pb2.GetCapabilitiesResponse) -> None:
    _console().print(_text(f"{address}  version {able.version}, revision {able.protocol_revision} of the contract"))
    lines = {
        "durability": _word(Durability, able.durability),
        "features": ", ".join(_word(Feature, each) for each in able.features),
        "templates": ", ".join(able.templates),
        "not served": ", ".join(each for each in _contract() if each not in able.methods),
    }
    for title, words in lines.items():
        _console().print(_text(f"  {title:<10}  {words or 'none'}"))


def _contract() -> Iterable[str]:
    """Yield the path of every method of the contract that this command was built with."""
    for file in (session_pb2, lease_pb2, speech_pb2, admin_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


def _word(kind: Any, value: int) -> str:
    prefix = "".join(f"_{each}" if each.isupper() else each.upper() for each in kind.DESCRIPTOR.name)[1:]
    try:
        return str(kind.Name(value)).removeprefix(f"{prefix}_").lower()
    except ValueError:
        return str(value)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f}"


def _print_rows(columns: str, rows: Sequence[tuple[str, _Row]], answers: Sequence[Answer[Any]]) -> None:
    """Print a table; whose row it is stands first where several were asked."""
    several = len(answers) > 1
    table = Table(box=None, header_style="bold")
    for column in (["gateway"] if several else []) + columns.split():
        table.add_column(column, no_wrap=True)
    for address, row in rows:
        table.add_row(*(_text(value) for value in ((address, *row) if several else row)))
    if rows:
        _console().print(table)
    elif any(each.message is not None for each in answers):
        _console().print("none")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def _text(value: object) -> Text:
    return Text(printable(value))
