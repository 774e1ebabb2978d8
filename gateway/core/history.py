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


@dataclass(slots=True)
class _Answer:
    """An answer under way: the request for it; None = the provider answers a turn by itself."""

    request: Mapping[str, Any] | None
    # Whether it has done something that must not be done twice, or that was heard.
    has_begun: bool = False


@dataclass(frozen=True, slots=True)
class Replay:
    """What goes up a fresh line, in order, and the items that cannot."""

    configuration: Mapping[str, Any]
    items: tuple[Mapping[str, Any], ...]
    # Whether the caller has asked to end its turn and was not answered.
    commits: bool
    # Answers that were asked for and have not begun.
    requests: tuple[Mapping[str, Any], ...]
    unrestored: tuple[str, ...]
    # Items that the caller was not told of as done: it is told by the fresh line.
    unconfirmed: frozenset[str] = frozenset()


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
        # Items that had to make room.
        self._forgotten: dict[str, None] = {}
        self._asked = Asked()
        # What has come of answers' items that are not complete, by item.
        self._words: dict[str, list[str]] = {}
        self._answers: dict[str, _Answer] = {}
        # Whether the provider owes an answer to a turn that it has ended itself.
        self._owes_answer = False

    # From the caller.

    def sent(self, event: Mapping[str, Any]) -> None:
        """Record a client event that goes up; it has its `event_id`, and an item its `id`."""
        asked, event_id, item_id = self._asked, str(event.get("event_id", "")), event.get("item_id")
        match event.get("type"):
            case "session.update" if isinstance(patch := event.get("session"), Mapping):
                asked.patches[event_id] = patch
            case "conversation.item.create" if isinstance(item := event.get("item"), Mapping):
                asked.created[event_id] = created = str(item.get("id", ""))
                self._put(created, _Item(item))
            case "conversation.item.delete" if isinstance(item_id, str):
                asked.deletions[event_id] = item_id
            case "conversation.item.truncate" if isinstance(item_id, str):
                end_ms = event.get("audio_end_ms")
                asked.truncations[event_id] = (item_id, end_ms if isinstance(end_ms, int) else 0)
            case "input_audio_buffer.commit":
                asked.commits[event_id] = None
            case "response.create":
                asked.responses[event_id] = event
        if len(asked.patches) > ASKED_MAX:
            self._confirm(next(iter(asked.patches)))
        asked.bound()

    # From the line.

    def heard(self, event: out.SessionEvent) -> None:
        """Record an event that the caller is told."""
        reader = _READERS.get(type(event))
        if reader is not None:
            reader(self, event)

    def line_lost(self, sent_ms: Mapping[str, int]) -> None:
        """Record that the line is gone; `sent_ms` = of these items so much audio has gone to the caller."""
        for item_id in self._words.keys() | sent_ms.keys():
            words = "".join(self._words.pop(item_id, ()))
            if sent_ms.get(item_id) or words:
                self._put(item_id, _Item(items.said(words), sent_ms.get(item_id, 0)))
        for number, answer in enumerate(self._answers.values()):
            if answer.has_begun:
                continue
            if answer.request is None:
                self._owes_answer = True
            else:
                self._asked.responses = {f"again-{number}": answer.request, **self._asked.responses}
        self._answers.clear()

    # For a fresh line.

    def replay(self, spoken: Mapping[str, str]) -> Replay:
        """Return what a fresh line is told. What was asked of the lost one and not answered counts as done.

        `spoken` = the audio, in base64, of turns whose words are not known.
        """
        asked = self._asked
        for event_id in list(asked.patches):
            self._confirm(event_id)
        for item_id in asked.deletions.values():
            self._drop(item_id)
        for item_id, end_ms in asked.truncations.values():
            self._cut(item_id, end_ms)
        for requests in (asked.created, asked.deletions, asked.truncations):
            requests.clear()
        bodies = {
            item_id: items.spoken(spoken[item_id]) if item.body is None and item_id in spoken else item.body
            for item_id, item in self._items.items()
        }
        known = {item_id: body for item_id, body in bodies.items() if body is not None}
        auto = ({"type": "response.create"},) if self._owes_answer else ()
        return Replay(
            configuration=self.configuration,
            items=tuple({"type": "conversation.item.create", "item": {**b, "id": i}} for i, b in known.items()),
            commits=bool(asked.commits),
            requests=(*auto, *asked.responses.values()),
            unrestored=(*self._forgotten, *(item_id for item_id in self._items if item_id not in known)),
            unconfirmed=frozenset(known.keys() - self._told),
        )

    def replayed(self, unrestored: Iterable[str]) -> None:
        """Record that a fresh line was told: what is asked for again has new event ids.

        What could not be restored is named once.
        """
        for item_id in unrestored:
            self._drop(item_id)
        self._asked.commits.clear()
        self._asked.responses.clear()
        self._owes_answer = False

    # Events.

    def _committed(self, event: out.InputCommitted) -> None:
        self._put(event.item_id, _Item(None))
        if self._asked.commits:
            self._asked.commits.pop(next(iter(self._asked.commits)))
        else:
            self._owes_answer = self._turns.by_server and self._turns.create_response

    def _delta(self, event: out.TranscriptDelta | out.TextDelta) -> None:
        self._words.setdefault(event.item_id, []).append(event.delta)
        self._begun(event.response_id)

    def _done(self, event: out.ItemDone) -> None:
        self._words.pop(event.item_id, None)
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
        self._put(event.item_id, _Item(body, event.audio_ms))

    def _transcribed(self, event: out.UserTranscript) -> None:
        item = self._items.get(event.item_id)
        if item is not None and item.body is None and self._user_turns != "none" and event.text:
            self._put(event.item_id, _Item(items.written("user", event.text)))

    def _called(self, event: out.ToolCall) -> None:
        self._put(event.item_id, _Item(items.call(event.call_id, event.name, event.arguments_json)))
        self._begun(event.response_id)

    def _deleted(self, event: out.ItemDeleted) -> None:
        deletions = self._asked.deletions
        for event_id in [event_id for event_id, asked in deletions.items() if asked == event.item_id]:
            del deletions[event_id]
        self._drop(event.item_id)

    def _truncated(self, event: out.ItemTruncated) -> None:
        if self._asked.truncations:
            self._asked.truncations.pop(next(iter(self._asked.truncations)))
        self._cut(event.item_id, event.audio_end_ms)

    def _updated(self, _event: out.SessionUpdated) -> None:
        if self._asked.patches:
            self._confirm(next(iter(self._asked.patches)))

    def _answering(self, event: out.ResponseCreated) -> None:
        request: Mapping[str, Any] | None = None
        if self._owes_answer:
            self._owes_answer = False
        elif self._asked.responses:
            request = self._asked.responses.pop(next(iter(self._asked.responses)))
        self._answers[event.response_id] = _Answer(request)

    def _answered(self, event: out.ResponseDone) -> None:
        if event.response_id not in self._answers:  # a log does not tell when it began
            self._answering(out.ResponseCreated(event.response_id, {}))
        del self._answers[event.response_id]
        self._words.clear()

    def _begun(self, response_id: str) -> None:
        if (answer := self._answers.get(response_id)) is not None:
            answer.has_begun = True

    def _refused(self, event_id: str) -> None:
        if (created := self._asked.created.get(event_id)) is not None:
            self._drop(created)
        self._asked.drop(event_id)

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

    def _drop(self, item_id: str) -> None:
        self._items.pop(item_id, None)
        self._forgotten.pop(item_id, None)
        self._told.discard(item_id)
        self._size_bytes -= self._sizes.pop(item_id, 0)

    def _cut(self, item_id: str, end_ms: int) -> None:
        """Let an answer end where its listener stopped."""
        item = self._items.get(item_id)
        if item is not None and item.body is not None and 0 <= end_ms < item.audio_ms:
            self._put(item_id, _Item(items.cut(item.body, end_ms, item.audio_ms), end_ms))


_READERS: Final[Mapping[type[Any], Any]] = {
    out.InputCommitted: History._committed,  # noqa: SLF001 its own table
    out.TranscriptDelta: History._delta,  # noqa: SLF001
    out.TextDelta: History._delta,  # noqa: SLF001
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
