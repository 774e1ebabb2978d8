"""The session store on Redis or Valkey: seals, calls the scripts, says what answers mean."""

import asyncio
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final, Self

from gateway.core.errors import LogGapError, Reason, StoreError
from gateway.core.events import Durability, EpochStart
from gateway.runtime.ports import Claimed, LogEntry, SessionKey
from gateway.store import checks
from gateway.store.cluster import Everywhere
from gateway.store.keys import entry_id, parse_entry_id, session_keys
from gateway.store.link import Command, Reply
from gateway.store.options import RedisOptions
from gateway.store.record import RecordSealer
from gateway.store.scripts import APPEND, CLAIM, FINISH, Script
from gateway.store.sealing_keys import SealingKeys
from gateway.store.writer import Answer, GroupWriter, Job, StoreObserver

# One answer of a read: small enough not to hold up appends behind it.
READ_PAGE_ENTRIES: Final = 64
# What a command costs beside its entries, for the bound on what is pending.
COMMAND_BYTES: Final = 512
# For a claim until the replicas have it, and for reading what it is a claim to.
CLAIM_SECONDS: Final = 0.5
CLAIM_READ_SECONDS: Final = 2.0


class DuplicateControlError(StoreError):
    """A control of the batch has its entry in the log already: nothing was written."""

    def __init__(self, seq: int) -> None:
        """Say where its entry is; 0 = it was trimmed."""
        super().__init__(Reason.INTERNAL, f"a control of this append is logged already, at {seq}")
        self.seq = seq


