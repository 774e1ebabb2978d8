"""The ports of the runtime, played by objects that a test holds in its hand."""

import asyncio
import json
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.core import events as out
from gateway.core.errors import CapacityError, DialError, LogGapError, Reason, StoreError, UpstreamClosedError
from gateway.core.events import CallerMessage, Durability, Outgoing
from gateway.core.principal import Principal, Right
from gateway.core.template import LineClass
from gateway.runtime.observers import SessionReport
from gateway.runtime.ports import CallerGoneError, Claimed, DialTimes, LogEntry, SessionKey, SlotKind
from tests.support.virtual_time import now

# What each event weighs on the wire of this world.
EVENT_BYTES = 100
ACME = Principal("acme", "bot", frozenset({Right.CONVERSE}))
EVIL = Principal("evil", "bot", frozenset({Right.CONVERSE}))


class Line:
    """One line to the provider. The test says what comes down and reads what went up."""

    def __init__(self, session_id: str, life_seconds: float | None = None) -> None:
        self.session_id = session_id
        self.life_seconds = life_seconds
        self.sent: list[dict[str, Any]] = []
        self.closes = 0
        self.close_seconds = 0.0
        # Whether what is asked for is answered at once, as a provider would.
        self.answers = False
        # While a gate is shut, what it stands before waits.
        self.may_send, self.may_close, self.may_answer = open_gate(), open_gate(), open_gate()
        self.pings = 0
        self.ping_failure: Exception | None = None
        self._frames: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self._gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def is_open(self) -> bool:
        return not self._gone.done()

    # The test's side.

    def tell(self, kind: str, **fields: Any) -> None:
        self.tell_raw(json.dumps({"type": kind, **fields}).encode())

    def tell_raw(self, frame: bytes) -> None:
        self._frames.put_nowait(frame)

    def lose(self, why: str = "1006") -> None:
        if not self._gone.done():
            self._gone.set_result(why)
        self._frames.put_nowait(UpstreamClosedError(Reason.UPSTREAM_CLOSED, f"lost: {why}", upstream_code=why))

    def types(self) -> list[str]:
        return [event["type"] for event in self.sent]

    def _answer(self, response_id: str) -> None:
        self.tell("response.created", response={"id": response_id})
        self.tell("response.output_audio.delta", response_id=response_id, item_id="i", delta="AAAA")
        self.tell("conversation.item.done", item={"id": "i"})
        self.tell("response.done", response={"id": response_id, "status": "completed"})

    # The port.

    async def send(self, frame: bytes) -> None:
        await self.may_send.wait()
        if not self.is_open:
            raise UpstreamClosedError(Reason.UPSTREAM_CLOSED, "lost")
        self.sent.append(json.loads(frame))
        if self.answers and self.sent[-1]["type"] == "response.create":
            self._answer(f"r{len(self.sent)}")

    async def receive(self) -> bytes:
        frame = await self._frames.get()
        if isinstance(frame, Exception):
            raise frame
        return frame

    async def ping(self) -> None:
        self.pings += 1
        if self.ping_failure is not None:
            raise self.ping_failure
        answer = asyncio.ensure_future(self.may_answer.wait())
        try:
            ends: set[asyncio.Future[Any]] = {answer, self._gone}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            answer.cancel()
        if not self.is_open:
            raise UpstreamClosedError(Reason.UPSTREAM_CLOSED, "lost")

    async def wait_closed(self) -> str:
        return await asyncio.shield(self._gone)

    async def close(self) -> None:
        self.closes += 1
        await self.may_close.wait()
        if self.close_seconds:
            await asyncio.sleep(self.close_seconds)
        self.lose("1000")


