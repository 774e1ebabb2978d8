"""Images and containers on a machine without an engine's service and without a registry: buildah and podman.

The base that `FROM` names is a stand-in here: debootstrap's smallest Debian of the same release, imported under the
base's own name. What a machine of this kind forces on both tools stands in `_STORAGE` and `_ENGINE`, and nowhere else.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.processes import ROOT
from tests.support.tools import tool

DOCKERFILE: Final = ROOT / "deploy" / "docker" / "Dockerfile"
BUILD_SECONDS: Final = 900
COMMAND_SECONDS: Final = 60
BASE_DAYS_MAX: Final = 7
# With so much to spare, images are kept in memory; they take a quarter of it.
MEMORY_BYTES: Final = 8 << 30
# A registry's own name for what `debian:…` means.
LIBRARY: Final = "docker.io/library/"

# Nothing of it is shared with what else is on the machine, so that a test can take it away.
_STORAGE: Final = """
[storage]
driver = "{driver}"
graphroot = "{folder}/storage"
runroot = "{folder}/run"
"""
# Without systemd there is no other cgroup manager than this, and crun asks for more of the kernel than runc does.
# Limits cannot be raised above the machine's own. A published port would be bound on all addresses: none is published.
_ENGINE: Final = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "host"
[network]
network_backend = "cni"
"""
# What Debian's own image has and debootstrap's has not: without it dpkg waits for the disk after each file.
_AS_THE_IMAGE: Final = {
    "etc/dpkg/dpkg.cfg.d/docker-apt-speedup": "force-unsafe-io\n",
    "etc/apt/apt.conf.d/docker-no-languages": 'Acquire::Languages "none";\n',
}
_SCRIPT: Final = """
set -eu
mount -t tmpfs -o size=2g none "$1"
debootstrap --variant=minbase "$2" "$1" $3 >&2
rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
cp -a "$4"/. "$1"/
tar -C "$1" -cf "$5" .
"""


def command(name: str) -> str:
    """Return the path of a command; skip or fail where it is missing, or where only root could use it."""
    if os.geteuid() == 0:
        return tool(name)
    sentence = "images are built and run as root here"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(sentence)
    pytest.skip(sentence)


