"""Both clients under one face, so that each promise is tested once for both."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol, Self, cast

from trunkline_client import AsyncClient, AsyncSession, Client
from trunkline_client.events import Event


class Connect(Protocol):
    """How a test makes a client."""

    def __call__(self, address: str, /, **arguments: Any) -> AsyncClient:
        """Return a client that is used as an `AsyncClient`, whichever it is."""


class Threaded:
    """Something blocking that is awaited: each call runs in a thread."""

    def __init__(self, blocking: Any) -> None:
        self.blocking = blocking

    def __getattr__(self, name: str) -> Any:
        return _threaded(getattr(self.blocking, name))

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.blocking.__enter__)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.blocking.__exit__, kind, error, trace)


class ThreadedSession(Threaded):
    """A blocking session that is awaited."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        # StopIteration cannot leave a thread.
        event = await asyncio.to_thread(next, self.blocking, None)
        if event is None:
            raise StopAsyncIteration
        return cast("Event", event)


class ThreadedClient(Threaded):
    """A blocking client that is awaited."""

    def open(self, *arguments: Any, lease: Threaded | None = None, **named: Any) -> ThreadedSession:
        blocking = None if lease is None else lease.blocking
        return ThreadedSession(self.blocking.open(*arguments, lease=blocking, **named))

    def reserve(self, *arguments: Any, **named: Any) -> Threaded:
        return Threaded(self.blocking.reserve(*arguments, **named))

    async def __aenter__(self) -> Self:
        self.blocking.__enter__()
        return self


def _threaded(attribute: object) -> object:
    if not callable(attribute):
        return attribute

    def call(*arguments: object, **named: object) -> Awaitable[object]:
        return asyncio.to_thread(cast("Callable[..., object]", attribute), *arguments, **named)

    return call


def connect_async(address: str, /, **arguments: Any) -> AsyncClient:
    return AsyncClient(address, **arguments)


def connect_sync(address: str, /, **arguments: Any) -> AsyncClient:
    return cast("AsyncClient", ThreadedClient(Client(address, **arguments)))


async def events_of(session: AsyncSession) -> list[Event]:
    """Return what is left of a session."""
    return [event async for event in session]


def names_of(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]
