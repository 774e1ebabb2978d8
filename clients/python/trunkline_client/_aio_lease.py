"""One reservation on asyncio: performs what the core decides."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from trunkline.v1.lease_pb2 import AcquireResponse, KeepAliveResponse, ReleaseResponse

from trunkline_client._lease import LeaseCore
from trunkline_client.errors import TrunklineError


class AsyncLease:
    """A unit of a pool, kept for a session that comes soon. Made by `AsyncClient.reserve`.

    It lives in its `async with`: there it is renewed every third of its time to live, until
    `open(lease=…)` has used it. Leaving the block gives it back if it was not used. What ended it
    against the caller's will stands in `failure`, and `open(lease=…)` raises it.
    """

    def __init__(
        self,
        acquire: Callable[[], Awaitable[AcquireResponse]],
        renew: Callable[[str, float], Awaitable[KeepAliveResponse]],
        release: Callable[[str, float], Awaitable[ReleaseResponse]],
        close_timeout_seconds: float,
    ) -> None:
        """Prepare; nothing is asked before `async with`."""
        self._acquire = acquire
        self._renew = renew
        self._release = release
        self._close_timeout_seconds = close_timeout_seconds
        self._core = LeaseCore()
        self._over = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        """Show the state, never the token."""
        return f"AsyncLease({self._core.state.name})"

    @property
    def acquired(self) -> AcquireResponse:
        """What the gateway answered; its `lease_token` is secret. Raises NOT_OPEN before."""
        return self._core.acquired

    @property
    def id(self) -> str:
        """The reservation's name in logs and admin answers. Raises NOT_OPEN before."""
        return self._core.acquired.lease_id

    @property
    def ended(self) -> bool:
        """Whether it is held no more: it was used, given back, or lost."""
        return self._over.is_set()

    @property
    def failure(self) -> TrunklineError | None:
        """What ended it: LEASE_ENDED by the gateway's word, or why the gateway could not be asked in time."""
        return self._core.failure

    async def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait until it is held no more, at most for so long; return `ended`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._over.wait()
        return self._over.is_set()

    async def release(self) -> bool:
        """Give it back now; return whether that freed a unit.

        Raises nothing for the gateway's part: what cannot be given back expires. A second call
        does nothing.
        """
        if not self._core.release():
            return False
        self._over.set()
        token = self._core.acquired.lease_token
        with suppress(TrunklineError):
            return (await self._release(token, self._close_timeout_seconds)).released
        return False

    async def __aenter__(self) -> Self:
        """Reserve. Raises what `AsyncClient.acquire` raises."""
        self._core.check_new()
        asked_at = time.monotonic()
        self._core.acquire(await self._acquire(), asked_at)
        self._renewing = asyncio.create_task(self._keep(), name=f"trunkline {self.id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back unless it was used, and stop renewing it."""
        renewing = self._renewing
        assert renewing is not None, "the block was entered"  # noqa: S101
        renewing.cancel()
        try:
            await self.release()
        finally:
            # A cancelled gRPC call answers within this event loop: no peer is asked.
            done, _ = await asyncio.wait({renewing}, timeout=self._close_timeout_seconds)
        for task in done:
            if not task.cancelled():
                # Raises what is no answer of a gateway: a token that its function could not give.
                task.result()

    # For the session that uses it.

    @contextmanager
    def _opening(self) -> Iterator[None]:
        with self._core.opening():
            yield
        self._over.set()

    async def _keep(self) -> None:
        """Renew until it is over. This lease's only task."""
        try:
            while self._core.alive and not await self.wait_ended(self._core.due_seconds(time.monotonic())):
                await self._renew_once(self._core.acquired.lease_token)
        finally:
            self._over.set()

    async def _renew_once(self, token: str) -> None:
        sent_at = time.monotonic()
        try:
            answer = await self._renew(token, self._core.patience_seconds(sent_at))
        except TrunklineError as failure:
            self._core.renewal_failed(failure, time.monotonic())
        else:
            self._core.renewed(answer, sent_at)
