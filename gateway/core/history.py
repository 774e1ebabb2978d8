"""What a conversation consists of, as far as a fresh line must be told: configuration, items, what is still owed.

Pure. Fed with every client event that goes up and every event that the caller is told, so that it is built in the
same way from a live session and from its log. Items keep the ids under which the caller knows them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.core import events as out
from gateway.core import items
from gateway.core.asked import ASKED_MAX, Asked
from gateway.core.item_book import Item, ItemBook, Written
from gateway.core.items import Body
from gateway.core.owed import ASKED_AGAIN, Begun, Owed
from gateway.core.replay import Replay
from gateway.core.template import overlay
from gateway.core.turns import TurnTaking


class History:
    """One conversation's configuration and items, in the order in which they began."""

    def __init__(self, configuration: Mapping[str, Any], user_turns: str = "transcript") -> None:
        """Begin with nothing said. `user_turns` = what spoken turns are restored from: transcript, audio or none."""
        self.configuration = dict(configuration)
        self._turns = TurnTaking.of(configuration)
        self._user_turns = user_turns
        self._book = ItemBook()
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
                if created not in self._book.items:  # the provider refuses a second one of the name
                    asked.created[event_id] = created
                    self._book.put(created, Item(item))
                    self._book.place(created, event.get("previous_item_id"))
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
        item = self._book.items.get(item_id)
        if item is not None and item.body is not None and 0 <= end_ms < item.audio_ms:
            self._book.put(item_id, Item(items.cut(item.body, end_ms, item.audio_ms), end_ms))

    @property
    def is_unconfirmed(self) -> bool:
        """Whether the line has not answered yet to something that it was told, answers apart."""
        return self._asked.is_open(self._book.untold)

    def line_lost(self) -> None:
        """Record that the line is gone; whatever was heard of an answer stays said."""
        for item_id, begun in self._begun.items():
            words = "".join(begun.words)
            if begun.sent_ms and words:
                body = items.said(words)
                if begun.sent_ms < begun.received_ms:
                    body = items.cut(body, begun.sent_ms, begun.received_ms)
                self._book.put(item_id, Item(body, begun.sent_ms))
            elif begun.sent_ms:  # it was heard, and nobody knows the words
                self._book.put(item_id, Item(None))
            elif begun.is_written:
                self._book.put(item_id, Item(items.said(words)))
        self._begun.clear()
        self._own_updates.clear()
        self.owed.line_lost()

    # For a log that does not keep everything.

    def written(self, max_bytes: int) -> Written | None:
        """Return it as it stands, the newest of it; None = something is under way."""
        if self._asked.is_open(self._book.untold) or self._asked.commits or self._begun or self.owed.is_open:
            return None
        newest, others = self._book.newest(max_bytes)
        told = tuple(name for name, _ in newest if name in self._book.told)
        return Written(self.configuration, tuple(newest), tuple(others), told)

    def read(self, written: Written) -> None:
        """Be what was written; nothing was known before."""
        self.configuration, self._turns = dict(written.configuration), TurnTaking.of(written.configuration)
        self._book.forgotten = dict.fromkeys(written.forgotten)
        for name, item in written.items:
            self._book.put(name, item)
        self._book.told.update(written.told)

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
            self._book.drop(item_id)
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
            unrestored=(*self._book.forgotten, *(item_id for item_id in self._book.items if item_id not in known)),
            unconfirmed=frozenset(known.keys() - self._book.told),
            confirmed=confirmed,
            updates=updates,
        )

    def has(self, item_id: str) -> bool:
        """Whether an item is part of the conversation."""
        return item_id in self._book.items

    @property
    def bodies(self) -> list[tuple[str, Body | None]]:
        """Every item, and what is known of it."""
        return [(name, item.body) for name, item in self._book.items.items()]

    def replayed(self) -> None:
        """Record that a fresh line is being told: what is asked for again has new event ids."""
        self._asked.commits.clear()
        self.owed.asked_again()

    def named(self, unrestored: Iterable[str]) -> None:
        """Record that the caller knows what could not be restored: it is named once."""
        for item_id in unrestored:
            self._book.drop(item_id)

    # Events.

    def _committed(self, event: out.InputCommitted) -> None:
        self._book.put(event.item_id, Item(None))
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
        self._book.told.add(event.item_id)
        item = self._book.items.get(event.item_id)
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
        untold = self._asked.untold(self._book.untold) if is_old else ()
        self._book.put(event.item_id, Item(body, event.audio_ms))
        self._book.to_end(untold)

    def _transcribed(self, event: out.UserTranscript) -> None:
        item = self._book.items.get(event.item_id)
        if item is not None and item.body is None and self._user_turns != "none" and event.text:
            self._book.put(event.item_id, Item(items.written("user", event.text)))

    def _called(self, event: out.ToolCall) -> None:
        self.owed.say(event.response_id)
        if not self.owed.is_apart(event.response_id):
            self._book.put(event.item_id, Item(items.call(event.call_id, event.name, event.arguments_json)))

    def _deleted(self, event: out.ItemDeleted) -> None:
        asked = self._asked
        asked.deletions = {event_id: each for event_id, each in asked.deletions.items() if each != event.item_id}
        self._book.drop(event.item_id)

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
            self._book.drop(created)
        self._own_updates.pop(event_id, None)
        self._asked.drop(event_id)
        self.owed.refuse(event_id)

    def _confirm(self, event_id: str) -> None:
        self.configuration = overlay(self.configuration, self._asked.patches.pop(event_id))
        self._turns = TurnTaking.of(self.configuration)


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
