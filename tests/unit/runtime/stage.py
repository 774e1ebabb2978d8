"""A gateway's runtime with every neighbour played: a group of lines, its pools, one directory."""

import asyncio
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

from gateway.core import events as out
from gateway.core.breaker import Breaker, BreakerOptions
from gateway.core.demand import DemandOptions
from gateway.core.errors import GatewayError
from gateway.core.events import Outgoing
from gateway.core.ids import LeaseId
from gateway.core.pool import PoolCore
from gateway.core.pool_limits import PoolLimits
from gateway.core.record import Note, Opening, Record
from gateway.core.recovery import RecoveryOptions
from gateway.core.template import LineClass, Template
from gateway.core.tenants import TenantShares
from gateway.core.watchdog import WatchdogOptions
from gateway.runtime.directory import Directory
from gateway.runtime.lane_parts import LaneParts
from gateway.runtime.pool import WarmPool
from gateway.runtime.ports import LogEntry, SlotKind
from gateway.runtime.reservations import Reservations
from gateway.runtime.resume_tokens import ResumeTokens
from gateway.runtime.session import LiveSession
from gateway.runtime.session_options import SessionOptions, SessionParts
from gateway.runtime.tenants import Tenants
from gateway.runtime.trunk_group import TrunkGroup
from tests.support.virtual_time import turns
from tests.unit.runtime.fakes import Book, Caller, Exchange, Line, Observer, Sealer, Slots, Store, TenantBook

LINE = LineClass("openai", "openai", "wss://host/v1/realtime", "gpt-realtime", "realtime", "main")
END_USER_LINE = replace(LINE, safety="end_user")
# A floor that follows demand would move under the tests; those about it ask for it.
STILL = DemandOptions(enabled=False)
LIMITS = PoolLimits(floor=1, ceiling=4, reserve=0, age_jitter_ratio=0.0, demand=STILL)


def template(name: str = "default", line: LineClass = LINE, **session: Any) -> Template:
    return Template(name, line, {"instructions": "Be brief.", **session})


def lease_ids(prefix: str = "lease") -> Iterator[LeaseId]:
    return (LeaseId(f"{prefix}-{number}") for number in count(1))


class Form:
    """Events as they are, found again by what stands in the log."""

    def __init__(self) -> None:
        self.kept: dict[bytes, tuple[Outgoing, Note, Opening | None]] = {}

    def encode(self, outgoing: Outgoing, note: Note | None = None, opening: Opening | None = None) -> bytes:
        payload = f"{outgoing.seq}:{type(outgoing.event).__name__}:{outgoing.epoch}".encode()
        self.kept[payload] = outgoing, note or Note(), opening
        return payload

    def read(self, entry: LogEntry) -> Record:
        outgoing, note, opening = self.kept[entry.payload]
        return Record(entry.seq, outgoing.event, note, opening)

    def again(self, entry: LogEntry) -> Outgoing:
        return self.kept[entry.payload][0]


# Answers may take for ever, for tests of what happens meanwhile.
PATIENT = WatchdogOptions(beginning_seconds=math.inf, rest_seconds=math.inf)
# A lost line is the end: for tests of when and how that is noticed.
UNRECOVERED = RecoveryOptions(young_max=0, young_seconds=0.0)


class Stage:
    """Everything that a session needs; `serve` runs one as the gRPC handler does.

    Several stages are several gateways when they share a book and a sealer.
    """

    def __init__(  # noqa: PLR0913 what a test may choose
        self,
        session: Mapping[str, Any] | None = None,
        *,
        names: tuple[str, ...] = ("default",),
        line: LineClass = LINE,
        breaker: Breaker | None = None,
        book: Book | None = None,
        sealer: Sealer | None = None,
        gateway: str = "gateway-1",
        store: Store | None = None,
        form: Form | None = None,
        **limits: Any,
    ) -> None:
        self.observer, self.exchange, self.store, self.slots = Observer(), Exchange(), store or Store(), Slots()
        self.book, self.sealer = book or Book(), sealer or Sealer()
        templates = {name: template(name, line, **(session or {})) for name in names}
        bounds = replace(LIMITS, **limits)
        self.core = PoolCore(
            {name: (each.version, bounds) for name, each in templates.items()},
            breaker or Breaker(BreakerOptions()),
            Random(1),
            lease_ids("lease" if gateway == "gateway-1" else gateway),
        )
        self.group = TrunkGroup(line, templates, self.core, self.exchange, self.slots, self.observer)
        self.pools = {name: WarmPool(each, self.group, self.observer) for name, each in templates.items()}
        self.group.on_revoke.append(self._revoked)
        self.template, self.pool = templates[names[0]], self.pools[names[0]]
        self.reservations = Reservations(self.book, self.sealer, gateway)
        self.tenants = Tenants(TenantShares({}), TenantBook().of(1), self.reservations.reserved)
        self.reservations.check_tenant = self.tenants.check
        self.options = SessionOptions()
        self.form = form or Form()
        self._lanes = LaneParts(self.store, self.form)
        self._calls: list[asyncio.Task[Any]] = []
        self._directory: Directory | None = None

    def _revoked(self, lease_id: LeaseId) -> None:
        for pool in self.pools.values():
            pool.revoked(lease_id)

    # Parts.

    @property
    def parts(self) -> SessionParts:
        return SessionParts(
            pools=self.pools,
            reservations=self.reservations,
            tenants=self.tenants,
            lanes=self._lanes,
            tokens=ResumeTokens(self.sealer),
            observer=self.observer,
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
        self.group.start()
        await turns(8)

    def keep_reservations(self) -> None:
        """Look after the reservations, as a gateway does while it runs."""
        self._calls.append(asyncio.get_running_loop().create_task(self.reservations.run(), name="reservations"))

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
        """Drain as the gateway does at its end; every place at the account has come back then."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self.directory.drain(0.0)
        self.exchange.may_answer.set()
        self.slots.may_grant.set()
        for line in self.exchange.lines:
            line.may_close.set()
            line.may_send.set()
        await self.group.stop()
        assert self.slots.total == 0, f"places are left: {self.slots.held} after {self.slots.acts}"

    # Promises that hold whenever everybody has gone.

    async def everything_is_given_back(self) -> None:
        """No session, no lease, no place too many; one report and one answer to each acquire."""
        await turns(24)
        assert self.directory.sessions() == []
        each = [self.group.stats(share.name) for share in self.core._books.all]
        assert [(stats.leased, stats.waiting) for stats in each] == [(0, 0)] * len(each)
        assert self.group._answers == {}, "a waiter is remembered that is gone"
        assert self.group._safety_identifiers == {}, "somebody is remembered that is gone"
        assert all(pool.leases == {} for pool in self.pools.values())
        ready = sum(stats.ready for stats in each)
        held = [line for line in self.exchange.open_lines if not line.closes]
        assert len(held) == ready
        under_way = sum(stats.dialling + stats.draining for stats in each)
        assert ready <= self.slots.total <= ready + under_way, self.slots.acts
        if not under_way:
            assert self.slots.held[SlotKind.LEASED] == 0, self.slots.acts
