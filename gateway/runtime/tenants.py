"""Holds tenants to their limits at each account, over all gateways: each tells the others what its tenants have.

What the others have is as old as their last word. Nobody waits for it: an open is decided by what is known, and a
tenant that opens at several gateways in the same moment may go above its limit by what it opens in that moment.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import structlog

from gateway.core.errors import StoreError
from gateway.core.tenants import TenantShares
from gateway.runtime.ports import TenantBook

# How often the others are told, and how soon after the last time where something has changed.
TELL_SECONDS: Final = 1.0
TELL_SOON_SECONDS: Final = 0.05
_log = structlog.get_logger(__name__)


class Tenants:
    """The limits at work. `run` must be running for other gateways to count."""

    def __init__(
        self, shares: TenantShares, book: TenantBook, reserved: Callable[[str, str], int] = lambda _account, _tenant: 0
    ) -> None:
        """Begin with nothing heard. `reserved` says how many units a tenant has reserved here at an account."""
        self._shares = shares
        self._book = book
        self._reserved = reserved
        self._changed = asyncio.Event()

    def check(self, account: str, tenant: str) -> None:
        """Raise `CapacityError` where a tenant has as many lines as it may."""
        if account in self._shares.limits:
            refusal = self._shares.refusal(account, tenant, self._reserved(account, tenant))
            if refusal is not None:
                raise refusal

    @contextmanager
    def line_of(self, account: str, tenant: str) -> Iterator[None]:
        """Count a line for the length of the block."""
        self._shares.take(account, tenant)
        self._changed.set()
        try:
            yield
        finally:
            self._shares.give_back(account, tenant)
            self._changed.set()

    async def run(self) -> NoReturn:
        """Tell the others, and hear of them, until cancelled. Without limits nothing is said."""
        while True:
            self._changed.clear()
            for account in self._shares.limits:
                try:
                    others = await self._book.exchange(account, self._shares.own(account))
                except StoreError as error:  # what was last heard holds on
                    _log.debug("tenants_not_told", account=account, reason=error.reason)
                else:
                    self._shares.heard(account, others)
            await asyncio.sleep(TELL_SOON_SECONDS)
            try:
                async with asyncio.timeout(TELL_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue
