"""One session, its owners and its caller on a Redis that forgets: random schedules, checked at every step. No I/O.

The same seed gives the same schedule. What a caller or an owner may never see raises `Violation`.
"""

from collections.abc import Iterable
from hashlib import sha256
from random import Random
from typing import Final

from tests.support.protocol_model_caller import Caller, Violation
from tests.support.protocol_model_record import Claim, Entry, Record, Rule, Start, Verdict

STEPS: Final = 40
SETTLING_STEPS: Final = 200
# What an owner keeps to store again.
KEPT_ENTRIES: Final = 6
STEP_MICROSECONDS: Final = 200_000
SKEW_MICROSECONDS: Final = 2_000_000
# How often a stream ends in the replay, an answer is lost, replicas do not confirm, an owner dies before it tells.
REPLAY_CUT, ANSWER_LOST, UNCONFIRMED, DIES_UNTOLD = 0.2, 0.15, 0.1, 0.1


class Owner:
    """A gateway that has the session, or believes so."""

    __slots__ = ("backlog", "cseq", "ended", "epoch", "frozen", "inbox", "kept", "own_from", "seq", "stored_to", "told")

    def __init__(self, claim: Claim) -> None:
        self.epoch, self.seq, self.cseq = claim.epoch, claim.seq, claim.cseq
        self.own_from, self.stored_to = claim.seq + 1, claim.seq
        self.told = list(claim.entries)
        self.kept: list[Entry] = []
        self.backlog: list[Entry] = []
        self.inbox: list[int] = []
        self.frozen = self.ended = False


