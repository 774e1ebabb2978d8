"""What a session's log keeps beside each event, and what is made of a log by a new owner.

Pure. A log is read in the order in which it was written: what went up, and what the caller was told.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from gateway.core import events as out
from gateway.core.continuity import COMMIT, Continuity
from gateway.core.events import SessionEvent
from gateway.core.item_book import Written

# Names that no provider gives.
FIRST: Final = "tl-first-"
LOST: Final = "tl-lost-answer"
# An item's length is in whole milliseconds.
TOLERANCE_MS: Final = 2


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
    # The span of its first owner, as W3C `traceparent` says it; empty = it is not traced.
    trace: str = ""

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


class Snapshot(Struct, frozen=True):
    """What all entries up to this one come to: who reads on from here needs none of them."""

    # Without what went up first: it is part of the conversation.
    opening: Opening
    opened_at_unix_ms: int
    caller: str
    conversation: Written
    usage: out.Usage
    input_samples: int


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
    snapshot: Snapshot | None = None


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
    fold = _Fold(user_turns, names)
    for record in records:
        fold.add(record)
    opening, continuity, done = fold.opening, fold.continuity, fold.done
    if opening is None or continuity is None:
        return None
    cut_item = _cut(continuity, done, heard)
    if cut_item and cut_item not in done:  # it is not answered again, and what was said of it is not known
        continuity.heard(out.ResponseCreated(LOST, {}))
        continuity.interrupted(out.Interrupted(LOST, cut_item, out.InterruptionCause.UPSTREAM_LOST, 1, False), 1, 1)
    continuity.line_lost()
    later = _later(continuity, fold.ends)
    opened = fold.opened_at_unix_ms, fold.caller
    return Retold(opening, continuity, fold.samples, fold.usage, *opened, later, fold.bye, cut_item)


class _Fold:
    """What a log has said so far."""

    def __init__(self, user_turns: str, names: str) -> None:
        self._user_turns = user_turns
        self._names = names
        self.opening: Opening | None = None
        self.opened_at_unix_ms, self.caller = 0, ""
        self.continuity: Continuity | None = None
        self.samples, self.usage, self.bye = 0, out.Usage(), False
        # Items that are complete, or whose end the caller knows, and how long their audio is.
        self.done = dict[str, int]()
        # By event id: where the caller has ended its turns.
        self.ends = dict[str, int]()

    def add(self, record: Record) -> None:
        """Go on with an entry; what comes before the opening, or a snapshot, is not understood."""
        if record.opening is not None and isinstance(record.event, out.Opened):
            self.opening = record.opening
            self.opened_at_unix_ms, self.caller = record.event.opened_at_unix_ms, record.event.caller
            self.continuity = Continuity(record.opening.session, self._user_turns, self._names)
            first = enumerate(record.opening.first)
            _send(self.continuity, ({**event, "event_id": f"{FIRST}{number}"} for number, event in first))
        if record.note.snapshot is not None:
            self._begin_anew(record.note.snapshot)
        if self.continuity is None:
            return
        self._note(self.continuity, record.note)
        if record.event is not None:
            self.continuity.heard(record.event)
            self._count(record.event)

    def _begin_anew(self, snapshot: Snapshot) -> None:
        self.opening = snapshot.opening
        self.opened_at_unix_ms, self.caller = snapshot.opened_at_unix_ms, snapshot.caller
        self.continuity = Continuity(snapshot.opening.session, self._user_turns, self._names)
        self.continuity.read(snapshot.conversation)
        self.samples, self.usage = snapshot.input_samples, snapshot.usage
        self.done = {name: item.audio_ms for name, item in snapshot.conversation.items}
        self.ends.clear()

    def _note(self, continuity: Continuity, note: Note) -> None:
        _send(continuity, note.requests)
        self.samples = max(self.samples, note.input_samples)
        self.ends |= {str(each.get("event_id", "")): note.turn_ends_at for each in note.requests}
        self.bye = self.bye or note.bye

    def _count(self, event: SessionEvent) -> None:
        match event:
            case out.ItemDone():
                self.done.setdefault(event.item_id, event.audio_ms)
            case out.Interrupted() | out.ItemTruncated() | out.ItemDeleted():
                self.done[event.item_id] = 0
            case out.ResponseDone():
                self.usage += event.usage


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
