"""One account's places as this gateway knows them: its own counts are the truth, Redis adds them up.

One loop talks to Redis, one call at a time, and each call says everything; so whatever was lost on
the way, or answered too late, is put right by the next one. Nothing here waits without a bound.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, NoReturn

import structlog

from gateway.core.errors import PoolNumbers, Reason, StoreError
from gateway.runtime.ports import SlotKind
from gateway.store.asks import RETRY_SOON_SECONDS, Ask, Wants, in_order, refusal
from gateway.store.dial_rate import LocalTurns, burst_seconds
from gateway.store.held import Held
from gateway.store.options import AccountSlots, SlotsOptions
from gateway.store.presence import Presence
from gateway.store.slots_call import Denied, Granted, Report, SlotsCall, SlotsView, Statement, Verdict, parse
from gateway.store.writer import GroupWriter

# A call may take `acquire_seconds`; what ends it so much later is our own standstill.
LATE_TIMES: Final = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Setting:
    """What all accounts of a gateway have in common."""

    options: SlotsOptions
    writer: GroupWriter
    presence: Presence
    rng: Random
    heartbeat_seconds: float
    on_recall: Callable[[str, int], None]


class AccountPlaces:
    """The counts, those who ask, and the loop that reports. Its owner runs `run`."""

    def __init__(self, name: str, account: AccountSlots, setting: Setting) -> None:
        """Hold nothing."""
        self._name = name
        self._account = account
        self._setting = setting
        self._options = setting.options
        self._call = SlotsCall(name, account, setting.options)
        self._turns = LocalTurns(account, setting.options)
        self._asks: list[Ask] = []
        self._wants = Wants(setting.options.want_seconds)
        self._turn = 0
        self._wake = asyncio.Event()
        self._called_at = self._due_at = 0.0
        # Since when nothing is known of the others, because this process stood still; None = something is.
        self._fenced_at: float | None = None
        # What was heard last, and last while everybody was known to be in it.
        self.view: SlotsView | None = None
        self._known: SlotsView | None = None
        self.held = Held()
        self.degraded = False
        self.reported = asyncio.Event()

    @property
    def live(self) -> int:
        """How many gateways share the account, as far as is known."""
        return self._known.live if self._known else self._options.gateways_assumed

    @property
    def allowed(self) -> int:
        """How many places this gateway may hold without asking."""
        cap = self._account.connections_max
        return self._known.allowed(cap) if self._known else max(1, cap // self._options.gateways_assumed)

    @property
    def _alone(self) -> bool:
        """Whether there is never another gateway: the store is embedded."""
        return self._options.gateways_assumed == 1

    # What the port asks for.

    async def acquire(self, kind: SlotKind) -> float:
        """Take a place and a turn, within `acquire_seconds`. Raises `CapacityError`."""
        ask = Ask(kind, self._wants.name_for(kind, self._setting.presence.gateway_id, _now()))
        self._asks.append(ask)
        self._wake.set()
        try:
            async with asyncio.timeout(self._options.acquire_seconds):
                await ask.verdict
        except TimeoutError:
            # The answer may have come in the very turn in which the time was up: look below.
            pass
        except asyncio.CancelledError:
            if ask.granted:
                self.release(kind)
            raise
        decided = None if ask.verdict.cancelled() else ask.verdict.result()
        match decided or self._decided_alone(kind):
            case Granted(delay_seconds):
                return delay_seconds
            case Denied() as denied:
                raise refusal(self._name, denied, self._numbers(), self._setting.rng)

    def change(self, before: SlotKind, after: SlotKind) -> None:
        """Record another use of a place. Raises `OverReleaseError`."""
        self.held.leave(before)
        self.held.add(after)
        self._hurry()

    def release(self, kind: SlotKind) -> None:
        """Give a place back. Raises `OverReleaseError`."""
        self.held.leave(kind)
        self._hurry()

    # Deciding without Redis.

    def _decided_alone(self, kind: SlotKind) -> Verdict:
        self._watch()
        if self._is_fenced:
            return Denied(Reason.POOL_EXHAUSTED, self._setting.rng.uniform(*RETRY_SOON_SECONDS))
        if self.held.total >= self.allowed:
            if kind is SlotKind.LEASED and self.held.by_kind[SlotKind.WARM]:
                asyncio.get_running_loop().call_soon(self._setting.on_recall, self._name, 1)
            return Denied(Reason.POOL_EXHAUSTED)
        has_turn, seconds = self._turns.book(kind, _now(), self.live)
        if not has_turn:
            return Denied(Reason.RATE_LIMITED, seconds)
        self.held.add(kind)
        self._hurry()
        return Granted(seconds)

    @property
    def _is_fenced(self) -> bool:
        """Whether the others may have all places: our view is from another life, and it is too soon to do without.

        A report that a standstill has overtaken says nothing of Redis.
        """
        fenced_at = self._fenced_at
        return fenced_at is not None and (not self.degraded or _now() < fenced_at + self._options.rejoin_seconds)

    def _numbers(self) -> PoolNumbers:
        view = None if self.degraded else self.view
        leased, warm = self.held.by_kind[SlotKind.LEASED], self.held.by_kind[SlotKind.WARM]
        return PoolNumbers(
            scope="account",
            pool=self._name,
            total=view.total if view else self.held.total,
            leased=view.leased if view else leased,
            warm=view.warm if view else warm,
            dialling=0,
            waiting=len(self._asks),
        )

    # The loop.

    async def run(self) -> NoReturn:
        """Report at every beat, and sooner when there is something to say; until cancelled."""
        try:
            while True:
                await self._until_due()
                await self._report()
        finally:
            self._undecided(self._asks)

    async def leave(self) -> None:
        """Tell the others that nothing is held any more, if so; whatever happens, within the time of a report."""
        if not self.held.total:
            try:
                async with asyncio.timeout(self._options.acquire_seconds):
                    await self._setting.writer.submit(self._call.job(self._statement([], leaves=True)))
            except (TimeoutError, StoreError):
                # Then the entry ends by its age.
                return

    async def _until_due(self) -> None:
        while not self._asks and _now() < self._due_at:
            self._wake.clear()
            try:
                async with asyncio.timeout_at(self._due_at):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _hurry(self) -> None:
        self._due_at = min(self._due_at, self._called_at + self._options.report_gap_seconds)
        self._wake.set()

    async def _report(self) -> None:
        """Say everything once, and tell those who ask what came of it."""
        self._watch()
        asks, self._asks = in_order(self._asks), []
        self._called_at = _now()
        self._due_at = self._called_at + self._setting.heartbeat_seconds
        gateway_id, own = self._setting.presence.gateway_id, self.held.total
        why: object = "overtaken"
        report, confirmed = None, False
        try:
            async with asyncio.timeout(self._options.acquire_seconds):
                answer = await self._setting.writer.submit(self._call.job(self._statement(asks)))
            report, confirmed = parse(answer.reply, own), answer.confirmed
        except TimeoutError:
            why = f"no answer within {self._options.acquire_seconds} s"
        except StoreError as error:
            why = error.message
        finally:
            # Also when cancelled: nobody is left waiting.
            self._watch()
            same = gateway_id == self._setting.presence.gateway_id
            # The time was up because we stood still: that says nothing of Redis.
            late = _now() - self._called_at > LATE_TIMES * self._options.acquire_seconds
            if report is None or not (same and confirmed):
                self._undecided(asks)
        if report is None and same and not late:
            self._lost(why)
        elif report is not None and same and confirmed:
            self._heard(report, asks)
        else:
            # Redis may count places that nobody was given, for another name or where a fail-over may forget them.
            self._hurry()
        self.reported.set()

    def _statement(self, asks: list[Ask], *, leaves: bool = False) -> Statement:
        self._turn += 1
        return Statement(
            gateway_id=self._setting.presence.gateway_id,
            turn=self._turn,
            held=dict(self.held.by_kind),
            allowed=self.allowed,
            debt_seconds=self._turns.debt_seconds(_now()),
            assumed_seconds=0.0 if self._alone else burst_seconds(self._account),
            asks=[(ask.kind, ask.want) for ask in asks],
            leaves=leaves,
        )

    # What came of it.

    def _heard(self, report: Report, asks: list[Ask]) -> None:
        self.view, self._fenced_at = report.view, None
        self._turns.learn(_now(), report.debt_seconds)
        if not report.rejoining:
            self._known = report.view
        if self.degraded:
            self.degraded = False
            log.info("slots_restored", account=self._name, count=report.view.live, total=report.view.total)
        for ask, verdict in zip(asks, report.verdicts, strict=False):
            self._settle(ask, verdict)
        if report.recalled:
            # On a turn of its own: whatever it does, the places go on being reported.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._setting.on_recall, self._name, report.recalled)

    def _settle(self, ask: Ask, verdict: Verdict) -> None:
        now = _now()
        if isinstance(verdict, Denied) and verdict.wanted:
            self._wants.keep(ask.want, now)
        if ask.verdict.done():
            # Whoever asked has gone. Redis counts a place for it until the next report.
            self._hurry()
            return
        if isinstance(verdict, Granted):
            self.held.add(ask.kind)
        ask.verdict.set_result(verdict)

    def _undecided(self, asks: list[Ask]) -> None:
        for ask in asks:
            if not ask.verdict.done():
                ask.verdict.set_result(None)

    def _lost(self, why: object) -> None:
        if not self.degraded:
            self.degraded = True
            if not self._alone:
                self._turns.part_from(_now())
            log.warning("slots_degraded", account=self._name, cause=why, total=self.held.total, ceiling=self.allowed)

    def _watch(self) -> None:
        """Look whether the process stood still; then what was known of the others is worth nothing."""
        self._setting.presence.look(_now())

    def forget(self) -> None:
        """Know nothing of the others any more."""
        self.view = self._known = None
        self._fenced_at = _now()
        self._wants.clear()
        self._hurry()


def _now() -> float:
    return asyncio.get_running_loop().time()