class Exchange:
    """A dialler. Dials are answered at once, or held until the test answers them."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.dials: list[tuple[LineClass, Mapping[str, Any] | None]] = []
        self.safety_identifiers: list[str] = []
        # What the next dials fail with, in order.
        self.failures: deque[Exception] = deque()
        self.life_seconds: float | None = None
        self.answers = False
        # What a dial comes to.
        self.line: Callable[[str, float | None], Line] = Line
        self.delay_seconds = self.close_seconds = 0.0
        self.may_answer = open_gate()
        self.under_way = 0

    async def dial(
        self, line: LineClass, session: dict[str, Any] | None, times: DialTimes, safety_identifier: str = ""
    ) -> Line:
        self.dials.append((line, session))
        self.safety_identifiers.append(safety_identifier)
        self.under_way += 1
        try:
            await self.may_answer.wait()
            if self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            times.stages["tcp"] = 0.001
            if self.failures:
                raise self.failures.popleft()
        finally:
            self.under_way -= 1
        made = self.line(f"sess_{len(self.lines) + 1}", self.life_seconds)
        made.close_seconds, made.answers = self.close_seconds, self.answers
        self.lines.append(made)
        return made

    def fail(self, reason: Reason, times: int = 1) -> None:
        self.failures.extend(DialError(reason, "no") for _ in range(times))

    @property
    def open_lines(self) -> list[Line]:
        return [line for line in self.lines if line.is_open]


class Caller:
    """One `Converse` call. The test says what the caller sends and reads what it got."""

    def __init__(self, principal: Principal = ACME) -> None:
        self.principal = principal
        self.size_bytes = self.audio_position = self.written_bytes = 0
        self.trace = ""
        self.ack: out.CallerAck | None = None
        self.acks: list[out.GatewayAck] = []
        # After so long without a word it says what has come; None = never.
        self.beat_seconds: float | None = None
        # How long it will wait for the end of its call.
        self.patience_seconds = float("inf")
        self.got: list[Outgoing] = []
        # When each came.
        self.got_at: list[float] = []
        self.gone = False
        self.may_write = open_gate()
        # Each with its position, and what it acknowledges.
        self._messages: asyncio.Queue[tuple[CallerMessage | Exception | None, int, out.CallerAck | None]]
        self._messages = asyncio.Queue()
        self._written = asyncio.Condition()

    # The test's side.

    def say(self, *messages: CallerMessage | None) -> None:
        for message in messages:
            self._messages.put_nowait((message, 0, None))

    def play(self, audio: bytes, position: int) -> None:
        """Send audio that says where it begins."""
        self._messages.put_nowait((audio, position, None))

    def acknowledge(self, ack: out.CallerAck | None = None) -> None:
        """Say that everything has come, or what else is to be said."""
        newest = max((each.seq for each in self.got), default=0)
        self._messages.put_nowait((out.Ack(), 0, ack or out.CallerAck(newest, self.written_bytes)))

    def control(self, kind: str, cseq: int = 0, **fields: Any) -> None:
        self.say(out.Control(({"type": kind, **fields},), cseq))

    def vanish(self) -> None:
        """The network is lost: reads and writes fail from now on."""
        self.gone = True
        self._messages.put_nowait((CallerGoneError(), 0, None))

    def break_down(self, error: Exception) -> None:
        self._messages.put_nowait((error, 0, None))

    def events(self) -> list[object]:
        return [each.event for each in self.got]

    def kinds(self) -> list[type[object]]:
        return [type(event) for event in self.events()]

    async def until(self, kind: type[object]) -> Outgoing:
        """Wait for the newest event to be of a kind that has not come before this call, or has come at all."""
        async with self._written:
            await self._written.wait_for(lambda: kind in self.kinds())
        return next(each for each in reversed(self.got) if type(each.event) is kind)

    async def heard(self, count: int) -> None:
        """Wait until so many events have come."""
        async with self._written:
            await self._written.wait_for(lambda: len(self.got) >= count)

    # The port.

    def remaining_seconds(self) -> float:
        return self.patience_seconds

    async def read(self) -> CallerMessage | None:
        try:
            async with asyncio.timeout(self.beat_seconds):
                message, self.audio_position, self.ack = await self._messages.get()
        except TimeoutError:
            newest = max((each.seq for each in self.got), default=0)
            message, self.ack = out.Ack(), out.CallerAck(newest, self.written_bytes)
        if isinstance(message, Exception):
            raise message
        return message

    async def write(self, outgoing: Outgoing, ack: out.GatewayAck | None = None) -> None:
        await self.may_write.wait()
        if self.gone:
            raise CallerGoneError
        if ack is not None:
            self.acks.append(ack)
        self.written_bytes += EVENT_BYTES
        self.got.append(outgoing)
        self.got_at.append(now())
        async with self._written:
            self._written.notify_all()


class Store:
    """A log that keeps the rules of the real one: consecutive numbers, retries not stored twice."""

    def __init__(self) -> None:
        self.durability = Durability.PROCESS
        self.log: dict[SessionKey, list[LogEntry]] = {}
        # Whoever comes with a lower one is refused.
        self.epochs: dict[SessionKey, int] = {}
        # The highest control that each log has had.
        self.cseqs: dict[SessionKey, int] = {}
        self.appends: list[tuple[int, ...]] = []
        # Of each log so many entries are kept, and the first; None = all.
        self.entries_max: int | None = None
        self.finished: list[SessionKey] = []
        self.failure: Exception | None = None
        self.finish_failure: Exception | None = None
        self.claim_failure: Exception | None = None
        self.may_store, self.may_finish = open_gate(), open_gate()

    async def append(
        self, key: SessionKey, epoch: int, entries: Sequence[LogEntry], *, anew: bool = False, own_from: int = 1
    ) -> int:
        self.appends.append(tuple(entry.seq for entry in entries))
        await self.may_store.wait()
        if self.failure is not None:
            raise self.failure
        if self.epochs.get(key, 0) > epoch:
            raise StoreError(Reason.SUPERSEDED, "a newer owner")
        log = self.log.setdefault(key, [])
        ends_at = log[-1].seq if log else 0
        if not entries:
            return ends_at
        if entries[0].seq > ends_at + 1 and not anew:
            raise LogGapError(ends_at)
        assert [entry.seq for entry in entries] == list(range(entries[0].seq, entries[0].seq + len(entries)))
        log.extend(entry for entry in entries if entry.seq > ends_at)
        self.cseqs[key] = max(self.cseqs.get(key, 0), *(entry.cseq for entry in entries))
        if self.entries_max is not None:  # the first one says whose session it is
            log[1:] = log[1:][-self.entries_max :]
        return ends_at

    async def claim(
        self, key: SessionKey, token_epoch: int, last_seq: int, epochs: Sequence[out.EpochStart]
    ) -> Claimed | None:
        if self.claim_failure is not None:
            raise self.claim_failure
        entries = self.log.get(key)
        if not entries or key in self.finished:
            return None
        self.epochs[key] = epoch = max(self.epochs.get(key, 1), token_epoch) + 1
        return Claimed(epoch, max(entries[-1].seq, last_seq), self.cseqs[key], tuple(entries))

    async def read(self, key: SessionKey, from_seq: int = 1) -> list[LogEntry]:
        return [entry for entry in self.log.get(key, []) if entry.seq >= from_seq]

    async def finish(self, key: SessionKey, epoch: int) -> None:
        await self.may_finish.wait()
        if self.finish_failure is not None:
            raise self.finish_failure
        self.finished.append(key)

    def numbers(self) -> list[int]:
        """What is stored of the one session there is."""
        (log,) = self.log.values()
        return [entry.seq for entry in log]


class Slots:
    """The places of an account: counted, and never below nothing."""

    def __init__(self) -> None:
        self.held: Counter[SlotKind] = Counter()
        # What was done, in order.
        self.acts: list[str] = []
        # What the next acquires are refused with, in order.
        self.refusals: deque[Exception] = deque()
        self.turn_seconds = 0.0
        self.may_grant = open_gate()

    def refuse(self, reason: Reason, retry_after_seconds: float | None = 0.5, times: int = 1) -> None:
        self.refusals.extend(
            CapacityError(reason, "no place", retry_after_seconds=retry_after_seconds) for _ in range(times)
        )

    @property
    def total(self) -> int:
        return self.held.total()

    # The port.

    async def acquire(self, account: str, kind: SlotKind) -> float:
        await self.may_grant.wait()
        if self.refusals:
            self.acts.append(f"refuse {kind.name}")
            raise self.refusals.popleft()
        self.acts.append(f"acquire {kind.name}")
        self.held[kind] += 1
        return self.turn_seconds

    def change(self, account: str, before: SlotKind, after: SlotKind) -> None:
        self.acts.append(f"{before.name} to {after.name}")
        self._take_from(before)
        self.held[after] += 1

    def release(self, account: str, kind: SlotKind) -> None:
        self.acts.append(f"release {kind.name}")
        self._take_from(kind)

    def _take_from(self, kind: SlotKind) -> None:
        assert self.held[kind] > 0, f"no place is held as {kind.name}: {self.acts}"
        self.held[kind] -= 1


class TenantBook:
    """What each gateway's tenants have, as one Redis would tell it to the others."""

    def __init__(self) -> None:
        self.said: dict[int, dict[str, Mapping[str, int]]] = {}
        self.failure: Exception | None = None

    def of(self, gateway: int) -> "_TenantVoice":
        return _TenantVoice(self, gateway)


