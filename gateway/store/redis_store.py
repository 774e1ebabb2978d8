"""The session store on Redis or Valkey: seals, calls the scripts, says what answers mean."""

import asyncio
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final, Self

from gateway.core.errors import LogGapError, Reason, StoreError
from gateway.core.events import Durability
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store import checks
from gateway.store.cluster import Everywhere
from gateway.store.keys import entry_id, parse_entry_id, session_keys
from gateway.store.link import Command, Reply
from gateway.store.options import RedisOptions
from gateway.store.record import RecordSealer
from gateway.store.scripts import APPEND, FINISH, Script
from gateway.store.sealing_keys import SealingKeys
from gateway.store.writer import GroupWriter, Job, StoreObserver

# One answer of a read: small enough not to hold up appends behind it.
READ_PAGE_ENTRIES: Final = 64
# What a command costs beside its entries, for the bound on what is pending.
COMMAND_BYTES: Final = 512


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

    async def append(self, key: SessionKey, epoch: int, entries: Sequence[LogEntry], *, anew: bool = False) -> int:
        """Add entries with consecutive numbers; with none of them, only keep the record alive.

        Return with which number the log ended before.

        With `anew` there may be a gap before them. Raises `StoreError`: STORE_UNAVAILABLE (the same entries, with
        later ones behind them, may be tried again: what is there is not stored twice), `LogGapError` where they do
        not fit, SUPERSEDED, or `DuplicateControlError`.
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
        return await self._run(APPEND, key, (epoch, first, *self._bounds(), int(anew), *written), size_bytes=size_bytes)

    async def finish(self, key: SessionKey, epoch: int) -> None:
        """Delete the session's state, or mark it finished and let it expire after the retention.

        Raises `StoreError` as `append` does; to finish twice is no error.
        """
        retention_ms = self._options.retention_seconds * 1000
        await self._run(FINISH, key, (epoch, retention_ms), size_bytes=0)

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

    async def _run(self, script: Script, key: SessionKey, arguments: Sequence[int | bytes], *, size_bytes: int) -> int:
        keys = session_keys(key)
        rest = (2, keys.meta, keys.log, *arguments)
        job = Job(
            name=script.name,
            command=("EVALSHA", script.sha, *rest),
            in_full=("EVAL", script.text, *rest),
            size_bytes=COMMAND_BYTES + size_bytes,
            replicate=True,
        )
        answer = await self._writer.submit(job)
        ended_at = _judge(answer.reply)
        if not answer.confirmed:
            raise StoreError(Reason.STORE_UNAVAILABLE, "stored, but too few replicas confirm it")
        return ended_at

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


def _judge(reply: Reply) -> int:
    """Translate a script's verdict, and return its last number; append.lua and finish.lua say what each one means."""
    verdict, number, *more = (bytes(part).decode() for part in reply)
    match verdict:
        case "OK":
            return int(more[0] if more else number)
        case "FENCED":
            message = f"an owner with epoch {number} wrote to this session"
            raise StoreError(Reason.SUPERSEDED, message)
        case "DUP":
            raise DuplicateControlError(int(number))
        case _:
            raise LogGapError(int(number))
