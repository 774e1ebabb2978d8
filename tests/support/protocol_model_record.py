"""What Redis holds of one session and what it does with it, without a server: append.lua and claim.lua in Python.

Each rule can be left out, to see that it is missed. `test_protocol_model_lua.py` holds the scripts against this.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from typing import Any, Final, NamedTuple


class Rule(Enum):
    """What keeps a session whole when a fail-over forgets."""

    # A new owner's number is above the one that the caller knows.
    TOKEN_EPOCH = auto()
    # And a moment, so that no two claims have the same.
    LATER_EPOCH = auto()
    # What an older owner wrote behind a newer one's beginning goes.
    DROP_STALE_TAIL = auto()
    # What the caller has had from somebody else goes.
    EPOCH_TABLE = auto()
    # A number that the caller knows is not used again.
    SEQ_FLOOR = auto()
    # An owner that was forgotten is the owner again.
    REINSTALL = auto()
    # What was written under its numbers meanwhile goes.
    CAS = auto()


ALL_RULES: Final = frozenset(Rule)


class Verdict(Enum):
    """How an append ended."""

    OK = auto()
    FENCED = auto()
    MISMATCH = auto()
    DUP = auto()


class Entry(NamedTuple):
    """One event in the log: its number, who wrote it, which event it is, the control that caused it (0 = none)."""

    seq: int
    epoch: int
    event: int
    cseq: int = 0


class Start(NamedTuple):
    """With which number an owner began. In this order a table is searched."""

    first_seq: int
    epoch: int


class Claim(NamedTuple):
    """What a new owner is told."""

    epoch: int
    seq: int
    cseq: int
    entries: tuple[Entry, ...]


class Known(NamedTuple):
    """What a caller shows of itself."""

    token_epoch: int
    last_seq: int
    starts: Sequence[Start]

    def epoch_at(self, seq: int) -> int | None:
        """Return which epoch it has, or expects, at a number; None = older than its table."""
        for start in reversed(self.starts):
            if start.first_seq <= seq:
                return start.epoch
        return None

    def epoch_behind(self, seq: int) -> int | None:
        """Return which epoch begins behind a number."""
        for start in self.starts:
            if start.first_seq > seq:
                return start.epoch
        return None


class Record:
    """Meta and log of one session. A log is never changed in place: a copy is cheap."""

    def __init__(self) -> None:
        self.epoch = 0
        self.since = 1
        self.seq = 0
        self.cseq = 0
        self.log: tuple[Entry, ...] = ()

    def snapshot(self) -> Any:
        """Return what a replica has of it."""
        return self.epoch, self.since, self.seq, self.cseq, self.log

    def restore(self, snapshot: Any) -> None:
        """Go on with what a replica had."""
        self.epoch, self.since, self.seq, self.cseq, self.log = snapshot

    def append(
        self, batch: Sequence[Entry], rules: frozenset[Rule], *, anew: bool = False, own_from: int = 1
    ) -> tuple[Verdict, int]:
        """Add a batch of one owner's entries, as append.lua does."""
        epoch, first = batch[0].epoch, batch[0].seq
        if self.epoch > epoch:
            return Verdict.FENCED, self.epoch
        installs = self.epoch < epoch and (Rule.REINSTALL in rules or not self.epoch)
        if Rule.CAS in rules and own_from > 1 and (installs or anew):
            given = next((entry.cseq for entry in batch if entry.cseq), 0)
            self._sift(_is_ours(epoch, own_from, given))
            self.seq = self.log[-1].seq if self.log else 0
        if installs:
            self.epoch, self.since = epoch, self.seq + 1
        if anew and self.seq < first - 1:
            self.seq, self.since = first - 1, first
        reached = self.seq - first + 1
        if reached < 0 or (reached > 0 and first < self.since):
            return Verdict.MISMATCH, self.seq
        new = batch[reached:]
        for entry in new:
            if 0 < entry.cseq <= self.cseq:
                return Verdict.DUP, next((each.seq for each in self.log if each.cseq == entry.cseq), 0)
        self._add(new)
        return Verdict.OK, self.seq

    def claim(self, known: Known, rules: frozenset[Rule], moment: int) -> Claim | None:
        """Make somebody else the owner, as claim.lua does."""
        if not self.epoch:
            return None
        floor = max(known.last_seq, known.starts[-1].first_seq - 1 if known.starts else 0)
        highest = max(self.epoch, max((entry.epoch for entry in self.log), default=0))
        self._sift(_counting(known, rules, self.epoch))
        if Rule.SEQ_FLOOR in rules:
            self.seq = max(self.seq, floor)
        if Rule.TOKEN_EPOCH in rules:
            highest = max(highest, known.token_epoch)
        self.epoch = highest + 1
        if Rule.LATER_EPOCH in rules:
            self.epoch = moment if moment >= self.epoch else self.epoch + moment % 1_000_000
        self.since = self.seq + 1
        return Claim(self.epoch, self.seq, self.cseq, self.log)

    def _sift(self, counts: Callable[[Entry], bool]) -> None:
        kept = tuple(filter(counts, self.log))
        dropped = [entry.cseq for entry in self.log if entry.cseq and entry not in kept]
        if len(kept) < len(self.log):
            self.log = kept
            self.seq = kept[-1].seq if kept else 0
        if dropped:
            self.cseq = max((entry.cseq for entry in kept), default=0) or min(dropped) - 1

    def _add(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.log += (entry,)
            self.seq, self.cseq = entry.seq, max(self.cseq, entry.cseq)


def _is_ours(epoch: int, own_from: int, given_from: int) -> Callable[[Entry], bool]:
    """Return what finds the first entry that an older owner wrote after a claim, and all of older ones behind it."""
    is_foreign = False

    def counts(entry: Entry) -> bool:
        nonlocal is_foreign
        taken = 0 < given_from <= entry.cseq
        is_foreign = entry.epoch < epoch and (is_foreign or entry.seq >= own_from or taken)
        return not is_foreign

    return counts


def _counting(known: Known, rules: frozenset[Rule], stored_epoch: int) -> Callable[[Entry], bool]:
    def is_stale(entry: Entry) -> bool:
        if stored_epoch < known.token_epoch:
            return entry.epoch < known.token_epoch
        seen = known.epoch_at(entry.seq)
        return seen is not None and not seen <= entry.epoch <= (known.epoch_behind(entry.seq) or entry.epoch)

    def counts(entry: Entry) -> bool:
        if entry.seq > known.last_seq:
            return Rule.DROP_STALE_TAIL not in rules or not is_stale(entry)
        return Rule.EPOCH_TABLE not in rules or known.epoch_at(entry.seq) in (None, entry.epoch)

    return counts
