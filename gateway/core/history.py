"""What a conversation consists of, as far as a fresh line must be told: configuration, items, what is still owed.

Pure. Fed with every client event that goes up and every event that the caller is told, so that it is built in the
same way from a live session and from its log. Items keep the ids under which the caller knows them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.core import events as out
from gateway.core import items
from gateway.core.asked import ASKED_MAX, Asked
from gateway.core.items import Body
from gateway.core.owed import ASKED_AGAIN, Begun, Owed
from gateway.core.replay import Replay
from gateway.core.template import overlay
from gateway.core.turns import TurnTaking

# What an item weighs beside its words; and all of them together. The oldest make room and are named.
_ITEM_BYTES: Final = 256
HISTORY_MAX_BYTES: Final = 1 << 20


@dataclass(slots=True)
class _Item:
    """One item, as the provider would be asked to create it; without `body` nobody knows its content (yet)."""

    body: Body | None
    # How long its audio is; 0 = it has none, or that is not known.
    audio_ms: int = 0


class History:
    """One conversation's configuration and items, in the order in which they began."""

    def __init__(self, configuration: Mapping[str, Any], user_turns: str = "transcript") -> None:
        """Begin with nothing said. `user_turns` = what spoken turns are restored from: transcript, audio or none."""
        self.configuration = dict(configuration)
        self._turns = TurnTaking.of(configuration)
        self._user_turns = user_turns
        self._items: dict[str, _Item] = {}
        self._sizes: dict[str, int] = {}
        self._size_bytes = 0
        # Items that the caller was told of as done.
        self._told: set[str] = set()
        self._forgotten: dict[str, None] = {}
        self._asked = Asked()
        # Items of answers that are not complete.
        self._begun: dict[str, Begun] = {}
        # Changes of the configuration that are the gateway's own, and not confirmed.
        self._own_updates: dict[str, None] = {}
        self.owed = Owed()

    # From the caller.

    def sent(self, event: Mapping[str, Any]) -> None:
        """Record a client event that goes up; it has its `event_id`, and an item its `id`."""
        asked, event_id, item_id = self._asked, str(event.get("event_id", "")), event.get("item_id")
        match event.get("type"):
            case "session.update" if isinstance(patch := event.get("session"), Mapping):
                asked.patches[event_id] = patch
            case "conversation.item.create" if isinstance(item := event.get("item"), Mapping):
                created = str(item.get("id", ""))
                if created not in self._items:  # the provider refuses a second one of the name
                    asked.created[event_id] = created
                    self._put(created, _Item(item))
                    self._place(created, event.get("previous_item_id"))
            case "conversation.item.delete" if isinstance(item_id, str):
                asked.deletions[event_id] = item_id
            case "conversation.item.truncate" if isinstance(item_id, str):
                end_ms = event.get("audio_end_ms")
                asked.truncations[event_id] = (item_id, end_ms if isinstance(end_ms, int) else 0)
            case "input_audio_buffer.commit":
                asked.commits[event_id] = None
            case "response.create":
                self.owed.ask(event_id, event)
            case "response.cancel":
                self.owed.cancel(event.get("response_id"))
        if len(asked.patches) > ASKED_MAX:
            self._confirm(next(iter(asked.patches)))
        asked.bound()

    # From the line.

    def heard(self, event: out.SessionEvent) -> None:
        """Record an event that the caller is told."""
        reader = _READERS.get(type(event))
        if reader is not None:
            reader(self, event)

    def configures(self, event_id: str) -> None:
        """Record a change of the configuration that is none of the caller's, and not to be remembered."""
        self._own_updates[event_id] = None

    def interrupted(self, response_id: str, item_id: str, sent_ms: int, received_ms: int) -> None:
        """Record that an answer was cut: of the audio that came so much has gone to the caller."""
        if sent_ms and not self.owed.is_apart(response_id):
            self.owed.say(response_id)
            begun = self._begun.setdefault(item_id, Begun(response_id))
            begun.sent_ms, begun.received_ms = sent_ms, received_ms

    def truncate(self, item_id: str, end_ms: int) -> None:
        """Let an answer end where its listener stopped."""
        item = self._items.get(item_id)
        if item is not None and item.body is not None and 0 <= end_ms < item.audio_ms:
            self._put(item_id, _Item(items.cut(item.body, end_ms, item.audio_ms), end_ms))

    @property
    def is_unconfirmed(self) -> bool:
        """Whether the line has not answered yet to something that it was told, answers apart."""
        return self._asked.is_open(self._items.keys() - self._told)

    def line_lost(self) -> None:
        """Record that the line is gone; whatever was heard of an answer stays said."""
        for item_id, begun in self._begun.items():
            words = "".join(begun.words)
            if begun.sent_ms and words:
                body = items.said(words)
                if begun.sent_ms < begun.received_ms:
                    body = items.cut(body, begun.sent_ms, begun.received_ms)
                self._put(item_id, _Item(body, begun.sent_ms))
            elif begun.sent_ms:  # it was heard, and nobody knows the words
                self._put(item_id, _Item(None))
            elif begun.is_written:
                self._put(item_id, _Item(items.said(words)))
        self._begun.clear()
        self._own_updates.clear()
        self.owed.line_lost()

    # For a fresh line.

    def replay(self, spoken: Mapping[str, str]) -> Replay:
        """Return what a fresh line is told. What was asked of the lost one and not answered counts as done.

        `spoken` = the audio, in base64, of turns whose words are not known.
        """
        asked = self._asked
        updates = bool(asked.patches)
        for event_id in list(asked.patches):
            self._confirm(event_id)
        for item_id in asked.deletions.values():
            self._drop(item_id)
        for item_id, end_ms in asked.truncations.values():
            self.truncate(item_id, end_ms)
        truncated = (out.ItemTruncated(*asked_for) for asked_for in asked.truncations.values())
        confirmed: tuple[Any, ...] = (*map(out.ItemDeleted, asked.deletions.values()), *truncated)
        asked.answered()
        bodies = {name: body or (items.spoken(spoken[name]) if name in spoken else None) for name, body in self.bodies}
        known = {item_id: body for item_id, body in bodies.items() if body is not None}
        return Replay(
            configuration=self.configuration,
            items=tuple({"type": "conversation.item.create", "item": {**b, "id": i}} for i, b in known.items()),
            requests=self.owed.requests(),
            unrestored=(*self._forgotten, *(item_id for item_id in self._items if item_id not in known)),
            unconfirmed=frozenset(known.keys() - self._told),
            confirmed=confirmed,
            updates=updates,
        )

    @property
    def bodies(self) -> list[tuple[str, Body | None]]:
        """Every item, and what is known of it."""
        return [(name, item.body) for name, item in self._items.items()]

    def replayed(self) -> None:
        """Record that a fresh line is being told: what is asked for again has new event ids."""
        self._asked.commits.clear()
        self.owed.asked_again()

    def named(self, unrestored: Iterable[str]) -> None:
        """Record that the caller knows what could not be restored: it is named once."""
        for item_id in unrestored:
            self._drop(item_id)

    # Events.

    def _committed(self, event: out.InputCommitted) -> None:
        self._put(event.item_id, _Item(None))
        if self._asked.commits:
            self._asked.commits.pop(next(iter(self._asked.commits)))
        else:
            self.owed.turn_ended(is_answered=self._turns.by_server and self._turns.create_response)

    def _spoken(self, event: out.TranscriptDelta) -> None:
        if not self.owed.is_apart(event.response_id):
            self._begun.setdefault(event.item_id, Begun(event.response_id)).words.append(event.delta)

    def _written(self, event: out.TextDelta) -> None:
        self.owed.say(event.response_id)
        if not self.owed.is_apart(event.response_id):
            begun = self._begun.setdefault(event.item_id, Begun(event.response_id, is_written=True))
            begun.words.append(event.delta)

    def _done(self, event: out.ItemDone) -> None:
        self._begun.pop(event.item_id, None)
        self._told.add(event.item_id)
        item = self._items.get(event.item_id)
        if item is not None and item.body is not None:
            return  # the caller's own words, or a call that came whole
        body: Body | None = None
        match event.type:
            case "message" if event.role == "assistant":
                body = items.said(event.text)
            case "message" if event.text:
                body = items.written(event.role, event.text)
            case "function_call_output":
                body = items.result(event.call_id, event.text)
        is_old = item is None and event.role == "user"  # its beginning is cut off a log: these are newer
        untold = self._asked.untold(self._items.keys() - self._told) if is_old else ()
        self._put(event.item_id, _Item(body, event.audio_ms))
        for name in untold:
            self._items[name] = self._items.pop(name)

    def _transcribed(self, event: out.UserTranscript) -> None:
        item = self._items.get(event.item_id)
        if item is not None and item.body is None and self._user_turns != "none" and event.text:
            self._put(event.item_id, _Item(items.written("user", event.text)))

    def _called(self, event: out.ToolCall) -> None:
        self.owed.say(event.response_id)
        if not self.owed.is_apart(event.response_id):
            self._put(event.item_id, _Item(items.call(event.call_id, event.name, event.arguments_json)))

    def _deleted(self, event: out.ItemDeleted) -> None:
        asked = self._asked
        asked.deletions = {event_id: each for event_id, each in asked.deletions.items() if each != event.item_id}
        self._drop(event.item_id)

    def _truncated(self, event: out.ItemTruncated) -> None:
        if self._asked.truncations:
            self._asked.truncations.pop(next(iter(self._asked.truncations)))
        self.truncate(event.item_id, event.audio_end_ms)

    def _updated(self, _event: out.SessionUpdated) -> None:
        if self._own_updates:
            del self._own_updates[next(iter(self._own_updates))]
        elif self._asked.patches:
            self._confirm(next(iter(self._asked.patches)))

    def _answering(self, event: out.ResponseCreated) -> None:
        self.owed.begin(event.response_id)

    def _answered(self, event: out.ResponseDone) -> None:
        if event.status_reason != ASKED_AGAIN:  # a log says so: it is owed still
            self.owed.end(event.response_id)
        self._begun = {item_id: each for item_id, each in self._begun.items() if each.response_id != event.response_id}

    def _refused(self, event_id: str) -> None:
        if (created := self._asked.created.get(event_id)) is not None:
            self._drop(created)
        self._own_updates.pop(event_id, None)
        self._asked.drop(event_id)
        self.owed.refuse(event_id)

    def _confirm(self, event_id: str) -> None:
        self.configuration = overlay(self.configuration, self._asked.patches.pop(event_id))
        self._turns = TurnTaking.of(self.configuration)

    # Items.

    def _put(self, item_id: str, item: _Item) -> None:
        size_bytes = _ITEM_BYTES + items.weight(item.body)
        self._size_bytes += size_bytes - self._sizes.get(item_id, 0)
        self._items[item_id], self._sizes[item_id] = item, size_bytes  # who is there already keeps its place
        while self._size_bytes > HISTORY_MAX_BYTES and len(self._items) > 1:
            oldest = next(iter(self._items))
            self._drop(oldest)
            self._forgotten[oldest] = None

    def _place(self, item_id: str, previous: object) -> None:
        """Move an item behind another one; `root` = before all, and what is not known stays last."""
        if previous != "root" and previous not in self._items:
            return
        names = [name for name in self._items if name != item_id]
        at = 0 if previous == "root" else names.index(str(previous)) + 1
        self._items = {name: self._items[name] for name in (*names[:at], item_id, *names[at:])}

    def _drop(self, item_id: str) -> None:
        self._items.pop(item_id, None)
        self._forgotten.pop(item_id, None)
        self._told.discard(item_id)
        self._size_bytes -= self._sizes.pop(item_id, 0)


_READERS: Final[Mapping[type[Any], Any]] = {
    out.InputCommitted: History._committed,  # noqa: SLF001 its own table
    out.TranscriptDelta: History._spoken,  # noqa: SLF001
    out.TextDelta: History._written,  # noqa: SLF001
    out.ItemDone: History._done,  # noqa: SLF001
    out.UserTranscript: History._transcribed,  # noqa: SLF001
    out.ToolCall: History._called,  # noqa: SLF001
    out.ItemDeleted: History._deleted,  # noqa: SLF001
    out.ItemTruncated: History._truncated,  # noqa: SLF001
    out.SessionUpdated: History._updated,  # noqa: SLF001
    out.ResponseCreated: History._answering,  # noqa: SLF001
    out.ResponseDone: History._answered,  # noqa: SLF001
    out.ErrorEvent: lambda history, event: history._refused(event.event_id),  # noqa: SLF001
    out.ConfigRejected: lambda history, event: history._refused(event.error.event_id),  # noqa: SLF001
}
