"""What every test can ask for."""

import threading
from collections.abc import Iterator

import pytest

from .shells import Connect, connect_async, connect_sync


@pytest.fixture(params=["async", "sync"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Make a client of either kind."""
    return connect_async if request.param == "async" else connect_sync


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    """Fail a test that leaves a thread behind, be it ours or gRPC's for us."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if not _belongs_to_the_process(thread):
            thread.join(5)
            assert not thread.is_alive(), f"{thread} was left behind"


def _belongs_to_the_process(thread: threading.Thread) -> bool:
    # The event loop's own, which run blocking clients in async tests, and the one poller of
    # grpc.aio.
    return thread.name.startswith("asyncio_") or "_poll_wrapper" in thread.name
