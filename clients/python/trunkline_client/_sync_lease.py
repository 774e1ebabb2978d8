"""One blocking reservation: performs what the core decides."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from trunkline.v1.lease_pb2 import AcquireResponse, ReleaseResponse

from trunkline_client._lease import LeaseCore
from trunkline_client._sync_call import RenewalCall, only_answer
from trunkline_client.errors import TrunklineError


class Lease:
    """A unit of a pool, kept for a session that comes soon. Made by `Client.reserve`.

    It lives in its `with`: there a thread renews it every third of its time to live, until
    `open(lease=…)` has used it. Leaving the block gives it back if it was not used, and ends the
    thread. What ended it against the caller's will stands in `failure`, and `open(lease=…)` raises
    it. Any thread may use it.
    """

    def __init__(
        self,
        acquire: Callable[[], AcquireResponse],
        renew: Callable[[str, float], RenewalCall],
        release: Callable[[str, float], ReleaseResponse],
        close_timeout_seconds: float,
    ) -> None:
        """Prepare; nothing is asked before `with`."""
        self._acquire = acquire
        self._renew = renew
        self._release = release
        self._close_timeout_seconds = close_timeout_seconds
        self._core = LeaseCore()
        self._over = threading.Event()
        # No renewal begins once it is over.
        self._beginning = threading.Lock()
        self._renewal: RenewalCall | None = None
        self._renewing: threading.Thread | None = None
        self._defect: Exception | None = None

    def __repr__(self) -> str:
        """Show the state, never the token."""
        return f"Lease({self._core.state.name})"

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

    def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait until it is held no more, at most for so long; return `ended`."""
        return self._over.wait(timeout_seconds)

    def release(self) -> bool:
        """Give it back now; return whether that freed a unit.

        Raises nothing for the gateway's part: what cannot be given back expires. A second call
        does nothing.
        """
        if not self._core.release():
            return False
        self._over.set()
        token = self._core.acquired.lease_token
        with suppress(TrunklineError):
            return self._release(token, self._close_timeout_seconds).released
        return False

    def __enter__(self) -> Self:
        """Reserve. Raises what `Client.acquire` raises."""
        self._core.check_new()
        asked_at = time.monotonic()
        self._core.acquire(self._acquire(), asked_at)
        # A daemon: a program that forgets the end of the block can end all the same.
        self._renewing = threading.Thread(target=self._keep, name=f"trunkline {self.id}", daemon=True)
        self._renewing.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back unless it was used, and stop renewing it."""
        renewing = self._renewing
        assert renewing is not None, "the block was entered"  # noqa: S101
        try:
            self.release()
        finally:
            with self._beginning:
                self._over.set()
            if self._renewal is not None:
                self._renewal.cancel()
            renewing.join(self._close_timeout_seconds)
        if self._defect is not None:
            # No answer of a gateway: a token that its function could not give.
            raise self._defect

    # For the session that uses it.

    @contextmanager
    def _opening(self) -> Iterator[None]:
        with self._core.opening():
            yield
        self._over.set()

    def _keep(self) -> None:
        """Renew until it is over. This lease's only thread."""
        try:
            while self._core.alive and not self.wait_ended(self._core.due_seconds(time.monotonic())):
                self._renew_once(self._core.acquired.lease_token)
        except Exception as defect:  # noqa: BLE001 - raised at the end of the block
            self._defect = defect
        finally:
            self._over.set()

    def _renew_once(self, token: str) -> None:
        sent_at = time.monotonic()
        try:
            with self._beginning:
                if self._over.is_set():
                    return
                self._renewal = self._renew(token, self._core.patience_seconds(sent_at))
            answer = only_answer(self._renewal)
        except TrunklineError as failure:
            self._core.renewal_failed(failure, time.monotonic())
        else:
            self._core.renewed(answer, sent_at)