class _TenantVoice:
    def __init__(self, book: TenantBook, gateway: int) -> None:
        self._book = book
        self._gateway = gateway

    async def exchange(self, account: str, own: Mapping[str, int]) -> Mapping[str, int]:
        if self._book.failure is not None:
            raise self._book.failure
        self._book.said.setdefault(self._gateway, {})[account] = own
        others: Counter[str] = Counter()
        for gateway, said in self._book.said.items():
            if gateway != self._gateway:
                others.update(said.get(account, {}))
        return others


class Book:
    """Which reservations live, as one Redis would tell it to several gateways."""

    def __init__(self) -> None:
        self.ends_at: dict[str, float] = {}
        self.connects = 1
        self.failure: Exception | None = None
        # While a gate is shut, an answer waits; what was asked has been done.
        self.may_answer = open_gate()
        # While this one is shut, what is added waits on its way there.
        self.may_add = open_gate()
        # While this one is shut, whoever asks which of them live waits for the answer.
        self.may_tell = open_gate()
        self.asked: list[str] = []

    def alive(self) -> list[str]:
        return [lease_id for lease_id, ends_at in self.ends_at.items() if ends_at > now()]

    # The port.

    async def add(self, lease_id: str, ttl_seconds: float) -> None:
        await self.may_add.wait()
        self._ask("add")
        self.ends_at[lease_id] = now() + ttl_seconds
        await self.may_answer.wait()

    async def renew(self, lease_id: str, ttl_seconds: float) -> bool:
        self._ask("renew")
        lives = lease_id in self.alive()
        if lives:
            self.ends_at[lease_id] = now() + ttl_seconds
        await self.may_answer.wait()
        return lives

    async def take(self, lease_id: str) -> bool:
        self._ask("take")
        lives = lease_id in self.alive()
        self.ends_at.pop(lease_id, None)
        await self.may_answer.wait()
        return lives

    async def living(self, lease_ids: Sequence[str]) -> frozenset[str]:
        self._ask("living")
        living = frozenset(lease_ids) & frozenset(self.alive())
        await self.may_tell.wait()
        return living

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure


