"""How many lines each tenant has at an account, and whether it may have one more: pure."""

from collections import Counter
from collections.abc import Mapping

from gateway.core.errors import CapacityError, PoolNumbers, Reason

# Somebody of the tenant's has to hang up first.
RETRY_SECONDS = 1.0


class TenantShares:
    """The lines of all tenants at all accounts: those of this gateway, and what was last heard of the others'."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        """Begin with none. `limits` = the most lines of one tenant, by account; an account without has no limit."""
        self.limits = dict(limits)
        self._own: Counter[tuple[str, str]] = Counter()
        self._others: dict[str, Mapping[str, int]] = {}

    def take(self, account: str, tenant: str) -> None:
        """Count a line."""
        self._own[account, tenant] += 1

    def give_back(self, account: str, tenant: str) -> None:
        """Count one less."""
        self._own -= Counter({(account, tenant): 1})  # a tenant without lines leaves no entry

    def own(self, account: str) -> dict[str, int]:
        """Return how many lines each tenant has here."""
        return {tenant: lines for (at, tenant), lines in self._own.items() if at == account}

    def heard(self, account: str, others: Mapping[str, int]) -> None:
        """Record how many each tenant has at the other gateways, all together."""
        self._others[account] = others

    def refusal(self, account: str, tenant: str, reserved: int) -> CapacityError | None:
        """Why a tenant gets no further line, that has reserved so many here besides; None = it gets one."""
        limit = self.limits.get(account)
        own, others = self._own[account, tenant], self._others.get(account, {}).get(tenant, 0)
        total = own + reserved + others
        if limit is None or total < limit:
            return None
        text = f"tenant {tenant} has {total} lines at account {account}, and may have {limit}"
        numbers = PoolNumbers("tenant", account, total, own + others, 0, 0, 0)
        return CapacityError(Reason.POOL_EXHAUSTED, text, numbers=numbers, retry_after_seconds=RETRY_SECONDS)
