"""A caller that keeps talking through everything, and writes down what it sent, what came, and when."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import Any, Final

from trunkline.v1 import control_pb2 as control
from trunkline_client import AsyncClient, TrunklineError
from trunkline_client.events import Closed, Event, InputCommitted, ItemDone, ResponseDone, Resumed, StateChanged

TEXT: Final = control.SessionOverrides(output_modality=control.OUTPUT_MODALITY_TEXT)
PAUSE_SECONDS: Final = 0.1
# Every so many words an answer is asked for.
WORDS_AN_ANSWER: Final = 4
END_SECONDS: Final = 30.0


@dataclass
class History:
    """One session as its caller saw it; times are of the monotonic clock, in seconds."""

    sent: list[str] = field(default_factory=list)
    answers_asked: int = 0
    # Every event that has a number, in the order in which it was handed out.
    numbered: int = 0
    items: list[tuple[str, str, str]] = field(default_factory=list)
    responses: list[str] = field(default_factory=list)
    resumed: list[tuple[float, Resumed]] = field(default_factory=list)
    # The provider's id of the line that the caller was told of with each stream.
    lines: list[str] = field(default_factory=list)
    unrestored: list[str] = field(default_factory=list)
    # First and last number of what it was told that the store has lost.
    store_gaps: list[tuple[int, int]] = field(default_factory=list)
    came_at: list[float] = field(default_factory=list)
    # From each word until it is heard of as an item.
    heard_after: list[float] = field(default_factory=list)
    closed: Closed | None = None
    failure: str = ""


NUMBERED: Final = (ItemDone, ResponseDone, StateChanged, InputCommitted, Closed)


class Talker:
    """One session: `run` opens it, talks until `stop`, and hears everything that is due."""

    def __init__(
        self,
        client: AsyncClient,
        name: str,
        overrides: control.SessionOverrides | None = TEXT,
        template: str = "default",
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self.name = name
        self.history = History()
        self.opened = asyncio.Event()
        self.owner = ""
        self._client = client
        self._pause_seconds = pause_seconds
        self._said_at: dict[str, float] = {}
        self._how: dict[str, Any] = {"template": template, "overrides": overrides, "correlation_id": name}
        self._stopped = asyncio.Event()
        self._heard = asyncio.Event()
        self._numbers = itertools.count(1)

    def stop(self) -> None:
        """Say no more; what is due still comes."""
        self._stopped.set()

    async def resumed(self, times: int, seconds: float) -> None:
        """Return when the session was resumed so often."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.history.resumed) < times:
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            text = f"{self.name} was not resumed within {seconds:.0f} s; it ended with {self.history.failure!r}"
            raise AssertionError(text) from None

    async def run(self) -> History:
        """Live the whole session."""
        try:
            async with self._client.open(resumable=True, **self._how) as session:
                self.owner = session.opened.owner_address
                self.history.lines.append(session.opened.upstream_session_id)
                talking = asyncio.create_task(self._talk(session))
                try:
                    await self._hear(session)
                finally:
                    talking.cancel()
                    await asyncio.gather(talking, return_exceptions=True)
        except TrunklineError as failure:
            self.history.failure = f"{failure.reason}: {failure.message}"
        return self.history

    async def _talk(self, session: Any) -> None:
        history = self.history
        while not self._stopped.is_set():
            number = next(self._numbers)
            words = f"{self.name} says number {number}"
            history.sent.append(words)
            self._said_at[words] = time.monotonic()
            await session.send_text(words)
            if number % WORDS_AN_ANSWER == 0:
                history.answers_asked += 1
                await session.create_response()
            await asyncio.sleep(self._pause_seconds)
        await session.end_input()

    async def _hear(self, session: Any) -> None:
        async for event in session:
            self._note(event, time.monotonic())

    def _note(self, event: Event, now: float) -> None:
        history = self.history
        history.came_at.append(now)
        if isinstance(event, NUMBERED):
            history.numbered += 1
        match event:
            case ItemDone():
                history.items.append((event.item_id, event.role, event.text))
                if (said_at := self._said_at.pop(event.text, None)) is not None:
                    history.heard_after.append(now - said_at)
                self.opened.set()  # and stored: an event that has a number comes behind all before it
            case ResponseDone():
                history.responses.append(event.response_id)
            case StateChanged():
                history.unrestored += event.unrestored_items
                if event.lost_from:
                    history.store_gaps.append((event.lost_from, event.lost_to))
            case Resumed():
                self.owner = event.owner_address
                self._heard.set()
                history.lines.append(event.upstream_session_id)
                history.resumed.append((now, event))
            case Closed():
                history.closed = event
