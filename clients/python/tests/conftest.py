"""What every test can ask for."""

import threading
import time
from collections.abc import Iterator
from typing import Final

import pytest
import trustme

from .shells import Connect, connect_async, connect_sync

_ENDS_WITHIN_SECONDS: Final = 5.0
# Those that end by themselves a second later, and until when they may take. The next test need not wait for them.
_ending: Final[dict[threading.Thread, float]] = {}


@pytest.fixture(params=["async", "sync"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Make a client of either kind."""
    return connect_async if request.param == "async" else connect_sync


@pytest.fixture(autouse=True, scope="session")
def _not_the_authorities_of_the_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # Each gateway reads those, which takes its time, and nobody here has a certificate of theirs.
    folder = tmp_path_factory.mktemp("authorities")
    (folder / "empty").mkdir()
    trustme.CA().cert_pem.write_to_path(str(folder / "one.pem"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "one.pem"))
        patch.setenv("SSL_CERT_DIR", str(folder / "empty"))
        yield


@pytest.fixture(autouse=True, scope="session")
def _what_ends_by_itself_has_ended() -> Iterator[None]:
    yield
    _look_after_ending(waits=True)


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    """Fail a test that leaves a thread behind, be it ours or gRPC's for us."""
    before = set(threading.enumerate())
    yield
    _look_after_ending(waits=False)
    for thread in set(threading.enumerate()) - before:
        if _closes_a_channel_soon(thread):
            _ending[thread] = time.monotonic() + _ENDS_WITHIN_SECONDS
        elif not _belongs_to_the_process(thread):
            thread.join(_ENDS_WITHIN_SECONDS)
            assert not thread.is_alive(), f"{thread} was left behind"


def _look_after_ending(*, waits: bool) -> None:
    """Fail if one of an earlier test has not ended in its time; at the end, wait for it."""
    for thread, until in tuple(_ending.items()):
        if waits:
            thread.join(max(0.0, until - time.monotonic()))
        is_late = thread.is_alive() and time.monotonic() >= until
        if is_late or not thread.is_alive():
            del _ending[thread]
        assert not is_late, f"{thread} was left behind by an earlier test"


def _closes_a_channel_soon(thread: threading.Thread) -> bool:
    # A blocking session leaves gRPC a second to look away from a channel before it closes it.
    return isinstance(thread, threading.Timer) and thread.name == "trunkline closes"


def _belongs_to_the_process(thread: threading.Thread) -> bool:
    # The event loop's own, which run blocking clients in async tests, and the one poller of
    # grpc.aio.
    return thread.name.startswith("asyncio_") or "_poll_wrapper" in thread.name
