"""A gateway's runtime with every neighbour played: one template, one pool, one directory."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

from gateway.core import events as out
from gateway.core.errors import GatewayError
from gateway.core.events import Outgoing
from gateway.core.ids import LeaseId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolLimits
from gateway.core.template import LineClass, Template
from gateway.runtime.directory import Directory
from gateway.runtime.pool import WarmPool
from gateway.runtime.session import LiveSession
from gateway.runtime.session_options import SessionOptions, SessionParts
from tests.support.virtual_time import turns
from tests.unit.runtime.fakes import Caller, Exchange, Line, Observer, Store

LINE = LineClass("openai", "openai", "wss://host/v1/realtime", "gpt-realtime", "realtime", "main", "k1")
LIMITS = PoolLimits(floor=1, ceiling=4, reserve=0, age_jitter_ratio=0.0)


def template(**session: Any) -> Template:
    return Template("default", LINE, {"instructions": "Be brief.", **session})


def lease_ids() -> Iterator[LeaseId]:
    return (LeaseId(f"lease-{number}") for number in count(1))


def encode(outgoing: Outgoing) -> bytes:
    return f"{outgoing.seq}:{type(outgoing.event).__name__}".encode()


class Stage:
    """Everything that a session needs; `serve` runs one as the gRPC handler does."""

    def __init__(self, session: Mapping[str, Any] | None = None, **limits: Any) -> None:
        self.observer = Observer()
        self.exchange = Exchange()
        self.store = Store()
        self.template = template(**(session or {}))
        core = PoolCore(replace(LIMITS, **limits), Random(1), lease_ids())
        self.pool = WarmPool(self.template, core, self.exchange, self.observer)
        self.options = SessionOptions()
        self._calls: list[asyncio.Task[GatewayError | None]] = []
        self._directory: Directory | None = None

    # Parts.

    @property
    def parts(self) -> SessionParts:
        return SessionParts(
            pools={"default": self.pool},
            store=self.store,
            observer=self.observer,
            encode=encode,
            owner_address="gateway:50051",
            options=self.options,
        )

    def limit(self, **options: Any) -> None:
        self.options = replace(self.options, **options)

    @property
    def directory(self) -> Directory:
        if self._directory is None:
            self._directory = Directory(self.parts, sessions_max=2)
        return self._directory

    @property
    def session(self) -> LiveSession:
        (session,) = self.directory.sessions()
        return session

    @property
    def line(self) -> Line:
        """The line that the one session has."""
        session_id = self.session.upstream_session_id
        return next(line for line in self.exchange.lines if line.session_id == session_id)

    # Life.

    async def warm(self) -> None:
        """Start the pool and let its first lines become ready."""
        self.pool.start()
        await turns(5)

    def serve(self, caller: Caller) -> "asyncio.Task[GatewayError | None]":
        call = asyncio.get_running_loop().create_task(self.directory.serve(caller), name="rpc")
        self._calls.append(call)
        return call

    async def opened(self, **request: Any) -> tuple[Caller, "asyncio.Task[GatewayError | None]"]:
        """A caller that has its line."""
        caller = Caller()
        caller.say(out.OpenRequest(**request))
        call = self.serve(caller)
        await caller.until(out.Opened)
        return caller, call

    async def clear(self) -> None:
        """Drain as the gateway does at its end."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self.directory.drain(0.0)
        self.exchange.may_answer.set()
        for line in self.exchange.lines:
            line.may_close.set()
            line.may_send.set()
        await self.pool.stop()

    # Promises that hold whenever everybody has gone.

    async def everything_is_given_back(self) -> None:
        """No session, no lease, and one report and one answer to each acquire."""
        await turns(10)
        assert self.directory.sessions() == []
        stats = self.pool.stats()
        assert (stats.leased, stats.waiting) == (0, 0)
        assert self.pool._waiters == {}, "a waiter is remembered that is gone"
        held = [line for line in self.exchange.open_lines if not line.closes]
        assert len(held) == stats.ready
