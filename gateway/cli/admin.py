"""`trunkline pools`, `leases`, `sessions`: what a gateway shows, as a table or as JSON."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text
from trunkline.v1.admin_pb2 import LeaseKind
from trunkline.v1.types_pb2 import SessionState
from trunkline_client import AsyncClient, TrunklineError

from gateway.cli.access import Access
from gateway.cli.failure import CommandError

_Row = Sequence[object]
_PIPE_WIDTH = 240


def pools(access: Access, *, as_json: bool) -> None:
    """Show pools."""
    answer = _ask(access, lambda client: client.pools())
    columns = "pool class warm leased dialling draining waiting floor ceiling hits waits state"
    _show(answer, columns, [_pool(each) for each in answer.pools], as_json=as_json)


def leases(access: Access, *, as_json: bool) -> None:
    """Show leases."""
    answer = _ask(access, lambda client: client.leases())
    columns = "lease kind pool tenant caller session held_s ends_in_s correlation"
    rows = [_lease(each) for each in answer.leases]
    _show(answer, columns, rows, as_json=as_json)


def sessions(access: Access, *, as_json: bool) -> None:
    """Show sessions."""
    answer = _ask(access, lambda client: client.sessions())
    columns = "session pool tenant caller state age_s idle_s in_bytes out_bytes tokens"
    rows = [_session(each) for each in answer.sessions]
    _show(answer, columns, rows, as_json=as_json)


def _pool(pool: Any) -> _Row:
    state = "draining" if pool.is_draining else "paused" if pool.paused else "serving"
    if pool.key_refused:
        state += ", the key is refused"
    elif pool.breaker_open:
        state += ", the breaker is open"
    if pool.last_dial_failure:
        state += f", dialling fails: {pool.last_dial_failure}"
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
        state,
    )


def _lease(lease: Any) -> _Row:
    kind = LeaseKind.Name(lease.kind).removeprefix("LEASE_KIND_").lower()
    ends_in = _seconds(lease.expires_in_ms) if lease.expires_in_ms else ""
    session, held = lease.session_id, _seconds(lease.held_ms)
    return (lease.lease_id, kind, lease.pool, lease.tenant, lease.caller, session, held, ends_in, lease.correlation_id)


def _session(session: Any) -> _Row:
    state = SessionState.Name(session.state).removeprefix("SESSION_STATE_").lower()
    tokens = session.usage.input_tokens + session.usage.output_tokens
    return (
        session.session_id,
        session.pool,
        session.tenant,
        session.caller,
        state,
        _seconds(session.age_ms),
        _seconds(session.idle_ms),
        session.audio_in_bytes,
        session.audio_out_bytes,
        tokens,
    )


def _shown(value: object) -> Text:
    """Show what a caller has named, without letting it write into the terminal."""
    return Text("".join(character if character.isprintable() else "?" for character in str(value)))


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f}"


def _ask(access: Access, question: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
    async def ask() -> Any:
        async with access.client() as client:
            return await question(client)

    try:
        return asyncio.run(ask())
    except TrunklineError as error:
        raise CommandError(f"{access.address}: {error}") from None


def _show(answer: Message, columns: str, rows: Sequence[_Row], *, as_json: bool) -> None:
    if as_json:
        # Numbers and falsehoods too: a reader of JSON should not have to know what was left out.
        print(MessageToJson(answer, always_print_fields_with_no_presence=True))
        return
    table = Table(box=None, header_style="bold")
    for column in columns.split():
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(_shown(value) for value in row))
    # A pipe has no width; a name that is cut short would be of no use to a script.
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(table)
    if not rows:
        console.print("none")