class RedisStore:
    """`SessionStore`. Between `start` and `stop`, or inside `async with`, it serves."""

    def __init__(
        self,
        options: RedisOptions,
        keys: SealingKeys,
        observer: StoreObserver | None = None,
        rng: Random | None = None,
    ) -> None:
        """Prepare; nothing is connected before `start`."""
        self._options = options
        self._sealer = RecordSealer(keys)
        self._writer = GroupWriter(options, observer, rng or Random())  # noqa: S311 - jitter
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to serve; returns after the first probe, degraded when that failed."""
        self._task = asyncio.create_task(self._writer.run(), name="store writer")
        probed = asyncio.ensure_future(self._writer.first_probe_done.wait())
        # A probe has its own deadlines; a writer that crashed instead must not be waited for.
        try:
            await asyncio.wait({probed, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self.stop()
            raise
        finally:
            probed.cancel()

    async def stop(self) -> None:
        """Close the connection. What was not answered fails with STORE_UNAVAILABLE."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.result()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    @property
    def writer(self) -> GroupWriter:
        """The one connection, for the other adapters of this room; it serves while the store does."""
        return self._writer

    @property
    def degraded(self) -> bool:
        """Whether the store does less now than `durability` normally promises."""
        return self._writer.degraded

    @property
    def durability(self) -> Durability:
        """What a stored event outlives now; NONE while degraded."""
        return Durability.NONE if self.degraded else self._options.durability

    async def append(
        self, key: SessionKey, epoch: int, entries: Sequence[LogEntry], *, anew: bool = False, own_from: int = 1
    ) -> int:
        """Add entries with consecutive numbers; with none of them, only keep the record alive.

        Return with which number the log ended before.

        With `anew` there may be a gap before them. `own_from` is the first number that this owner has written; what
        an older one wrote from there on, at a server that forgot this one, goes: then the entries may no longer fit,
        and are to be stored anew. Such an owner never stores a control up to the `cseq` of its claim.

        Raises `StoreError`: STORE_UNAVAILABLE (the same entries, with later ones behind them, may be tried again:
        what is there is not stored twice), `LogGapError` where they do not fit, SUPERSEDED, or
        `DuplicateControlError`.
        An append whose caller is cancelled is carried out all the same. A `cseq` belongs on the
        entries of the first append that its control caused, and on no later one.
        """
        _check_numbers(epoch, entries)
        # Sealing costs, so what would be refused is refused before.
        self._writer.check(sum(len(entry.payload) for entry in entries))
        blobs = [self._sealer.seal(key, epoch, entry) for entry in entries]
        size_bytes = sum(map(len, blobs))
        if size_bytes > self._options.session_max_bytes:
            message = f"{size_bytes} bytes are more than a session's log may hold"
            raise StoreError(Reason.STORE_UNAVAILABLE, message)
        first = entries[0].seq if entries else 0
        pairs = zip(entries, blobs, strict=True)
        written = [part for entry, blob in pairs for part in (entry.cseq, blob)]
        arguments = (epoch, first, *self._bounds(), int(anew), own_from, *written)
        return _judge(await self._run(APPEND, key, arguments, size_bytes=size_bytes))

    async def claim(
        self, key: SessionKey, token_epoch: int, last_seq: int, epochs: Sequence[EpochStart]
    ) -> Claimed | None:
        """Become the owner; return the new owner's number and what is stored. None = nothing, or it has ended.

        `epochs` says who wrote what the caller has applied, an owner that only announced itself included. Raises
        `StoreError`: STORE_UNAVAILABLE (to claim again is safe: it only fences the same owners once more), or
        INTERNAL when an entry does not open.
        """
        connects = self._writer.connects
        try:
            async with asyncio.timeout(CLAIM_SECONDS):
                numbers = await self._claim(key, token_epoch, last_seq, epochs)
            if numbers is None:
                return None
            async with asyncio.timeout(CLAIM_READ_SECONDS):
                entries = await self.read(key)
        except TimeoutError:
            raise StoreError(Reason.STORE_UNAVAILABLE, "the claim was not confirmed and read in time") from None
        if self._writer.connects != connects:  # perhaps to a server that never heard of the claim
            raise StoreError(Reason.STORE_UNAVAILABLE, "the connection was lost behind the claim")
        epoch, seq, cseq = numbers
        return Claimed(epoch, seq, cseq, tuple(entry for entry in entries if entry.seq <= seq))

    async def finish(self, key: SessionKey, epoch: int) -> None:
        """Delete the session's state, or mark it finished and let it expire after the retention.

        Raises `StoreError` as `append` does; to finish twice is no error.
        """
        retention_ms = self._options.retention_seconds * 1000
        _judge(await self._run(FINISH, key, (epoch, retention_ms)))

    async def read(self, key: SessionKey, from_seq: int = 1) -> list[LogEntry]:
        """Return what the log holds from number `from_seq` on; oldest entries may be trimmed away.

        Raises `StoreError`: STORE_UNAVAILABLE, or INTERNAL when an entry does not open.
        """
        log, start, entries = session_keys(key).log, entry_id(from_seq, 0), list[LogEntry]()
        while True:
            command: Command = ("XRANGE", log, start, "+", "COUNT", READ_PAGE_ENTRIES)
            page = await self._ask("read", command)
            entries += self._opened(key, page)
            if len(page) < READ_PAGE_ENTRIES:
                return entries
            # The open bound: everything behind the last entry of this page.
            start = f"({page[-1][0].decode()}"

    async def check(self) -> list[str]:
        """Return one sentence for each setting of the server that endangers what is promised."""
        answers: dict[Command, list[Reply]] = {}
        for question in checks.QUESTIONS:
            try:
                answer = await self._ask("check", question)
            except StoreError:
                answer = None
            # One for each server that takes writes.
            answers[question] = list(answer) if isinstance(answer, Everywhere) else [answer]
        servers = max(map(len, answers.values()))
        each = [{q: a[min(at, len(a) - 1)] for q, a in answers.items()} for at in range(servers)]
        return list(dict.fromkeys(sentence for one in each for sentence in checks.warnings(one, self._options)))

    # Commands.

    async def _claim(
        self, key: SessionKey, token_epoch: int, last_seq: int, epochs: Sequence[EpochStart]
    ) -> tuple[int, int, int] | None:
        """Claim until the replicas have it, which is why it may run again; the caller has the deadline."""
        starts = sorted((each.first_seq, each.epoch) for each in epochs)
        table = [number for first_seq, epoch in starts for number in (epoch, first_seq)]
        life_ms, *_ = self._bounds()
        while True:
            answer = await self._run(CLAIM, key, (token_epoch, last_seq, life_ms, *table))
            verdict, *numbers = answer.reply
            if verdict == b"NOTHING":
                return None
            if answer.confirmed:
                epoch, seq, cseq = map(int, numbers)
                return epoch, seq, cseq

    async def _run(
        self, script: Script, key: SessionKey, arguments: Sequence[int | bytes], *, size_bytes: int = 0
    ) -> Answer:
        keys = session_keys(key)
        rest = (2, keys.meta, keys.log, *arguments)
        job = Job(
            name=script.name,
            command=("EVALSHA", script.sha, *rest),
            in_full=("EVAL", script.text, *rest),
            size_bytes=COMMAND_BYTES + size_bytes,
            replicate=True,
        )
        return await self._writer.submit(job)

    async def _ask(self, name: str, command: Command) -> Reply:
        job = Job(name=name, command=command, in_full=command, size_bytes=COMMAND_BYTES)
        return (await self._writer.submit(job)).reply

    def _bounds(self) -> tuple[int, int, int]:
        options = self._options
        return (
            options.record_life_seconds * 1000,
            options.session_max_entries,
            options.session_max_bytes,
        )

    def _opened(self, key: SessionKey, page: Reply) -> Iterator[LogEntry]:
        for raw_id, fields in page:
            seq, epoch = parse_entry_id(raw_id)
            blob = dict(zip(fields[::2], fields[1::2], strict=True))[b"b"]
            yield self._sealer.open(key, epoch, seq, blob)


def _check_numbers(epoch: int, entries: Sequence[LogEntry]) -> None:
    first = entries[0].seq if entries else 1
    consecutive = all(entry.seq == first + at for at, entry in enumerate(entries))
    if epoch < 1 or first < 1 or not consecutive:
        raise ValueError("epochs and numbers begin at 1, and numbers are consecutive")


def _judge(answer: Answer) -> int:
    """Translate a script's verdict, and return its last number; append.lua and finish.lua say what each one means."""
    verdict, number, *more = (bytes(part).decode() for part in answer.reply)
    match verdict:
        case "OK" if answer.confirmed:
            return int(more[0] if more else number)
        case "OK":
            raise StoreError(Reason.STORE_UNAVAILABLE, "stored, but too few replicas confirm it")
        case "FENCED":
            message = f"an owner with epoch {number} wrote to this session"
            raise StoreError(Reason.SUPERSEDED, message)
        case "DUP":
            raise DuplicateControlError(int(number))
        case _:
            raise LogGapError(int(number))
