"""What holds for every test."""

import gc
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import trustme


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


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one that has signed nothing: where none is, some clients refuse to begin."""
    folder = tmp_path_factory.mktemp("authorities")
    (folder / "empty").mkdir()
    trustme.CA().cert_pem.write_to_path(str(folder / "one.pem"))
    return folder


@pytest.fixture(autouse=True, scope="module")
def not_the_authorities_of_the_system(request: pytest.FixtureRequest, one_authority: Path) -> Iterator[None]:
    """To read those takes 45 ms for each gateway and each connection with TLS, and nobody here has theirs."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.get_closest_marker("deploy"):  # those may ask a package index
            patch.setenv("SSL_CERT_FILE", str(one_authority / "one.pem"))
            patch.setenv("SSL_CERT_DIR", str(one_authority / "empty"))
        yield
