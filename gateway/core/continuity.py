"""What of a conversation outlives its line: what was said, what was asked for, and audio that no turn has taken.

Pure. The events that a fresh line is sent come out of here, and nothing else knows how a line is made to forget
that it is a fresh one.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pybase64
from msgspec.structs import replace

from gateway.core import events as out
from gateway.core.asked import ASKED_MAX
from gateway.core.history import History
from gateway.core.input_ring import InputRing
from gateway.core.item_book import Written
from gateway.core.replay import Replay
from gateway.core.turns import TurnTaking, detection_of

# Spoken turns whose words have not come yet, all together.
TURNS_MAX_BYTES: Final = 3 << 20
# The provider's default for what it keeps of the time before speech.
PADDING_MS: Final = 300
# How the gateway names items that its caller did not.
ITEM_NAMES: Final = "item_tl_"
COMMIT: Final[Mapping[str, Any]] = {"type": "input_audio_buffer.commit"}
# One piece of what a fresh line hears again.
PIECE_SECONDS: Final = 1


class Continuity:
    """One session's memory. Positions are bytes of input audio since the session began."""

    def __init__(
        self, configuration: Mapping[str, Any], user_turns: str = "transcript", names: str = ITEM_NAMES
    ) -> None:
        """Begin with nothing said; `configuration` is what the first line has. `names` begins those of new items."""
        self._names = names
        self._history = History(configuration, user_turns)
        self._keeps_turns = user_turns != "none"
        self._format = TurnTaking.of(configuration).input_format
        self._ring = InputRing(self._format, _padding_ms(configuration))
        # Where the present line began to hear.
        self._line_from = 0
        self._speech_stopped_at: int | None = None
        # Where the caller has ended its turn, for each commit that is not answered, by event id.
        self._commits: dict[str, int] = {}
        # The same for those that a fresh line is being told of.
        self._ends_again: deque[int] = deque()
        self._spoken: dict[str, bytes] = {}
        self._numbered = 0
        # Items that the present line was told in words.
        self._told: frozenset[str] = frozenset()
        self._ring.is_manual = not TurnTaking.of(configuration).by_server
        # The path of every audio frame up.
        self.audio = self._ring.append

    def named(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a client event whose item, if it creates one, has a name: by it a fresh line is told of it."""
        item = event.get("item")
        if event.get("type") != "conversation.item.create" or not isinstance(item, Mapping) or item.get("id"):
            return event
        self._numbered += 1
        return {**event, "item": {**item, "id": f"{self._names}{self._numbered}"}}

    def sent(self, event: Mapping[str, Any]) -> None:
        """Record a client event that goes up, audio apart; it has its `event_id`, and an item its `id`."""
        match event.get("type"):
            case "input_audio_buffer.append":
                self.audio(_decoded(event.get("audio")))
            case "input_audio_buffer.clear":
                self._ring.clear()
            case kind:
                if kind == "input_audio_buffer.commit":
                    end = self._ends_again.popleft() if self._ends_again else self._ring.end
                    self._commits[str(event.get("event_id", ""))] = end
                    while len(self._commits) > ASKED_MAX:
                        del self._commits[next(iter(self._commits))]
                self._history.sent(event)

    def heard(self, event: out.SessionEvent) -> out.SessionEvent:
        """Record an event of the line; return it as the caller is told: times count from the session's beginning."""
        before_ms = self._format.milliseconds(self._line_from)
        match event:
            case out.SpeechStarted():
                event = replace(event, audio_start_ms=event.audio_start_ms + before_ms)
                self._ring.speech_started(self._format.size_bytes(event.audio_start_ms))
            case out.SpeechStopped():
                event = replace(event, audio_end_ms=event.audio_end_ms + before_ms)
                self._speech_stopped_at = self._format.size_bytes(event.audio_end_ms)
            case out.InputCommitted():
                self._take_turn(event.item_id)
            case out.UserTranscript():
                self._spoken.pop(event.item_id, None)
            case out.ErrorEvent():
                self._commits.pop(event.event_id, None)
        self._history.heard(event)
        if isinstance(event, out.SessionUpdated):
            self._ring.is_manual = not TurnTaking.of(self._history.configuration).by_server
        return event

    def configures(self, event_id: str) -> None:
        """Record a change of the configuration that is the gateway's own, and not to be remembered."""
        self._history.configures(event_id)

    def interrupted(self, event: out.Interrupted, sent_ms: int, received_ms: int) -> None:
        """Record that an answer was cut: of the audio that came so much has gone to the caller."""
        self._history.interrupted(event.response_id, event.item_id, sent_ms, received_ms)

    def truncated_here(self, event: Mapping[str, Any]) -> out.ItemTruncated | None:
        """Return what a truncation comes to that the present line cannot carry out: it has the words, and no audio."""
        item_id, end_ms = event.get("item_id"), event.get("audio_end_ms")
        is_ours = event.get("type") == "conversation.item.truncate" and item_id in self._told
        if not is_ours or not isinstance(end_ms, int) or isinstance(end_ms, bool):
            return None
        self._history.truncate(str(item_id), end_ms)
        return out.ItemTruncated(str(item_id), end_ms)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What was last confirmed."""
        return self._history.configuration

    def has(self, item_id: str) -> bool:
        """Whether an item is part of the conversation."""
        return self._history.has(item_id)

    def old_items(self, kept: int) -> tuple[str, ...]:
        """Return all items but the last so many; a function's result stays with its call."""
        bodies = self._history.bodies
        cut = max(0, len(bodies) - kept)
        while cut and (bodies[cut][1] or {}).get("type") == "function_call_output":
            cut -= 1
        return tuple(name for name, _ in bodies[:cut])

    @property
    def uncommitted_bytes(self) -> int:
        """How much audio has come that is no part of an item, as far as it is kept."""
        return self._ring.end - self._ring.start

    @property
    def rest_bytes(self) -> int:
        """How much audio a fresh line would hear again."""
        return len(self._ring.rest())

    def truncate(self, item_id: str, end_ms: int) -> None:
        """Let an answer end where its listener heard no more."""
        self._history.truncate(item_id, end_ms)

    def output_ms(self, samples: int) -> int:
        """How long so much of the model's audio is."""
        fmt = TurnTaking.of(self._history.configuration).output_format
        return fmt.milliseconds(samples * fmt.sample_bytes)

    def withhold(self) -> tuple[tuple[str, ...], tuple[Mapping[str, Any], ...]]:
        """Give up the commits that were not answered, and what is owed: their audio is to come again before.

        Return their event ids in order, and what is owed; nothing of either where no commit is pending.
        """
        if not self._commits:
            return (), ()
        pending, owed = tuple(self._commits), self._history.owed.requests()
        self._commits.clear()
        self._history.replayed()
        return pending, owed

    def is_asked_again(self, response_id: str) -> bool:
        """Whether the next line is asked for an answer again that this one has not given."""
        return self._history.owed.is_asked_again(response_id)

    @property
    def is_unconfirmed(self) -> bool:
        """Whether the line has not answered yet to something that it was told, answers apart."""
        return self._history.is_unconfirmed

    def written(self, max_bytes: int) -> Written | None:
        """Return the conversation as a log can keep it, the newest of it; None = something is under way."""
        return None if self._commits or self._spoken else self._history.written(max_bytes)

    def read(self, written: Written) -> None:
        """Be what was written."""
        self._history.read(written)
        self._ring.is_manual = not TurnTaking.of(written.configuration).by_server

    def line_lost(self) -> None:
        """Record that the line is gone."""
        self._history.line_lost()

    def restored(self, unrestored: Iterable[str]) -> None:
        """Record that a fresh line was told everything but these, and that the caller knows."""
        self._history.named(unrestored)

    def replay(self) -> tuple[Replay, list[Mapping[str, Any]]]:
        """Return what a fresh line is told, as a whole and as client events in order.

        All but the audio is to be recorded by `sent` again, in the same step: it has new event ids.
        """
        spoken = {item_id: pybase64.b64encode(audio).decode() for item_id, audio in self._spoken.items()}
        told = self._history.replay(spoken)
        rest = self._ring.rest()
        self._line_from, self._speech_stopped_at = self._ring.end - len(rest), None
        self._ends_again = deque(self._commits.values())
        self._commits.clear()
        self._history.replayed()
        self._told = frozenset(str(event["item"]["id"]) for event in told.items)
        self._ring.is_manual = not TurnTaking.of(told.configuration).by_server
        return told, list(self._events(told, rest, tuple(self._ends_again)))

    def _events(self, told: Replay, rest: bytes, ends: Iterable[int]) -> Iterator[Mapping[str, Any]]:
        yield from told.items
        taken = 0
        for end in ends:  # each turn ends where the caller has ended it
            size = min(max(end - self._line_from, taken), len(rest))
            yield from self._pieces(rest[taken:size])
            yield COMMIT
            taken = size
        yield from self._pieces(rest[taken:])
        yield from told.requests

    def _pieces(self, audio: bytes) -> Iterator[Mapping[str, Any]]:
        step = PIECE_SECONDS * self._format.bytes_per_second
        for at in range(0, len(audio), step):
            piece = pybase64.b64encode(audio[at : at + step]).decode()
            yield {"type": "input_audio_buffer.append", "audio": piece}

    def _take_turn(self, item_id: str) -> None:
        """Give the audio of a turn to its item, until its words are known."""
        end = self._commits.pop(next(iter(self._commits))) if self._commits else self._speech_stopped_at
        turn, self._speech_stopped_at = self._ring.turn_ended(end), None
        if not self._keeps_turns or not turn:  # a log has no audio
            return
        self._spoken[item_id] = turn
        while len(self._spoken) > 1 and sum(map(len, self._spoken.values())) > TURNS_MAX_BYTES:
            del self._spoken[next(iter(self._spoken))]


def _padding_ms(configuration: Mapping[str, Any]) -> int:
    found = (detection_of(configuration) or {}).get("prefix_padding_ms")
    return found if isinstance(found, int) and 0 <= found <= 10_000 else PADDING_MS  # noqa: PLR2004 the same bound


def _decoded(audio: object) -> bytes:
    """Read a piece that came as a raw event; what is no base64 the provider refuses."""
    try:
        return pybase64.b64decode(audio, validate=True) if isinstance(audio, str) else b""
    except ValueError:
        return b""
