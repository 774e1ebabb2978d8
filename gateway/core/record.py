"""What a session's log keeps beside each event, and what is made of a log by a new owner.

Pure. A log is read in the order in which it was written: what went up, and what the caller was told.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.core import events as out
from gateway.core.continuity import COMMIT, Continuity
from gateway.core.events import SessionEvent

# Names that no provider gives.
FIRST: Final = "tl-first-"
LOST: Final = "tl-lost-answer"
# An item's length is in whole milliseconds.
TOLERANCE_MS: Final = 2


class Note(Struct, frozen=True):
    """What only a gateway is to know of an event."""

    # Client events that went up, audio apart.
    requests: tuple[Mapping[str, Any], ...] = ()
    # Up to where the caller's audio has become items, in samples since the session began; -1 = as before.
    input_samples: int = -1
    # The client event that was refused.
    event_id: str = ""
    # How much of the caller's audio had been taken, where it ends a turn; -1 = it does not.
    turn_ends_at: int = -1
    # The caller has said that no more input comes.
    bye: bool = False


class Opening(Struct, frozen=True):
    """How a session was opened; kept with its first event."""

    template: str
    # The configuration that its first line was given.
    session: Mapping[str, Any]
    safety_identifier: str = ""
    correlation_id: str = ""
    metadata: Mapping[str, str] = {}
    life_max_seconds: int = 0
    idle_max_seconds: int = 0
    moves: bool = False
    # What went up before the caller's own words.
    first: tuple[Mapping[str, Any], ...] = ()

    def request(self) -> out.OpenRequest:
        """Return what the caller had asked for."""
        return out.OpenRequest(
            template=self.template,
            resumable=True,
            moves=self.moves,
            safety_identifier=self.safety_identifier,
            correlation_id=self.correlation_id,
            metadata=self.metadata,
            life_max_seconds=self.life_max_seconds,
            idle_max_seconds=self.idle_max_seconds,
        )


class Record(Struct, frozen=True):
    """One entry of a log, read; `event` None = of a kind that changes nothing."""

    seq: int
    event: SessionEvent | None
    note: Note = Note()
    opening: Opening | None = None


class Later(Struct, frozen=True):
    """What is to be asked for once the caller's audio is there up to a sample."""

    at: int
    events: tuple[Mapping[str, Any], ...]


class Retold(Struct, frozen=True):
    """What a log says of its session."""

    opening: Opening
    continuity: Continuity
    # Up to where the caller's audio has become items.
    input_samples: int
    usage: out.Usage
    opened_at_unix_ms: int
    caller: str
    # What is to be asked for when the caller's audio has come again, in order: the turns that it had ended.
    later: tuple[Later, ...]
    # Whether no more input comes.
    bye: bool
    # The item that the caller has heard a part of, and whose rest nobody knows; empty = none.
    cut_item: str


def retell(records: Iterable[Record], user_turns: str, names: str, heard: out.OutputPosition) -> Retold | None:
    """Fold a log; None = it does not say how the session was opened.

    `names` begins the names of items that are created from now on: no older owner has given such a one. `heard` is
    the item of which the caller has heard something last, and how much.
    """
    opening: Opening | None = None
    opened: out.Opened | None = None
    continuity: Continuity | None = None
    samples, usage = 0, out.Usage()
    # Items that are complete, or whose end the caller knows, and how long their audio is.
    done = dict[str, int]()
    # By event id: where the caller has ended its turns.
    ends, bye = dict[str, int](), False
    for record in records:
        if record.opening is not None and isinstance(record.event, out.Opened):
            opening, opened = record.opening, record.event
            continuity = Continuity(opening.session, user_turns, names)
            _send(continuity, ({**event, "event_id": f"{FIRST}{n}"} for n, event in enumerate(opening.first)))
        if continuity is None:
            continue
        _send(continuity, record.note.requests)
        samples = max(samples, record.note.input_samples)
        ends |= {str(each.get("event_id", "")): record.note.turn_ends_at for each in record.note.requests}
        bye = bye or record.note.bye
        if record.event is not None:
            continuity.heard(record.event)
        if isinstance(record.event, out.ItemDone):
            done.setdefault(record.event.item_id, record.event.audio_ms)
        elif isinstance(record.event, out.Interrupted | out.ItemTruncated | out.ItemDeleted):
            done[record.event.item_id] = 0
        elif isinstance(record.event, out.ResponseDone):
            usage += record.event.usage
    if opening is None or opened is None or continuity is None:
        return None
    cut_item = _cut(continuity, done, heard)
    if cut_item and cut_item not in done:  # it is not answered again, and what was said of it is not known
        continuity.heard(out.ResponseCreated(LOST, {}))
        continuity.interrupted(out.Interrupted(LOST, cut_item, out.InterruptionCause.UPSTREAM_LOST, 1, False), 1, 1)
    continuity.line_lost()
    at, caller, later = opened.opened_at_unix_ms, opened.caller, _later(continuity, ends)
    return Retold(opening, continuity, samples, usage, at, caller, later, bye, cut_item)


def _later(continuity: Continuity, ends: Mapping[str, int]) -> tuple[Later, ...]:
    """Return the turns that are to be ended again, and what is owed behind the last of them."""
    pending, owed = continuity.withhold()
    turns = [Later(max(0, ends.get(name, 0)), (COMMIT,)) for name in pending]
    return (*turns[:-1], *(Later(last.at, (*last.events, *owed)) for last in turns[-1:]))


def _cut(continuity: Continuity, done: Mapping[str, int], heard: out.OutputPosition) -> str:
    """Return the item whose rest the caller never got; of one that is complete it has heard no more than that."""
    if not heard.item_id or not heard.received:
        return ""
    if heard.item_id not in done:
        return heard.item_id
    heard_ms = continuity.output_ms(heard.received)
    if heard_ms + TOLERANCE_MS >= done[heard.item_id]:
        return ""
    continuity.truncate(heard.item_id, heard_ms)
    return heard.item_id


def _send(continuity: Continuity, requests: Iterable[Mapping[str, Any]]) -> None:
    for event in requests:
        continuity.sent(event)
