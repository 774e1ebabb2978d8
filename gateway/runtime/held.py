"""A line that a session uses, or that stands by for it."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from gateway.core.replay import Ahead
from gateway.runtime.lease import LeasedLine, Wish
from gateway.runtime.pool import WarmPool


@dataclass(slots=True, eq=False)
class HeldLine:
    """A line, the pool that it is of, and what ends its lease."""

    line: LeasedLine
    pool: WarmPool
    leases: AsyncExitStack = field(default_factory=AsyncExitStack)
    # What it was told before the session was this gateway's; None = nothing.
    ahead: Ahead | None = None

    @property
    def ready_at(self) -> float:
        """Since when it stands, on the loop's clock."""
        return self.line.granted_at - self.line.entry_age_seconds

    def handed_over(self) -> "HeldLine":
        """Return it for another holder: who had it until now ends nothing any more."""
        return replace(self, leases=self.leases.pop_all())

    def renew(self) -> None:
        """Say that it is in use; one that nobody renews is taken back."""
        self.pool.renew(self.line)


async def hold(pool: WarmPool, wish: Wish) -> HeldLine:
    """Lease a line until `leases` is closed. Raises as `WarmPool.lease`."""
    leases = AsyncExitStack()
    return HeldLine(await leases.enter_async_context(pool.lease(wish)), pool, leases)
