"""How a session is taken over that another gateway had, or this one before it died: by what its log says."""

import time
from dataclasses import dataclass

from gateway.core import events as out
from gateway.core.errors import CallerError, Reason
from gateway.core.principal import Principal
from gateway.core.record import Retold, retell
from gateway.runtime.opening import Opening
from gateway.runtime.pools import find_pool
from gateway.runtime.ports import SessionKey
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


async def claim(token: ResumeToken, request: out.ResumeRequest, principal: Principal, parts: SessionParts) -> Claim:
    """Become the owner of a session. Raises `CallerError` RESUME_REFUSED, and `StoreError`."""
    if not token.is_alive(time.time_ns() // 1_000_000):
        raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
    # First, so that nobody loses a session to a gateway that cannot have it.
    pool = find_pool(parts.pools.values(), token.template, principal.tenant)
    key = SessionKey(principal.tenant, token.session_id)
    claimed = await parts.lanes.store.claim(key, token.epoch, request.last_seq, request.epochs)
    if claimed is None:
        raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
    form = parts.lanes.form
    records = [form.read(entry) for entry in claimed.entries]
    began = next((record.opening for record in records if record.opening is not None), None)
    if began is None:
        raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
    retold = retell(records, pool.template.user_turns, f"item_tl_{claimed.epoch:x}_", request.output)
    if retold is None or retold.caller != principal.caller:
        raise CallerError(Reason.RESUME_REFUSED, NO_SESSION)
    have = {entry.seq for entry in claimed.entries}
    lost_to = claimed.seq  # everything up to the last hole, which is looked for from the end
    while lost_to in have:
        lost_to -= 1
    missed = tuple(form.again(e) for e in claimed.entries if e.seq > max(request.last_seq, lost_to))
    opening = Opening(began.request(), pool, dict(began.session))
    return Claim(token.session_id, claimed.epoch, claimed.seq, claimed.cseq, opening, retold, missed, request)
