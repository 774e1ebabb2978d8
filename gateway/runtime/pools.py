"""Which pool serves whom."""

from collections.abc import Iterable

from gateway.core.errors import CallerError, Reason
from gateway.runtime.pool import WarmPool


def find_pool(pools: Iterable[WarmPool], name: str, tenant: str) -> WarmPool:
    """Return the pool that serves a tenant's calls for a template. Raises `CallerError` UNKNOWN_TEMPLATE."""
    named = {pool.tenant: pool for pool in pools if pool.name == name}
    pool = named.get(tenant) or named.get("")
    if pool is None:
        known = ", ".join(sorted({pool.name for pool in pools}))
        raise CallerError(Reason.UNKNOWN_TEMPLATE, f"no template {name!r}; there are: {known}")
    return pool