def base_name() -> str:
    """Return what the Dockerfile is built on, where nobody says otherwise."""
    found = re.search(r"^ARG BASE=(\S+)$", DOCKERFILE.read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def mirror(folder: Path = Path("/etc/apt")) -> str:
    """Return where this machine gets Debian from; empty = wherever debootstrap does."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.*"))]
    texts = [file.read_text("utf-8") for file in files if file.suffix in (".list", ".sources") and file.is_file()]
    found = re.findall(r"^(?:deb (?:\[.*?\] )?|URIs: )(https?://\S+/debian/?)(?=\s|$)", "\n".join(texts), re.MULTILINE)
    return str(found[0]) if found else ""


def stand_in() -> Path:
    """Return the stand-in base as an archive, made now unless there is one of this week."""
    release = base_name().partition(":")[2].partition("-")[0]
    key = hashlib.sha256(json.dumps([release, mirror(), _SCRIPT, _AS_THE_IMAGE]).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trunkline"
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"{release}-{key}.tar"
    with (cache / f"{release}-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second finds it made
        if not archive.exists() or time.time() - archive.stat().st_mtime > BASE_DAYS_MAX * 86_400:
            _make(release, archive)
    return archive


def _make(release: str, archive: Path) -> None:
    command("debootstrap")
    with tempfile.TemporaryDirectory() as name:
        root, extra, made = Path(name, "root"), Path(name, "extra"), Path(name, "base.tar")
        root.mkdir()
        for place, text in _AS_THE_IMAGE.items():
            (extra / place).parent.mkdir(parents=True, exist_ok=True)
            (extra / place).write_text(text, "utf-8")
        # In a mount namespace of its own: the file system in memory is gone with the shell, whatever happens.
        given = [str(each) for each in (root, release, mirror(), extra, made)]
        run([command("unshare"), "--mount", "sh", "-c", _SCRIPT, "sh", *given], seconds=BUILD_SECONDS)
        # A name of its own first: another reader sees all of it or nothing.
        moved = archive.with_suffix(".new")
        shutil.move(made, moved)
        moved.replace(archive)


def run(
    arguments: Sequence[str | Path], env: Mapping[str, str] | None = None, seconds: float = COMMAND_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; fail with its last words."""
    done = subprocess.run(
        arguments,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, (
        f"{arguments} ended with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-1500:]}"
    )
    return done


class Containers:
    """Images and containers in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        driver = os.environ.get("STORAGE_DRIVER", "overlay")
        (folder / "storage.conf").write_text(_STORAGE.format(folder=folder, driver=driver), "utf-8")
        (folder / "containers.conf").write_text(_ENGINE, "utf-8")
        self.env = {
            **{name: each for name, each in os.environ.items() if not name.startswith("TRUNKLINE_")},
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "BUILDAH_ISOLATION": "chroot",
        }

    def podman(self, *arguments: str | Path, seconds: float = COMMAND_SECONDS) -> str:
        return run([command("podman"), *arguments], self.env, seconds).stdout.strip()

    def buildah(self, *arguments: str | Path, seconds: float = BUILD_SECONDS) -> str:
        return run([command("buildah"), *arguments], self.env, seconds).stdout.strip()

    def import_base(self) -> None:
        """Give the stand-in the name that `FROM` says, unless something has it."""
        if self.podman("images", "--quiet", base_name()):
            return
        self.podman("import", "--quiet", stand_in(), f"{LIBRARY}{base_name()}", seconds=BUILD_SECONDS)

    def build(self, tag: str, output: Path, *options: str, **env: str) -> str:
        """Build by the product's own script; return what it prints."""
        script = ROOT / "deploy" / "docker" / "build.py"
        given = [str(script), tag, "--engine", "buildah", "--output", str(output), "--"]
        return run(
            [sys.executable, *given, "--network", "host", "--pull-never", *options], {**self.env, **env}, BUILD_SECONDS
        ).stdout

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what podman knows of an image or a container."""
        return dict(json.loads(self.podman("inspect", name))[0])

    @contextmanager
    def mounted(self, tag: str) -> Iterator[Path]:
        """Show an image's files."""
        yield Path(self.podman("image", "mount", tag))
        self.podman("image", "unmount", tag)

    def remove(self) -> None:
        """End what runs and take everything away."""
        with contextlib.suppress(AssertionError):
            self.podman("pod", "rm", "--force", "--all", "--time", "1")
            self.podman("rm", "--force", "--all", "--time", "1")
            self.podman("image", "unmount", "--all", "--force")
            self.buildah("rm", "--all")
        for mount in _mounts_at(self.folder):
            run([command("umount"), mount])
        shutil.rmtree(self.folder)


def _mounts_at(folder: Path) -> list[str]:
    """Return what is mounted there and below, the innermost first."""
    places = [line.split()[1] for line in Path("/proc/mounts").read_text("utf-8").splitlines()]
    return sorted((each for each in places if Path(each).is_relative_to(folder)), reverse=True)


def _memory_bytes() -> int:
    """Return how much memory is free for use."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


@contextmanager
def containers(kept: Path | None = None) -> Iterator[Containers]:
    """Give a place for images and containers, and take it away with what is in it; not so a `kept` one."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield Containers(kept)
        return
    # A short path: sockets of podman's are in it.
    folder = Path(tempfile.mkdtemp(prefix="tk", dir="/tmp"))
    if _memory_bytes() > MEMORY_BYTES:
        # Ten thousand small files and their fsyncs take a disk longer than the build itself.
        run([command("mount"), "-t", "tmpfs", "-o", "size=4g", "none", str(folder)])
    made = Containers(folder)
    try:
        yield made
    finally:
        made.remove()
