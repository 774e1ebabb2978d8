"""A stage to play one session on without socket or clock."""

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Any

import pybase64

from gateway.simulator.dialogue import Dialogue
from gateway.simulator.events import Beat, Event, Script
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.session import REALTIME, TRANSCRIPTION, Session

EXPIRES_AT = 1_800_000_000


class Stage:
    """Runs a dialogue in virtual milliseconds and keeps what it sends."""

    def __init__(self, model: str | None = "gpt-realtime", **options: Any) -> None:
        self.sent: list[Event] = []
        self.now = 0.0
        self._order = count()
        self._due: list[tuple[float, int, Beat, Iterator[Beat], float]] = []
        self._stopped = set[int]()
        session = Session(TRANSCRIPTION if model is None else REALTIME, model, EXPIRES_AT)
        self.dialogue = Dialogue(SimulatorOptions(port=20_000, **options), session, self.sent.append, self._perform)
        self.dialogue.open()

    def take(self, kind: str, **fields: Any) -> list[Event]:
        """Send a client event; what came back at once."""
        before = len(self.sent)
        self.dialogue.take({"type": kind, **fields})
        return self.sent[before:]

    def update(self, **session: Any) -> list[Event]:
        return self.take("session.update", session={"type": "realtime", **session})

    def say(self, text: str, role: str = "user") -> list[Event]:
        kind = "output_text" if role == "assistant" else "input_text"
        content = [{"type": kind, "text": text}]
        return self.take("conversation.item.create", item={"type": "message", "role": role, "content": content})

    def append(self, wire: bytes, piece: int = 960) -> list[Event]:
        """Stream audio; what came back at once."""
        before = len(self.sent)
        for at in range(0, len(wire), piece):
            coded = pybase64.b64encode(wire[at : at + piece]).decode()
            self.dialogue.take({"type": "input_audio_buffer.append", "audio": coded})
        return self.sent[before:]

    def play(self, *, until_ms: float = float("inf")) -> list[Event]:
        """Let time pass until nothing is left to perform, or until `until_ms`; what was sent meanwhile."""
        before = len(self.sent)
        while self._due and self._due[0][0] <= until_ms:
            self.now, script_id, beat, script, start = heapq.heappop(self._due)
            if script_id in self._stopped:
                continue
            self.sent.extend(beat.events())
            self._queue(script_id, script, start)
        return self.sent[before:]

    def _perform(self, script: Script) -> Any:
        script_id = next(self._order)
        self._queue(script_id, script, self.now)
        return lambda: self._stopped.add(script_id)

    def _queue(self, script_id: int, script: Iterator[Beat], start: float) -> None:
        beat = next(script, None)
        if beat is not None:
            heapq.heappush(self._due, (start + beat.after_ms, script_id, beat, script, start))


def kinds(events: list[Event]) -> list[str]:
    """The types in order, a run of the same type as one."""
    names = [each["type"] for each in events]
    return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


def refused(events: list[Event]) -> str:
    """The code of the one error event."""
    (event,) = events
    assert event["type"] == "error", event
    return str(event["error"]["code"])
