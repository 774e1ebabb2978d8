"""The image, built once for all tests from the Dockerfile of this tree, on a stand-in base."""

import os
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.containers import Containers, base_name, command, containers

TAG: Final = "localhost/trunkline:tested"
# It stands in both of the build's secrets, and must be nowhere in the image.
CANARY: Final = "canary-of-the-build.invalid"
# A folder that keeps layers from run to run, for those who work on the image.
KEPT: Final = os.environ.get("IMAGE_LAYERS")


@dataclass(frozen=True)
class Built:
    """The image."""

    tag: str
    # What the build printed, and where it wrote the bill of materials.
    words: str
    output: Path
    containers: Containers


@pytest.fixture(scope="session")
def engine() -> Iterator[Containers]:
    command("debootstrap"), command("runc")
    with containers(Path(KEPT) if KEPT else None) as made:
        yield made


@pytest.fixture(scope="session")
def image(engine: Containers, request: pytest.FixtureRequest) -> Iterator[Built]:
    begun = time.monotonic()
    engine.import_base()
    based = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = folder / "ca.crt"
        known = ssl.get_default_verify_paths()
        shutil.copyfile(os.environ.get("PIP_CERT") or known.cafile or known.openssl_cafile, authority)
        with authority.open("a", encoding="utf-8") as file:
            file.write(f"\n# {CANARY}\n")
        options = ["--layers"] if KEPT else []
        words = engine.build(TAG, folder / "output", *options, PIP_CERT=str(authority), PIP_TRUSTED_HOST=CANARY)
        told = words.splitlines()[-1].partition(";")[0]
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            sys.stdout.write(
                f"\n{told}, on a stand-in for {base_name()} made by debootstrap "
                f"({based - begun:.0f} s for it, {time.monotonic() - based:.0f} s for the build)\n"
            )
        yield Built(TAG, words, folder / "output", engine)


@pytest.fixture(scope="session")
def files(image: Built) -> Iterator[Path]:
    """The image's files."""
    with image.containers.mounted(image.tag) as mounted:
        yield mounted
