"""How a session is taken over that another gateway had, or this one before it died: by what its log says."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason
from gateway.core.principal import Principal
from gateway.core.record import Record, Retold, retell
from gateway.runtime.held import HeldLine
from gateway.runtime.opening import Opening
from gateway.runtime.pool import WarmPool
from gateway.runtime.pools import find_pool
from gateway.runtime.ports import LogEntry, RecordForm, SessionKey
from gateway.runtime.resume_tokens import NO_SESSION, ResumeToken
from gateway.runtime.session_options import SessionParts


@dataclass(frozen=True, slots=True)
class Claim:
    """What a new owner begins with."""

    session_id: str
    epoch: int
    # The last number of an event, and of a control, that counts.
    seq: int
    cseq: int
    opening: Opening
    retold: Retold
    # Events that the caller does not have, as they stand in the log; what is missing before them is lost.
    missed: tuple[out.Outgoing, ...]
    request: out.ResumeRequest
    # The line that was made ready for it, if one was.
    line: HeldLine | None = None


async def claim(token: ResumeToken, request: out.ResumeRequest, principal: Principal, parts: SessionParts) -> Claim:
    """Become the owner of a session. Raises `CallerError` RESUME_REFUSED, and `StoreError`."""
    # First, so that nobody loses a session to a gateway that cannot have it.
    pool = pool_of(token, parts)
    key = SessionKey(principal.tenant, token.session_id)
    claimed = await parts.lanes.store.claim(key, token.epoch, request.last_seq, request.epochs)
    if claimed is None:
        raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
    retold = retold_by(claimed.entries, pool, f"item_tl_{claimed.epoch:x}_", request.output, parts)
    if retold.caller != principal.caller:
        raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
    have = {entry.seq for entry in claimed.entries}
    lost_to = claimed.seq  # everything up to the last hole, which is looked for from the end
    while lost_to in have:
        lost_to -= 1
    again = parts.lanes.form.again
    missed = tuple(again(entry) for entry in claimed.entries if entry.seq > max(request.last_seq, lost_to))
    opening = Opening(retold.opening.request(), pool, dict(retold.opening.session))
    return Claim(token.session_id, claimed.epoch, claimed.seq, claimed.cseq, opening, retold, missed, request)


def pool_of(token: ResumeToken, parts: SessionParts) -> WarmPool:
    """Return the pool that a session's lines come from. Raises `CallerError`, also where the token is too old."""
    if not token.is_alive(time.time_ns() // 1_000_000):
        raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
    return find_pool(parts.pools.values(), token.template, token.tenant)


def retold_by(
    entries: Sequence[LogEntry], pool: WarmPool, names: str, heard: out.OutputPosition, parts: SessionParts
) -> Retold:
    """Return what a log says of its session. Raises `CallerError` RESUME_REFUSED where it does not say enough."""
    retold = retell(_records(entries, parts.lanes.form), pool.template.user_turns, names, heard)
    if retold is None:
        raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
    return retold


def _records(entries: Sequence[LogEntry], form: RecordForm) -> list[Record]:
    """Read what is needed of a log: what comes from the last snapshot on."""
    newest = list[Record]()
    for entry in reversed(entries):
        newest.append(form.read(entry))
        if newest[-1].note.snapshot is not None:
            break
    return newest[::-1]
