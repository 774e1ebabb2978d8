"""What is stored of a session, told to the caller that owns it."""

import re
from collections.abc import Iterable
from typing import Any, Final

import structlog
from trunkline.v1 import control_pb2 as control
from trunkline.v1 import event_pb2 as event
from trunkline.v1 import session_pb2 as session
from trunkline.v1 import types_pb2 as types

from gateway.core.errors import CallerError, Reason, StoreError
from gateway.core.principal import Principal
from gateway.rpc.parts import ServiceParts
from gateway.rpc.records import message_of
from gateway.rpc.responses import usage
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.runtime.session_words import total_usage

_log = structlog.get_logger(__name__)
# The form of our ids; nothing else becomes part of a key.
_ID: Final = re.compile(r"sess_[A-Za-z0-9_-]{1,64}")


async def stored_session(parts: ServiceParts, session_id: str, principal: Principal) -> session.GetSessionResponse:
    """Return what is known of a session, from its log and, while it runs here, from itself.

    Raises `CallerError` UNKNOWN_SESSION, the same for one that never was and for somebody else's, and `StoreError`.
    """
    if not _ID.fullmatch(session_id):
        raise _unknown()
    answer = _from_log(await _read(parts, SessionKey(principal.tenant, session_id)), session_id, principal.caller)
    live = parts.directory.find(session_id)
    mine = live is not None and (live.principal.tenant, live.principal.caller)
    if live is None or mine != (principal.tenant, principal.caller):
        if answer is None:
            raise _unknown()
        return answer
    answer = answer or session.GetSessionResponse(session_id=session_id)
    answer.state = types.SessionState.Value(f"SESSION_STATE_{live.state.name}")
    answer.owner_address, answer.template = parts.owner_address, live.pool
    answer.correlation_id = live.request.correlation_id
    answer.usage.CopyFrom(usage(total_usage(live)))
    return answer


async def _read(parts: ServiceParts, key: SessionKey) -> list[LogEntry]:
    try:
        return await parts.store.read(key)
    except StoreError as error:
        if error.reason is not Reason.INTERNAL:
            raise
        # Its key was taken away: who asks learns no more than of one that never was.
        _log.warning("record_unreadable", session_id=key.session_id, error=error.message)
        return []


def _unknown() -> CallerError:
    return CallerError(Reason.UNKNOWN_SESSION, "no session of yours has that id, or it is not kept any more")


def _from_log(entries: Iterable[LogEntry], session_id: str, caller: str) -> session.GetSessionResponse | None:
    """Read the log; None = there is none, or it is another caller's."""
    answer = session.GetSessionResponse(session_id=session_id)
    items: dict[str, session.StoredItem] = {}
    found: dict[str | None, list[Any]] = {}
    for entry in entries:
        message = message_of(entry.payload)
        answer.seq, kind = entry.seq, message.WhichOneof("message")
        if kind == "item_done":
            items[message.item_done.item_id] = _item(message.item_done, entry.seq)
        elif kind == "item_deleted":
            items.pop(message.item_deleted.item_id, None)
        elif kind is not None:
            found.setdefault(kind, []).append(getattr(message, kind))
    opened = found.get("opened", [])
    if not opened or opened[0].caller != caller:
        return None
    _begin(answer, opened[0])
    for changed in found.get("state_changed", []):
        answer.state = changed.state
    for closed in found.get("closed", []):
        answer.state = types.SESSION_STATE_CLOSED
        answer.usage.CopyFrom(closed.usage)
    for transcript in found.get("user_transcript", []):  # a spoken turn's words come apart from it
        if (item := items.get(transcript.item_id)) is not None:
            item.text = item.text or transcript.text
    answer.items.extend(items.values())
    return answer


def _begin(answer: session.GetSessionResponse, opened: session.Opened) -> None:
    answer.state = types.SESSION_STATE_ACTIVE
    answer.owner_address, answer.template = opened.owner_address, opened.template
    answer.correlation_id = opened.correlation_id
    answer.metadata.update(opened.metadata)
    answer.opened_at_unix_ms = opened.opened_at_unix_ms


def _item(done: event.ItemDone, seq: int) -> session.StoredItem:
    role = f"ROLE_{done.role.upper()}"
    return session.StoredItem(
        item_id=done.item_id,
        type=done.type,
        role=control.Role.Value(role) if role in control.Role.keys() else control.ROLE_UNSPECIFIED,  # noqa: SIM118 no mapping
        text=done.text,
        call_id=done.call_id,
        name=done.name,
        seq=seq,
    )
