"""What holds for every test."""

import gc
import os
import signal
from collections.abc import Generator, Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests are no garbage: to look through them again and again takes a third of the collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_reaches_children() -> None:
    """A shell starts background jobs with Ctrl-C ignored, and children would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def no_authority_but_the_tests_own(request: pytest.FixtureRequest) -> Iterator[None]:
    """Reading those of the system takes 45 ms for each gateway and each connection with TLS, and nobody has theirs."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.get_closest_marker("deploy"):  # those may ask a package index
            patch.setenv("SSL_CERT_FILE", os.devnull)
            patch.setenv("SSL_CERT_DIR", os.devnull)
        yield
