"""A caller that says what a scenario wants and waits for what comes, instead of talking by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

from trunkline.v1 import control_pb2 as control
from trunkline_client import AsyncClient
from trunkline_client.events import Event

from tests.chaos.talker import END_SECONDS, TEXT, Talker

WAIT_SECONDS: Final = 20.0
Found = TypeVar("Found")
Kind = TypeVar("Kind")


class Caller(Talker):
    """One session that is steered; everything that came stays, each with its time."""

    def __init__(
        self,
        client: AsyncClient,
        name: str,
        overrides: control.SessionOverrides | None = TEXT,
        template: str = "default",
    ) -> None:
        super().__init__(client, name, overrides, template)
        self.events = list[tuple[float, Event]]()
        self._changed = asyncio.Event()
        self._session: Any = None

    @property
    def session(self) -> Any:
        """What it talks with; not before `begun`."""
        return self._session

    async def begun(self) -> None:
        """Return when the session is open."""
        await self.until(lambda: self._session, "the session is open")

    async def say(self, words: str, *, asks: bool = False, item_id: str = "") -> int:
        """Say something, and ask for an answer; return how many events had come before."""
        before = len(self.events)
        self.history.sent.append(words)
        await self._session.send_text(words, item_id=item_id)
        if asks:
            self.history.answers_asked += 1
            await self._session.create_response()
        return before

    async def until(self, find: Callable[[], Found | None], what: str, seconds: float = WAIT_SECONDS) -> Found:
        """Return what `find` finds; it looks again after each event."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := find()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            text = f"{self.name}: not within {seconds:.0f} s: {what}; it ended with {self.history.failure!r}"
            raise AssertionError(text) from None
        return found

    def came(
        self, kind: type[Kind], since: int = 0, fits: Callable[[Kind], object] = lambda _: True
    ) -> tuple[float, Kind] | None:
        """Return the first of a kind among what came from number `since` on, and when."""
        for at, event in self.events[since:]:
            if isinstance(event, kind) and fits(event):
                return at, event
        return None

    def count(self, kind: type[Event]) -> int:
        """Return how many of a kind have come."""
        return sum(isinstance(event, kind) for _, event in self.events)

    async def until_counted(self, kind: type[Event], least: int) -> None:
        """Return when so many of a kind have come."""
        await self.until(lambda: self.count(kind) >= least, f"{least} of {kind.__name__} have come")

    async def next(
        self, kind: type[Kind], since: int = 0, fits: Callable[[Kind], object] = lambda _: True
    ) -> tuple[float, Kind]:
        """Wait for the first of a kind."""
        return await self.until(lambda: self.came(kind, since, fits), f"{kind.__name__} has come")

    async def _talk(self, session: Any) -> None:
        self._session = session
        self._changed.set()
        await self._stopped.wait()
        await session.end_input()

    def _note(self, event: Event, now: float) -> None:
        super()._note(event, now)
        self.events.append((now, event))
        self._changed.set()


@asynccontextmanager
async def calls(
    clients: Sequence[AsyncClient], names: Iterable[str], overrides: control.SessionOverrides | None = TEXT
) -> AsyncIterator[list[Caller]]:
    """Make one for each name, over the clients in turn, and let them live."""
    made = [Caller(clients[number % len(clients)], name, overrides) for number, name in enumerate(names)]
    async with living(made):
        yield made


@asynccontextmanager
async def living(made: Sequence[Caller]) -> AsyncIterator[None]:
    """Let each open its session; at the end of the block all say goodbye and hear the rest."""
    lives = [asyncio.create_task(each.run()) for each in made]
    try:
        await asyncio.gather(*(each.begun() for each in made))
        yield
        for each in made:
            each.stop()
        await asyncio.wait(lives, timeout=END_SECONDS)
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)


@asynccontextmanager
async def connected(address: str, count: int) -> AsyncIterator[list[AsyncClient]]:
    """Give clients with a connection each."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(AsyncClient(address)) for _ in range(count)]
