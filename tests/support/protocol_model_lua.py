"""A record of the model's with the scripts' own beside it, on a real server: whatever is done is done to both."""

from collections.abc import Sequence
from typing import Any, Final

import redis

from gateway.runtime.ports import SessionKey
from gateway.store.keys import entry_id, parse_entry_id, session_keys
from gateway.store.scripts import APPEND, CLAIM
from tests.support.protocol_model_record import Claim, Entry, Known, Record, Rule, Verdict

_KEYS: Final = session_keys(SessionKey("acme", "s1"))
META: Final = _KEYS.meta
LOG: Final = _KEYS.log
KEYS: Final = [META, LOG]
LIFE_MS: Final = 60_000
ENTRIES_MAX: Final = 1000
BYTES_MAX: Final = 100_000


class Difference(Exception):  # noqa: N818 - it is what is looked for
    """A script did something else than the model."""


class BothRecords(Record):
    """`append` and `claim` may be other scripts than the product's, to see that a difference is noticed."""

    def __init__(self, server: "redis.Redis", append: str = APPEND.text, claim: str = CLAIM.text) -> None:
        """Begin with nothing."""
        super().__init__()
        self._server = server
        self._append, self._claim = (server.register_script(text) for text in (append, claim))
        server.delete(*KEYS)

    def append(
        self, batch: Sequence[Entry], rules: frozenset[Rule], *, anew: bool = False, own_from: int = 1
    ) -> tuple[Verdict, int]:
        """Do it twice."""
        told = super().append(batch, rules, anew=anew, own_from=own_from)
        written = [part for entry in batch for part in (entry.cseq, _blob(entry))]
        bounds = (LIFE_MS, ENTRIES_MAX, BYTES_MAX)
        arguments = (batch[0].epoch, batch[0].seq, *bounds, int(anew), own_from, *written)
        self._same(told, self._told(self._append(KEYS, arguments)))
        return told

    def claim(self, known: Known, rules: frozenset[Rule], moment: int) -> Claim | None:
        """Do it twice; the moment is the server's."""
        table = [number for start in known.starts for number in (start.epoch, start.first_seq)]
        arguments = (known.token_epoch, known.last_seq, LIFE_MS, *table)
        verdict, *numbers = self._claim(KEYS, arguments)
        told = super().claim(known, rules, int(numbers[0]))
        if told is None:
            self._same((b"NOTHING", [b"0"]), (verdict, numbers))
        else:
            self._same((b"OK", [told.epoch, told.seq, told.cseq]), (verdict, [int(each) for each in numbers]))
        return told

    def snapshot(self) -> Any:
        """Take it of both."""
        return super().snapshot(), [self._server.dump(key) for key in KEYS]

    def restore(self, snapshot: Any) -> None:
        """Bring it back to both."""
        modelled, dumps = snapshot
        super().restore(modelled)
        self._server.delete(*KEYS)
        for key, dump in zip(KEYS, dumps, strict=True):
            if dump is not None:
                self._server.restore(key, 0, dump)

    def _told(self, reply: Any) -> tuple[Verdict, int]:
        return Verdict[reply[0].decode()], int(reply[1])

    def _same(self, modelled: object, real: object) -> None:
        """Compare what was answered, and then what lies there."""
        if modelled != real:
            raise Difference(f"the model answers {modelled}, the script {real}")
        names = ("epoch", "since", "seq", "cseq", "bytes")
        with self._server.pipeline(transaction=False) as pipeline:
            pipeline.hmget(META, *names)
            pipeline.xrange(LOG)
            meta, found = pipeline.execute()
        log = tuple(
            Entry(*parse_entry_id(entry), int(fields[b"b"].split()[0]), int(fields.get(b"c", 0)))
            for entry, fields in found
        )
        size_bytes = sum(len(_blob(entry)) for entry in self.log)
        wanted = [self.epoch, self.since, self.seq, self.cseq, size_bytes]
        if log != self.log or [int(each or 0) for each in meta] != wanted:
            raise Difference(f"the model has {wanted} {self.log}, the server {meta} {log}")


def _blob(entry: Entry) -> bytes:
    # Of different sizes, so that a wrong sum shows.
    return f"{entry.event} {entry_id(entry.seq, entry.epoch)}".encode()
