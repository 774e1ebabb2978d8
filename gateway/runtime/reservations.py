"""Reservations: a token for a unit of a pool, honoured once, at whichever gateway it is shown.

The unit lives in the pool of the gateway that made it. A book that all gateways share says which
reservations live; without it a token is honoured all the same, so that a phone that rings is answered.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from gateway.core.errors import CallerError, Reason, StoreError
from gateway.core.ids import LeaseId
from gateway.core.principal import Principal
from gateway.core.reservation import TTL_MAX_SECONDS, ReservationEvent
from gateway.runtime.lease import Wish
from gateway.runtime.pool import WarmPool
from gateway.runtime.ports import ReservationBook, TokenSealer

PURPOSE: Final = "reservation"
# How often a gateway looks which of its reservations were used at another one.
LOOK_SECONDS: Final = 1.0
_log = structlog.get_logger(__name__)


class _Token(msgspec.Struct, frozen=True, array_like=True):
    """What a token says, sealed."""

    lease_id: str
    tenant: str
    pool: str
    gateway: str
    ttl_seconds: float


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a caller gets."""

    token: str
    lease_id: LeaseId
    at_once: bool
    waited_seconds: float


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a shown token stands for; `lease_id` is known here only, `foreign` = made at another gateway.

    `home` has the unit; it may be a pool that takes nobody new any more.
    """

    pool: str
    lease_id: LeaseId | None
    foreign: bool
    home: WarmPool | None = None


class Reservations:
    """The reservations of one gateway. `run` must be running for those used elsewhere to end here."""

    def __init__(self, book: ReservationBook, sealer: TokenSealer, gateway: str) -> None:
        """Begin empty. `gateway` is this process, different at each start."""
        self._book = book
        self._sealer = sealer
        self._gateway = gateway
        # Raises `CapacityError` where a tenant may have no further unit of an account.
        self.check_tenant: Callable[[str, str], None] = lambda _account, _tenant: None
        # Where each living reservation of ours has its unit.
        self._mine: dict[LeaseId, WarmPool] = {}
        # Those that could not be entered in the book: they live here only.
        self._unshared: set[LeaseId] = set()
        # Those that a book which was away may have lost.
        self._doubtful: set[LeaseId] = set()
        self._connects = book.connects
        # Those that were honoured while there was nobody to ask, and until when that is remembered.
        self._unseen: dict[LeaseId, float] = {}
        # Those whose use is on its way to the book.
        self._redeeming: set[LeaseId] = set()
        # What a retry of the same call finds.
        self._by_key: dict[tuple[str, str, str], Reserved] = {}
        self._making: dict[tuple[str, str, str], asyncio.Future[None]] = {}

    async def acquire(self, pool: WarmPool, ttl_seconds: float, wish: Wish, idempotency_key: str = "") -> Reserved:
        """Reserve a unit, or find the one that an earlier call with the same key made.

        Raises what `WarmPool.reserve` raises.
        """
        if not idempotency_key:
            return await self._make(pool, ttl_seconds, wish)
        key = (wish.holder.tenant, pool.name, idempotency_key)
        while (making := self._making.get(key)) is not None:  # a retry that has overtaken its first call
            await asyncio.wait({making})
        found = self._by_key.get(key)
        if found is not None and await self._renewed(pool, found.lease_id, ttl_seconds):
            return found
        self._making[key] = asyncio.get_running_loop().create_future()
        try:
            made = self._by_key[key] = await self._make(pool, ttl_seconds, wish)
        finally:
            self._making.pop(key).set_result(None)
        return made

    async def _make(self, pool: WarmPool, ttl_seconds: float, wish: Wish) -> Reserved:
        self.check_tenant(pool.template.line_class.account, wish.holder.tenant)
        made = await pool.reserve(ttl_seconds, wish)
        self._mine[made.lease_id] = pool
        self._unshared.add(made.lease_id)
        try:
            await self._book.add(made.lease_id, ttl_seconds)
            self._unshared.discard(made.lease_id)
        except StoreError as error:
            _log.warning("reservation_not_shared", lease_id=made.lease_id, reason=error.reason)
        except BaseException:
            self._end(made.lease_id, ReservationEvent.RELEASED)
            raise
        token = self._seal(_Token(made.lease_id, wish.holder.tenant, pool.name, self._gateway, ttl_seconds))
        return Reserved(token, made.lease_id, made.at_once, made.waited_seconds)

    def reserved(self, account: str, tenant: str) -> int:
        """How many units of an account a tenant has reserved here."""
        pools = {pool for pool in self._mine.values() if pool.template.line_class.account == account}
        return sum(each.holder.tenant == tenant for pool in pools for each in pool.living_reservations())

    async def keep_alive(self, token: str, principal: Principal) -> tuple[str, float]:
        """Renew a reservation; return its name and for how long it lives now, in seconds; 0 = it has ended."""
        content = self._open(token, principal)
        if content is None:
            return "", 0.0
        lease_id, ttl = LeaseId(content.lease_id), content.ttl_seconds
        pool = self._mine.get(lease_id)
        if pool is not None:
            return lease_id, ttl if await self._renewed(pool, lease_id, ttl) else 0.0
        if content.gateway == self._gateway:
            return lease_id, 0.0
        try:
            lives = await self._book.renew(lease_id, ttl)
        except StoreError:
            lives = True  # its home keeps it for as long as was said
        return lease_id, ttl if lives else 0.0

    async def release(self, token: str, principal: Principal) -> bool:
        """Give a reservation back; return whether it was this very call that ended it."""
        content = self._open(token, principal)
        if content is None:
            return False
        lease_id = LeaseId(content.lease_id)
        mine = lease_id in self._mine
        try:
            ended = mine if lease_id in self._unshared else await self._book.take(lease_id)
        except StoreError:
            ended = mine
        self._end(lease_id, ReservationEvent.RELEASED)
        return ended

    def look(self, token: str, principal: Principal) -> Redeemed:
        """Read a token without using it. Raises `CallerError` LEASE_UNKNOWN."""
        content = self._open(token, principal)
        if content is None:
            raise CallerError(Reason.LEASE_UNKNOWN, "the lease token is not one of yours")
        lease_id = LeaseId(content.lease_id)
        if lease_id in self._mine:
            return Redeemed(content.pool, lease_id, foreign=False, home=self._mine[lease_id])
        # Also one of ours that was put back: the book knows whether it lives.
        return Redeemed(content.pool, None, foreign=True)

    async def redeem(self, token: str, principal: Principal) -> None:
        """Use a token up, so that nobody else can. Raises `CallerError` LEASE_ENDED.

        A unit of this gateway is left for the pool to turn into a lease in the same settling.
        """
        content = self._open(token, principal)
        if content is None:
            raise CallerError(Reason.LEASE_UNKNOWN, "the lease token is not one of yours")
        lease_id = LeaseId(content.lease_id)
        self._mind_the_book()
        self._redeeming.add(lease_id)
        try:
            here_only = lease_id in self._unshared or lease_id in self._doubtful
            taken = await self._book.take(lease_id) or (here_only and lease_id in self._mine)
        except StoreError:
            # Better a line too many than a caller too few; but not for one token again and again.
            taken = lease_id not in self._unseen and (content.gateway != self._gateway or lease_id in self._mine)
            self._unseen[lease_id] = asyncio.get_running_loop().time() + TTL_MAX_SECONDS
        finally:
            self._redeeming.discard(lease_id)
        if not taken:
            self._end(lease_id, ReservationEvent.USED)
            raise CallerError(Reason.LEASE_ENDED, "the reservation has ended")

    async def put_back(self, token: str, principal: Principal) -> None:
        """Let a token be used again: whoever showed it got no line. It has its priority still, and no unit."""
        content = self._open(token, principal)
        if content is not None:
            self._unseen.pop(LeaseId(content.lease_id), None)
            with suppress(StoreError):
                await self._book.add(content.lease_id, content.ttl_seconds)

    async def run(self) -> None:
        """End what was used elsewhere, and forget what has expired, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for lease_id, pool in list(self._mine.items()):
                if not pool.has_reservation(lease_id):
                    self._end(lease_id, ReservationEvent.EXPIRED)
            now = asyncio.get_running_loop().time()
            self._unseen = {lease_id: until for lease_id, until in self._unseen.items() if until > now}
            shared = [lease_id for lease_id in self._mine if lease_id not in self._unshared]
            self._mind_the_book()
            try:
                living = await self._book.living(shared) if shared else frozenset[str]()
            except StoreError:
                # The book may come back empty: that alone must not end what lives here.
                self._doubtful.update(shared)
                continue
            living |= await self._entered_again([each for each in shared if each in self._doubtful - living])
            self._doubtful -= living
            for lease_id in shared:
                home = self._mine.get(lease_id)  # it may have ended meanwhile
                if home is not None and lease_id in living:  # perhaps renewed at another gateway
                    home.extend_reservation(lease_id, 2 * LOOK_SECONDS)
                elif home is not None and lease_id not in self._redeeming | self._doubtful:
                    self._end(lease_id, ReservationEvent.USED)

    async def _entered_again(self, lease_ids: list[LeaseId]) -> set[LeaseId]:
        """Enter what a book has lost that was away; return what is in it now. Whether it was used, nobody can tell."""
        entered = set[LeaseId]()
        with suppress(StoreError):  # what is left is tried again at the next look
            for lease_id in lease_ids:
                pool = self._mine.get(lease_id)
                if pool is not None:
                    await self._book.add(lease_id, pool.reservation_left(lease_id))
                    entered.add(lease_id)
        return entered

    async def _renewed(self, pool: WarmPool, lease_id: LeaseId, ttl_seconds: float) -> bool:
        """Let a reservation of ours live for so long from now, here and in the book; False = it has ended."""
        if not pool.renew_reservation(lease_id, ttl_seconds):
            return False
        self._mind_the_book()
        try:
            lives = lease_id in self._unshared or await self._book.renew(lease_id, ttl_seconds)
            if not lives and lease_id in self._doubtful:  # lost with a book that was away
                await self._book.add(lease_id, ttl_seconds)
                lives = True
        except StoreError:
            lives = True  # nobody can know today
        if not lives:  # used at another gateway
            self._end(lease_id, ReservationEvent.USED)
        return lives

    # Inside.

    def _mind_the_book(self) -> None:
        """Doubt a book that was connected to anew: it may be another server, or the same one, empty."""
        if self._book.connects != self._connects:
            self._connects = self._book.connects
            self._doubtful.update(self._mine.keys() - self._unshared)

    def _end(self, lease_id: LeaseId, event: ReservationEvent) -> None:
        pool = self._mine.pop(lease_id, None)
        self._unshared.discard(lease_id)
        self._doubtful.discard(lease_id)
        if self._by_key:
            self._by_key = {key: each for key, each in self._by_key.items() if each.lease_id != lease_id}
        if pool is not None:
            pool.end_reservation(lease_id, event)

    def _seal(self, content: _Token) -> str:
        return self._sealer.seal(PURPOSE, msgspec.msgpack.encode(content))

    def _open(self, token: str, principal: Principal) -> _Token | None:
        """Read a token; a foreign tenant's is as unknown as a forged one."""
        raw = self._sealer.open(PURPOSE, token)
        if raw is None:
            return None
        content = msgspec.msgpack.decode(raw, type=_Token)
        return content if content.tenant == principal.tenant else None
