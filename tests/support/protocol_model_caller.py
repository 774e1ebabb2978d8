"""The caller of the model: applies events, remembers owners, and raises `Violation` for what it may never see."""

from bisect import insort
from typing import Final

from tests.support.protocol_model_record import Claim, Entry, Known, Start

# How many owners a caller remembers.
STARTS_KEPT: Final = 16


class Violation(Exception):  # noqa: N818 - it is what is looked for
    """A promise was broken."""


class Caller:
    """What the client knows, and what it was told is missing. `replicated`: what was durable is never lost."""

    def __init__(self, *, replicated: bool) -> None:
        self._replicated = replicated
        self.epoch = self.last_seq = self.issued = 0
        self.starts: list[Start] = []
        self.applied: dict[int, tuple[Entry, bool]] = {}
        self.events: set[int] = set()
        # Announced by an owner: events to come, each with the owner's number; and numbers that are lost.
        self.promised: dict[int, tuple[int, int]] = {}
        self.gaps: set[int] = set()
        self.unacked: list[int] = []
        self.acked: dict[int, int] = {}

    def known(self) -> Known:
        return Known(self.epoch, self.last_seq, tuple(self.starts[-STARTS_KEPT:]))

    def hear_resumed(self, claim: Claim) -> None:
        """Compare a new owner's beginning with what is known."""
        if claim.epoch <= self.epoch:
            raise Violation("the epoch fell")
        if claim.cseq > self.issued:
            raise Violation("a control was taken that nobody sent")
        there = {entry.seq for entry in claim.entries}
        for seq in range(1, claim.seq + 1):
            if seq in there:
                continue
            self.gaps.add(seq)
            self.promised.pop(seq, None)
            if self._replicated and seq in self.applied and self.applied[seq][1]:
                raise Violation("a durable event was lost")
        for entry in claim.entries:
            if entry.seq in self.applied and self.applied[entry.seq][0].event != entry.event:
                raise Violation("the log has another event than the caller")
            if entry.seq > self.last_seq:
                self.promised.setdefault(entry.seq, (entry.event, claim.epoch))
        self.epoch = claim.epoch
        insort(self.starts, Start(claim.seq + 1, claim.epoch))
        # Taken, though it was never said; if its entry is gone, then with a number that is announced as lost.
        places = {entry.cseq: entry.seq for entry in claim.entries}
        for cseq in [each for each in self.unacked if each <= claim.cseq]:
            self.unacked.remove(cseq)
            self.acked[cseq] = places.get(cseq) or max(self.gaps, default=0)

    def apply(self, entry: Entry, *, durable: bool) -> None:
        """Apply an event, once and in order."""
        while self.last_seq + 1 in self.gaps and self.last_seq + 1 < entry.seq:
            self.last_seq += 1
        if entry.seq <= self.last_seq:
            if entry.seq not in self.gaps and self.applied[entry.seq][0].event != entry.event:
                raise Violation("an event was dropped unseen")
            return
        if entry.seq != self.last_seq + 1:
            raise Violation("a hole that nobody announced")
        if entry.event in self.events:
            raise Violation("an event came twice")
        event, promised_by = self.promised.pop(entry.seq, (entry.event, 0))
        if event != entry.event and (self._replicated or entry.epoch > promised_by):
            raise Violation("another event came than was announced")
        if any(start.epoch > entry.epoch and start.first_seq <= entry.seq for start in self.starts):
            raise Violation("an event of a replaced owner came")
        self.last_seq = entry.seq
        self.events.add(entry.event)
        self.applied[entry.seq] = entry, durable
        if self.known().epoch_at(entry.seq) != entry.epoch:
            insort(self.starts, Start(entry.seq, entry.epoch))
        if durable and entry.cseq in self.unacked:
            self.unacked.remove(entry.cseq)
            self.acked[entry.cseq] = entry.seq