class Sealer:
    """Seals that everybody could read, but nobody in these tests forges."""

    def __init__(self) -> None:
        self._sealed = 0

    def seal(self, purpose: str, content: bytes) -> str:
        self._sealed += 1
        return f"{purpose}.{self._sealed}.{content.hex()}"

    def open(self, purpose: str, token: str) -> bytes | None:
        found, _, content = token.partition(".")
        if found != purpose or "." not in content:
            return None
        return bytes.fromhex(content.partition(".")[2])


class Observer:
    """Hears everything, and writes it down."""

    def __init__(self) -> None:
        self.acquires: list[tuple[str, float]] = []
        self.dials: list[str] = []
        self.closed: list[str] = []
        self.held: list[float] = []
        self.entry_ages: list[float] = []
        self.reports: list[SessionReport] = []
        self.first_audios: list[tuple[str, float]] = []
        self.refusals: list[Reason] = []
        self.relays: list[str] = []
        self.recoveries: list[tuple[str, str, float]] = []
        self.rotations: list[tuple[str, str]] = []
        self.parents: list[str] = []
        self.leases: list[tuple[str, str]] = []
        self.answers: list[str] = []
        self.trace = ""
        self.resumes: list[tuple[str, float]] = []
        self.idle_seconds: list[float] = []
        self.first_audibles: list[float] = []

    @property
    def results(self) -> list[str]:
        return [result for result, _ in self.acquires]

    def acquired(self, pool: str, result: str, waited_seconds: float) -> None:
        self.acquires.append((result, waited_seconds))

    def granted(self, pool: str, entry_age_seconds: float) -> None:
        self.entry_ages.append(entry_age_seconds)

    def dialled(self, pool: str, result: str, times: DialTimes) -> str:
        self.dials.append(result)
        return f"dial-{len(self.dials)}"

    def connection_closed(self, pool: str, reason: str) -> None:
        self.closed.append(reason)

    def idled(self, pool: str, seconds: float) -> None:
        self.idle_seconds.append(seconds)

    def lease_ended(self, pool: str, held_seconds: float) -> None:
        self.held.append(held_seconds)

    def of_session(self, parent: str) -> "Observer":
        self.parents.append(parent)
        return self

    def leased(self, source: str, waited_seconds: float, dial: str) -> None:
        self.leases.append((source, dial))

    def answered(self, done: out.ResponseDone) -> None:
        self.answers.append(done.status)

    def session_ended(self, report: SessionReport) -> None:
        self.reports.append(report)

    def first_audio(self, pool: str, since: str, seconds: float) -> None:
        self.first_audios.append((since, seconds))

    def first_audible(self, pool: str, seconds: float) -> None:
        self.first_audibles.append(seconds)

    def recovered(self, cause: str, result: str, seconds: float) -> None:
        self.recoveries.append((cause, result, seconds))

    def rotated(self, trigger: str, result: str, seconds: float) -> None:
        self.rotations.append((trigger, result))

    def relayed(self, direction: str, seconds: float) -> None:
        self.relays.append(direction)

    def resumed(self, outcome: str, seconds: float) -> None:
        self.resumes.append((outcome, seconds))

    def refused(self, reason: Reason) -> None:
        self.refusals.append(reason)


def open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