class Schedule:
    """Everybody together, on a record of the model's or on a real one.

    `waits`: an append or a claim counts when the replica has it.
    """

    def __init__(self, seed: int, rules: frozenset[Rule], *, waits: bool, record: Record | None = None) -> None:
        self._random = Random(seed)
        self._rules, self._waits = rules, waits
        self.record = record or Record()
        # The newest epoch that this server has accepted.
        self._newest = 0
        self._replica = self.record.snapshot(), 0
        self._clock, self._skew = 10 * SKEW_MICROSECONDS, 0
        self.caller = Caller(replicated=waits)
        self._owners: list[Owner] = []
        # Who the caller is with, and whom it was with last.
        self._attached: Owner | None = None
        self._last: Owner | None = None
        self._events = 0
        self._trace: list[tuple[object, ...]] = []
        self._steps = (
            [self._emit] * 40 + [self._control] * 12 + [self._sync] * 7 + [self._fail_over] * 5 + [self._freeze] * 6
            + [self._thaw] * 6 + [self._crash] * 4 + [self._hang_up] * 3 + [self._come_back] * 5 + [self._claim] * 12
        )  # fmt: skip

    def run(self) -> int:
        """Return how many numbers were announced as lost. Raises `Violation`."""
        self._open()
        for _ in range(STEPS):
            self._clock += self._random.randrange(1, STEP_MICROSECONDS)
            step = self._random.choice(self._steps)
            step()
            self._trace.append((step.__name__, self.record.epoch, self.record.seq, self.caller.last_seq))
        self._settle()
        return len(self.caller.gaps)

    def digest(self) -> str:
        """Return what tells this schedule from any other."""
        return sha256(repr((self._trace, self.record.log)).encode()).hexdigest()

    # The gateways.

    def _open(self) -> None:
        first = Owner(Claim(1, 0, 0, ()))
        self._owners.append(first)
        self.caller.epoch = 1
        self.caller.starts.append(Start(1, 1))
        self._attached = self._last = first
        self._tell(first, 0, loses=False)
        self._sync()

    def _emit(self) -> None:
        awake = [owner for owner in self._owners if not owner.frozen]
        if awake:
            owner = self._random.choice(awake)
            cseq = owner.inbox.pop(0) if owner.inbox else 0
            if not cseq or cseq > owner.cseq:
                self._tell(owner, cseq, loses=True)

    def _tell(self, owner: Owner, cseq: int, *, loses: bool) -> None:
        """Give the next event its number, store it, tell the caller."""
        self._events += 1
        owner.seq, owner.cseq = owner.seq + 1, max(owner.cseq, cseq)
        entry = Entry(owner.seq, owner.epoch, self._events, cseq)
        owner.backlog.append(entry)
        owner.told.append(entry)
        self._store(owner, loses=loses)
        if owner.ended:
            return
        if loses and self._random.random() < DIES_UNTOLD:
            self._end(owner)
        elif self._attached is owner:
            self.caller.apply(entry, durable=owner.stored_to >= entry.seq)

    def _store(self, owner: Owner, *, loses: bool) -> None:
        verdict, number = self.record.append(owner.backlog, self._rules, own_from=owner.own_from)
        if verdict is Verdict.MISMATCH:
            owner.backlog[:0] = [entry for entry in owner.kept if entry.seq > number]
            owner.kept = [entry for entry in owner.kept if entry.seq <= number]
            verdict, number = self.record.append(owner.backlog, self._rules, anew=True, own_from=owner.own_from)
        if loses and self._random.random() < (UNCONFIRMED if self._waits else ANSWER_LOST):
            # Stored or not: its owner does not know, and tries again with the next one.
            self._newest = max(self._newest, owner.epoch if verdict is Verdict.OK else 0)
        elif verdict is Verdict.FENCED:
            self._end(owner)
        elif verdict is Verdict.OK:
            self._stored(owner)
        else:
            raise Violation("an owner can store no more")

    def _stored(self, owner: Owner) -> None:
        if owner.epoch < self._newest:
            raise Violation("a zombie wrote behind a newer owner")
        self._newest = owner.epoch
        if any(entry not in self.record.log for entry in owner.backlog):
            raise Violation("what was stored is not there")
        owner.stored_to = owner.seq
        owner.kept = [*owner.kept, *owner.backlog][-KEPT_ENTRIES:]
        owner.backlog = []
        if self._waits:
            self._sync()

    def _end(self, owner: Owner) -> None:
        owner.ended = True
        self._owners.remove(owner)
        if self._attached is owner:
            self._attached = None

    def _freeze(self) -> None:
        if self._owners:
            self._random.choice(self._owners).frozen = True

    def _thaw(self) -> None:
        for owner in self._owners:
            owner.frozen = False

    def _crash(self) -> None:
        if self._owners:
            self._end(self._random.choice(self._owners))

    # Redis.

    def _sync(self) -> None:
        self._replica = self.record.snapshot(), self._newest

    def _fail_over(self) -> None:
        replica, self._newest = self._replica
        self.record.restore(replica)
        self._skew = self._random.randrange(-SKEW_MICROSECONDS, SKEW_MICROSECONDS)

    # The caller.

    def _control(self) -> None:
        caller = self.caller
        caller.issued += 1
        caller.unacked.append(caller.issued)
        if self._attached is not None:
            self._attached.inbox.append(caller.issued)

    def _hang_up(self) -> None:
        self._attached = None

    def _come_back(self) -> None:
        """To the owner that it was with, which may not know yet that it is none any more."""
        owner = self._last
        if self._attached is None and owner is not None and not (owner.ended or owner.frozen):
            self._attached = owner
            self._carry_on(owner)

    def _carry_on(self, owner: Owner) -> None:
        owner.inbox += self.caller.unacked
        for entry in owner.told:
            if entry.seq > self.caller.last_seq:
                if self._random.random() < REPLAY_CUT:
                    self._attached = None
                    return
                self.caller.apply(entry, durable=owner.stored_to >= entry.seq)

    def _claim(self) -> None:
        self._attached = None
        claim = self.record.claim(self.caller.known(), self._rules, self._clock + self._skew)
        assert claim is not None, "what it was opened with has been replicated"
        self._newest = max(self._newest, claim.epoch)
        if self._waits:
            if self._random.random() < UNCONFIRMED:
                return
            self._sync()
        owner = Owner(claim)
        self._owners.append(owner)
        if self._random.random() < ANSWER_LOST:
            return
        self.caller.hear_resumed(claim)
        self._attached = self._last = owner
        self._carry_on(owner)

    # The end.

    def _settle(self) -> None:
        """Come back until it lasts, have every control taken, and compare what is left."""
        for _ in range(SETTLING_STEPS):
            if self._attached is None:
                self._claim()
            elif self._attached.inbox:
                owner = self._attached
                if (cseq := owner.inbox.pop(0)) > owner.cseq:
                    self._tell(owner, cseq, loses=False)
            elif self.caller.unacked or self._attached.backlog:
                self._claim()
            else:
                break
        else:
            raise Violation("it never settles")
        self._claim()
        while self._attached is None:
            self._claim()
        self._compare()

    def _compare(self) -> None:
        caller, log = self.caller, self.record.log
        there = {entry.seq for entry in log}
        if any(seq not in there and seq not in caller.gaps for seq in range(1, caller.last_seq + 1)):
            raise Violation("an event is gone that nobody announced")
        if any(entry.seq > caller.last_seq for entry in log):
            raise Violation("an event is stored and was never told")
        taken = [entry.cseq for entry in log if entry.cseq]
        if taken != sorted(set(taken)):
            raise Violation("a control was taken twice")
        lost = set(range(1, caller.issued + 1)) - set(taken)
        if any(caller.acked.get(cseq) not in caller.gaps for cseq in lost):
            raise Violation("a control was taken and is nowhere")


def first_noticed(rules: frozenset[Rule], seeds: Iterable[int], *, waits: bool) -> tuple[int, str] | None:
    """Return the first seed under which a promise is broken, and which; None = under none."""
    for seed in seeds:
        try:
            Schedule(seed, rules, waits=waits).run()
        except Violation as violation:
            return seed, str(violation)
    return None
