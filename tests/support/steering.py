"""What an operator and a reserving caller say, by the bare stubs. Every call has a deadline."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

import grpc
from trunkline.v1 import admin_pb2 as admin
from trunkline.v1 import admin_pb2_grpc, lease_pb2_grpc
from trunkline.v1 import lease_pb2 as lease

from tests.support.calls import Refusal, refusal_of

SECONDS: Final = 10.0


class Operator:
    """Asks one gateway."""

    def __init__(self, channel: grpc.aio.Channel, token: str = "") -> None:
        self._stub: Any = admin_pb2_grpc.AdminServiceStub(channel)
        self._how: dict[str, Any] = _how(token)

    async def pool(self, name: str = "default") -> admin.Pool:
        answer = await self._stub.ListPools(admin.ListPoolsRequest(pool=name), **self._how)
        (found,) = answer.pools
        shown: admin.Pool = found
        return shown

    async def pools(self) -> list[admin.Pool]:
        return list((await self._stub.ListPools(admin.ListPoolsRequest(), **self._how)).pools)

    async def leases(self) -> list[admin.Lease]:
        return list((await self._stub.ListLeases(admin.ListLeasesRequest(), **self._how)).leases)

    async def sessions(self) -> list[admin.Session]:
        return list((await self._stub.ListSessions(admin.ListSessionsRequest(), **self._how)).sessions)

    async def pause(self, name: str = "default") -> admin.Pool:
        shown: admin.Pool = (await self._stub.PausePool(admin.PausePoolRequest(pool=name), **self._how)).pool
        return shown

    async def unpause(self, name: str = "default") -> admin.Pool:
        shown: admin.Pool = (await self._stub.UnpausePool(admin.UnpausePoolRequest(pool=name), **self._how)).pool
        return shown

    async def drain(self, name: str = "default") -> admin.Pool:
        shown: admin.Pool = (await self._stub.DrainPool(admin.DrainPoolRequest(pool=name), **self._how)).pool
        return shown

    async def retire(self, pool: str = "default", below_version: str = "") -> int:
        request = admin.RetireLinesRequest(pool=pool, below_version=below_version)
        return int((await self._stub.RetireLines(request, **self._how)).retired)

    async def set_limits(self, name: str = "default", **limits: int) -> admin.Pool:
        shown: admin.Pool = (await self._stub.SetLimits(admin.SetLimitsRequest(pool=name, **limits), **self._how)).pool
        return shown

    async def kill(self, session_id: str, reason: str = "") -> bool:
        request = admin.KillSessionRequest(session_id=session_id, reason=reason)
        return bool((await self._stub.KillSession(request, **self._how)).killed)

    async def drain_gateway(self, deadline_seconds: int = 0) -> int:
        """Ask it to finish; return how many sessions run."""
        request = admin.DrainGatewayRequest(deadline_seconds=deadline_seconds)
        return int((await self._stub.DrainGateway(request, **self._how)).sessions)

    def watch(self, interval_ms: int = 0, seconds: float = 60.0) -> Any:
        """Return the call that shows all of it again and again."""
        return self._stub.Watch(admin.WatchRequest(interval_ms=interval_ms), **{**self._how, "timeout": seconds})


class Reserver:
    """Reserves, renews and releases."""

    def __init__(self, channel: grpc.aio.Channel, token: str = "") -> None:
        self._stub: Any = lease_pb2_grpc.LeaseServiceStub(channel)
        self._how: dict[str, Any] = _how(token)

    async def acquire(self, **fields: Any) -> lease.AcquireResponse:
        reserved: lease.AcquireResponse = await self._stub.Acquire(lease.AcquireRequest(**fields), **self._how)
        return reserved

    async def release(self, token: str) -> bool:
        return bool((await self._stub.Release(lease.ReleaseRequest(lease_token=token), **self._how)).released)

    async def keep_alive(self, *tokens: str) -> list[tuple[str, int]]:
        """Send one request for each token; return the answers, in order."""
        call = self._stub.KeepAlive(iter([lease.KeepAliveRequest(lease_token=each) for each in tokens]), **self._how)
        return [(each.lease_id, each.ttl_seconds) async for each in call]


def _how(token: str) -> dict[str, Any]:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    return {"timeout": SECONDS, "metadata": metadata, "wait_for_ready": True}


async def refusal_by(call: Callable[..., Coroutine[Any, Any, object]], *args: Any, **fields: Any) -> Refusal:
    """Make a call that is refused; return how."""
    try:
        answer = await call(*args, **fields)
    except grpc.aio.AioRpcError as error:
        return refusal_of(error)
    raise AssertionError(f"it was answered: {answer}")
