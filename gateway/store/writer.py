"""Group commit: many sessions' commands, one task, one pipeline, one wait for the replicas.

The writer owns the connection. Callers only await futures, so a caller that is cancelled leaves
nothing half read behind it. While the server cannot be reached the writer refuses at once and
probes by itself; it never lets a caller wait for a server that is known to be gone.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import Final, NoReturn, Protocol

import structlog

from gateway.core.backoff import BackoffOptions, full_jitter_seconds
from gateway.core.errors import Reason, StoreError
from gateway.store.keys import PROBE_KEY, PROBE_LIFE_SECONDS
from gateway.store.link import Command, LinkError, Refusal, Refused, Reply
from gateway.store.links import link_to
from gateway.store.options import SERVER_TICK_SECONDS, RedisOptions
from gateway.store.scripts import SCRIPTS

PROBE_FIRST_SECONDS: Final = 0.05
# While replicas are known to lag, asking them must not cost every batch the full wait.
LAGGING_WAIT_RATIO: Final = 0.25

log = structlog.get_logger()


class StoreObserver(Protocol):
    """Hears what the store does. Every method returns at once and never raises."""

    def command(self, name: str, seconds: float) -> None:
        """Hear how long a batch with such commands (`wait`: the replicas) took."""

    def degraded(self, degraded: bool) -> None:  # noqa: FBT001 - a fact, not a switch
        """Hear that the store stopped keeping its promise, or keeps it again."""


class Health(Enum):
    """Whether the promise is kept."""

    UP = auto()
    # Written, but too few replicas say so.
    UNCONFIRMED = auto()
    DOWN = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """What one command came to; `confirmed` = by as many replicas as were asked for."""

    reply: Reply
    confirmed: bool


@dataclass(slots=True, eq=False)
class Job:
    """One command and who waits for it. `in_full` is what to send where the script is not known."""

    name: str
    command: Command
    in_full: Command
    size_bytes: int
    # Whether replicas must have it before it counts.
    replicate: bool = False
    outcome: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class GroupWriter:
    """The queue, the task's loop and the health of the store."""

    def __init__(self, options: RedisOptions, observer: StoreObserver | None, rng: Random) -> None:
        """Be down until `run` has probed the server."""
        self._options = options
        self._observer = observer
        self._rng = rng
        self._link = link_to(options)
        self._backoff = BackoffOptions(first_seconds=PROBE_FIRST_SECONDS, max_seconds=options.probe_max_seconds)
        self._queue: deque[Job] = deque()
        self._wake = asyncio.Event()
        self._pending_bytes = 0
        self._failures = 0
        self._ailing = False
        # How often a connection was made: what was stored over another one may be gone.
        self.connects = 0
        self._health: Health | None = None
        self.first_probe_done = asyncio.Event()

    @property
    def degraded(self) -> bool:
        """Whether what is stored now is stored as durably as promised."""
        return self._health is not Health.UP or self._link.is_ailing

    def check(self, size_bytes: int) -> None:
        """Raise `StoreError` where a job of so many bytes would be refused at once."""
        if self._health in (None, Health.DOWN):
            raise _unavailable("the store cannot be reached")
        if self._pending_bytes + size_bytes > self._options.pending_max_bytes:
            raise _unavailable(f"{self._pending_bytes} bytes wait for the store already")

    async def submit(self, job: Job) -> Answer:
        """Have `job` carried out, in the order of calls; also when its caller is cancelled.

        Raises `StoreError` at once when the server is known to be gone or the queue is full, and
        later when the batch fails: then it is not known whether it was carried out.
        """
        self.check(job.size_bytes)
        self._pending_bytes += job.size_bytes
        self._queue.append(job)
        self._wake.set()
        return await job.outcome

    async def run(self) -> None:
        """Serve until cancelled; then whoever still waits is told that the store is gone."""
        try:
            while True:
                try:
                    await self._probe()
                    await self._serve()
                except LinkError as error:
                    self._failures += 1
                    self._become(Health.DOWN, str(error))
                except Exception as error:
                    self._failures += 1
                    log.exception("store_failed", error=type(error).__name__)
                    self._become(Health.DOWN, f"a fault of ours: {type(error).__name__}")
                self.first_probe_done.set()
                await asyncio.sleep(full_jitter_seconds(self._failures, self._backoff, self._rng))
        finally:
            self._health = Health.DOWN
            self._fail(self._take(len(self._queue)), "the store is closing")
            await self._link.close()

    # Serving.

    async def _serve(self) -> NoReturn:
        while True:
            if self._queue:
                await self._commit(self._next_batch())
            elif not await self._woken():
                await self._commit([])

    async def _woken(self) -> bool:
        self._wake.clear()
        try:
            async with asyncio.timeout(self._options.idle_ping_seconds):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def _next_batch(self) -> list[Job]:
        count, size_bytes = 0, 0
        for job in self._queue:
            size_bytes += job.size_bytes
            if count and size_bytes > self._options.batch_max_bytes:
                break
            count += 1
        return self._take(count)

    def _take(self, count: int) -> list[Job]:
        return [self._queue.popleft() for _ in range(count)]

    async def _commit(self, batch: list[Job]) -> None:
        """Carry out a batch, or (an empty one) ask whether the server is there."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._options.deadline_seconds
        why = "the store is closing"
        unanswered = batch
        try:
            replies = await self._run_scripts(batch, ends_at)
            wanted = not batch or any(job.replicate for job in batch)
            confirmed = await self._confirm(ends_at, wanted=wanted)
            unanswered = []
        except LinkError as error:
            why = str(error)
            raise
        finally:
            self._fail(unanswered, why)
        self._failures = 0
        if self._link.is_ailing is not self._ailing:
            self._ailing = self._link.is_ailing
            if self._ailing:
                log.warning("store_partly_degraded")
            else:
                log.info("store_whole")
            if self._observer is not None:
                self._observer.degraded(self.degraded)
        self._settle(batch, replies, confirmed=confirmed)

    async def _run_scripts(self, batch: list[Job], ends_at: float) -> list[Reply]:
        started = asyncio.get_running_loop().time()
        commands = [job.command for job in batch] or [("PING",)]
        replies = await self._link.exchange(commands, ends_at)
        unknown = [
            at
            for at, reply in enumerate(replies)
            if isinstance(reply, Refused) and reply.refusal is Refusal.UNKNOWN_SCRIPT
        ]
        if unknown:  # these alone: what was done must not be done twice
            again = await self._link.exchange([batch[at].in_full for at in unknown], ends_at)
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        for name in {job.name for job in batch}:
            self._observe(name, started)
        return replies

    async def _confirm(self, ends_at: float, *, wanted: bool) -> bool:
        """Wait once, for the whole batch, until enough replicas have it; say whether they do."""
        replicas = self._options.replicas_wait
        if not (replicas and wanted):
            return True
        started = asyncio.get_running_loop().time()
        seconds = min(self._wait_seconds(), ends_at - started - SERVER_TICK_SECONDS)
        if started >= ends_at:  # a node of a Cluster has used up the time
            return False
        milliseconds = max(1, int(seconds * 1000))
        (reply,) = await self._link.exchange([("WAIT", replicas, milliseconds)], ends_at)
        self._observe("wait", started)
        confirmed = isinstance(reply, int) and reply >= replicas
        if confirmed:
            self._become(Health.UP, "")
        else:
            self._become(Health.UNCONFIRMED, f"{reply} of {replicas} replicas confirm")
        return confirmed

    def _wait_seconds(self) -> float:
        ratio = LAGGING_WAIT_RATIO if self._health is Health.UNCONFIRMED else 1.0
        return self._options.replicas_wait_seconds * ratio

    # Health.

    async def _probe(self) -> None:
        """Connect, load the scripts and see a write taken. Raises `LinkError`."""
        await self._link.open()
        self.connects += 1
        ends_at = asyncio.get_running_loop().time() + self._options.deadline_seconds
        load: list[Command] = [("SCRIPT", "LOAD", script.text) for script in SCRIPTS]
        write: Command = ("SET", PROBE_KEY, "1", "EX", PROBE_LIFE_SECONDS)
        for reply in await self._link.exchange([*load, write], ends_at):
            if isinstance(reply, Refused):
                raise LinkError(reply.text)
        if self._options.replicas_wait:
            await self._confirm(ends_at, wanted=True)
        else:
            self._become(Health.UP, "")
        self.first_probe_done.set()

    def _become(self, health: Health, cause: str) -> None:
        """Take note of a change: the one place where health changes while running."""
        before, self._health = self._health, health
        if health is Health.DOWN:
            self._fail(self._take(len(self._queue)), cause)
        if before is health:
            return
        degraded = health is not Health.UP
        if degraded:
            log.warning("store_degraded", health=health.name.lower(), cause=cause)
        elif before is not None:
            log.info("store_restored")
        if self._observer is not None:
            self._observer.degraded(degraded)

    def _observe(self, name: str, started: float) -> None:
        if self._observer is not None:
            self._observer.command(name, asyncio.get_running_loop().time() - started)

    # Telling callers.

    def _settle(self, batch: list[Job], replies: Sequence[Reply], *, confirmed: bool) -> None:
        """Tell each caller its own outcome. Raises `LinkError` when the server is at fault."""
        for job, reply in zip(batch, replies, strict=False):
            self._release(job)
            if job.outcome.done():
                continue
            if isinstance(reply, Refused):
                job.outcome.set_exception(_unavailable(f"the store refused: {reply.text}"))
            else:
                job.outcome.set_result(Answer(reply, confirmed))
        for reply in replies:
            if isinstance(reply, Refused) and reply.refusal is Refusal.UNUSABLE:
                raise LinkError(reply.text)

    def _fail(self, batch: Sequence[Job], why: str) -> None:
        for job in batch:
            self._release(job)
            if not job.outcome.done():
                what = "not stored for sure" if job.replicate else "not answered"
                job.outcome.set_exception(_unavailable(f"{what}: {why}"))

    def _release(self, job: Job) -> None:
        self._pending_bytes -= job.size_bytes


def _unavailable(why: str) -> StoreError:
    return StoreError(Reason.STORE_UNAVAILABLE, why)
