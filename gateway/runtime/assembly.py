"""Puts one session together: for a caller that opens it, or for one that comes back to what somebody else had."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.core.continuity import Continuity
from gateway.core.conversation import Conversation
from gateway.core.intake import Intake
from gateway.core.turns import TurnTaking, detection_of
from gateway.runtime.attachment import Attachment
from gateway.runtime.caller_keeping import CallerKeeping
from gateway.runtime.claiming import Claim
from gateway.runtime.greeting import guarded, is_guarded
from gateway.runtime.lanes import Lanes
from gateway.runtime.lease import LeasedLine
from gateway.runtime.line_keeping import LineKeeping
from gateway.runtime.opening import Opening, entry_of, named
from gateway.runtime.outbox import Outbox
from gateway.runtime.ports import SessionKey
from gateway.runtime.relay import Relay
from gateway.runtime.sent import Sent
from gateway.runtime.session_options import SessionParts
from gateway.runtime.snapshots import Snapshots

if TYPE_CHECKING:
    from gateway.runtime.session import LiveSession

# The first owner of a session.
FIRST_EPOCH: Final = 1


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a session consists of."""

    opening: Opening
    conversation: Conversation
    outbox: Outbox
    lanes: Lanes
    relay: Relay
    callers: CallerKeeping
    lines: LineKeeping


def assemble(
    session: "LiveSession",
    first: Attachment,
    begins: Opening | Claim,
    line: LeasedLine | None,
    leases: AsyncExitStack,
    parts: SessionParts,
) -> Assembled:
    """Join the parts; nothing moves before their tasks run."""
    claim = begins if isinstance(begins, Claim) else None
    opening = begins.opening if isinstance(begins, Claim) else begins
    template, options, is_resumable = opening.pool.template, parts.options.outbox, opening.request.resumable
    if claim is not None:
        continuity = claim.retold.continuity
        configuration = continuity.configuration
        epoch, seq, cseq, samples = claim.epoch, claim.seq, claim.cseq, claim.retold.input_samples
    else:
        continuity = Continuity(opening.session, template.user_turns)
        opening = named(opening, continuity) if is_resumable else opening
        configuration = guarded(opening.session) if is_guarded(opening) else opening.session
        epoch, seq, cseq, samples = FIRST_EPOCH, 0, 0, 0
    turns = TurnTaking.of(configuration)
    conversation = Conversation(turns, detection_of(configuration))
    intake = Intake(turns.input_format.sample_bytes, cseq, samples) if is_resumable else None
    sent = Sent(options.audio_max_bytes, turns.output_format.sample_bytes) if is_resumable else None
    outbox = Outbox(options, sent)
    lanes = Lanes(SessionKey(session.principal.tenant, session.id), epoch, outbox, parts.lanes, seq, cseq)
    relay = Relay(template, conversation, continuity, lanes, outbox, session.observer, intake)
    callers = CallerKeeping(session, first, relay, lanes, outbox, parts, intake, claim)
    if intake is not None:
        began = claim.retold.opening if claim is not None else entry_of(opening, session.observer.trace)
        callers.snapshots = Snapshots(session, began, relay, lanes, intake)
    ready = claim.line if claim is not None else None
    lines = LineKeeping(session, opening, relay, callers, lanes, line, leases, parts, ready)
    return Assembled(opening, conversation, outbox, lanes, relay, callers, lines)
