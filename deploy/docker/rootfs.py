"""Lays out the image's files: an interpreter with the libraries it needs, and the service's environment.

Runs as root in the build stage, on a Debian that has these packages installed. It takes files by Debian's own
lists of them and leaves Debian's record of each package, so that a scanner knows what is in the image. No shell,
no package manager and no program but the interpreter come along.
"""
# ruff: noqa: INP001 a script, no package

import compileall
import os
import py_compile
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PYTHON: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
# libstdc++ is what grpcio's and uvloop's wheels expect of any machine.
ROOTS: Final = (
    "base-files",
    "ca-certificates",
    f"{PYTHON}-minimal",
    f"lib{PYTHON}-stdlib",
    "libstdc++6",
    "netbase",
    "tzdata",
)
# What others depend on for their installation only.
LEFT_OUT: Final = frozenset({"debconf", "dpkg", "mawk"})

KEPT: Final = (
    f"usr/bin/{PYTHON}",
    "etc/debian_version",
    "etc/host.conf",
    "etc/mime.types",
    "etc/protocols",
    "etc/services",
    "etc/ssl/openssl.cnf",
    "usr/lib",
    "usr/lib64",
    "usr/share/common-licenses",
    "usr/share/zoneinfo",
)
# Scripts, a hook that runs at each start, links out of the image, and character sets that Python has of its own.
DROPPED: Final = (
    "usr/lib/binfmt.d",
    f"usr/lib/{PYTHON}/sitecustomize.py",
    "usr/lib/ssl/misc",
    "usr/lib/ssl/private",
    "usr/share/zoneinfo/localtime",
)
DROPPED_NAMES: Final = frozenset({"gconv"})

VENV: Final = Path("opt/trunkline")
# Of the environment's commands the service needs these.
COMMANDS: Final = ("python", "trunkline")
BUNDLE: Final = Path("etc/ssl/certs/ca-certificates.crt")
USER: Final = 65_532
WRITTEN: Final = {
    "etc/passwd": f"root:x:0:0:root:/:/nonexistent\ntrunkline:x:{USER}:{USER}:trunkline:/tmp:/nonexistent\n",
    "etc/group": f"root:x:0:\ntrunkline:x:{USER}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}


@dataclass(frozen=True, slots=True)
class Package:
    """One of Debian's, as dpkg knows it."""

    name: str
    status: str
    needs: tuple[tuple[str, ...], ...]


def installed() -> dict[str, Package]:
    """Return what is installed here, by name and by what it provides."""
    text = Path("/var/lib/dpkg/status").read_text("utf-8")
    found: dict[str, Package] = {}
    provided: dict[str, Package] = {}
    for paragraph in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status") != "install ok installed":
            continue
        needs = [*_alternatives(fields.get("Pre-Depends", "")), *_alternatives(fields.get("Depends", ""))]
        package = Package(fields["Package"], paragraph + "\n", tuple(needs))
        found[package.name] = package
        for names in _alternatives(fields.get("Provides", "")):
            provided.setdefault(names[0], package)
    return {**provided, **found}


def _alternatives(relation: str) -> Iterator[tuple[str, ...]]:
    for each in filter(None, relation.split(", ")):
        yield tuple(name.split()[0].partition(":")[0] for name in each.split(" | "))


def needed(packages: dict[str, Package]) -> list[Package]:
    """Return the roots and all that they depend on. Raises LookupError where one is missing."""
    chosen: dict[str, Package] = {}
    waiting: list[tuple[str, ...]] = [(name,) for name in ROOTS]
    while waiting:
        names = waiting.pop()
        package = next((packages[name] for name in names if name in packages), None)
        if package is None:
            raise LookupError(f"none of {', '.join(names)} is installed")
        if package.name not in chosen and package.name not in LEFT_OUT:
            chosen[package.name] = package
            waiting.extend(package.needs)
    return sorted(chosen.values(), key=lambda each: each.name)


def is_kept(path: Path, package: str) -> bool:
    """Whether a file of a package goes into the image; the path is without its first slash."""
    if path == Path("usr/share/doc") / package / "copyright":
        return True
    if not DROPPED_NAMES.isdisjoint(path.parts) or any(path.is_relative_to(each) for each in DROPPED):
        return False
    return any(path.is_relative_to(each) for each in KEPT)


def files(package: str) -> Iterator[Path]:
    """Yield the files and links of a package that go into the image, by their place behind Debian's links."""
    listed = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=True)  # noqa: S603, S607
    for line in listed.stdout.splitlines():
        path = Path(line)
        if not line.startswith("/") or (path.is_dir() and not path.is_symlink()):
            continue
        # Debian's lists may say /lib for what stands in /usr/lib.
        place = (path.parent.resolve() / path.name).relative_to("/")
        if os.path.lexists(path) and is_kept(place, package):
            yield place


def copy(place: Path, root: Path) -> None:
    """Copy a file or a link to where it stood."""
    target = root / place
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(Path("/") / place, target, follow_symlinks=False)


def record(package: Package, root: Path) -> None:
    """Leave dpkg's record where scanners look for it in an image without dpkg."""
    folder = root / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / package.name).write_text(package.status, "utf-8")


def lay_out_environment(root: Path) -> None:
    """Copy the service's environment, with no other command than its own."""
    shutil.copytree(Path("/") / VENV, root / VENV, symlinks=True)
    for command in (root / VENV / "bin").iterdir():
        if command.name not in COMMANDS:
            command.unlink()
    (root / VENV / ".gitignore").unlink(missing_ok=True)
    # `python` was a link to a link that has gone with the others.
    python = root / VENV / "bin/python"
    python.unlink()
    python.symlink_to(f"/usr/bin/{PYTHON}")


def compile_all(root: Path) -> None:
    """Compile every module: the image is read-only, and nobody could do it later."""
    for folder in (root / "usr/lib" / PYTHON, root / VENV / "lib"):
        if not compileall.compile_dir(
            folder,
            quiet=1,
            workers=os.cpu_count() or 1,
            stripdir=str(root),
            prependdir="/",
            # Neither a time nor a look at the source: the files cannot change.
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        ):
            raise RuntimeError(f"a module below {folder} does not compile")


def check_libraries(root: Path) -> None:
    """Ask the image's own loader for what each library and program needs. Raises RuntimeError where one is missing."""
    loader = next(path for name in ("lib64", "lib") for path in (root / name).glob("ld-linux*.so.*"))
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_file() or path.open("rb").read(4) != b"\x7fELF":
            continue
        place = f"/{path.relative_to(root)}"
        asked = ["chroot", str(root), f"/{loader.relative_to(root)}", "--list", place]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 our own files
        if "not found" in told.stdout or "cannot open" in told.stderr:
            raise RuntimeError(f"{place} lacks a library:\n{told.stdout}{told.stderr}")


def settle(root: Path, seconds: int) -> None:
    """Give every file the same time, and nobody but root the right to write."""
    for folder, _, names in os.walk(root):
        for path in (Path(folder), *(Path(folder) / name for name in names)):
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
    (root / "tmp").chmod(0o1777)
    for folder, folders, names in os.walk(root, topdown=False):
        for name in (*folders, *names):
            os.utime(Path(folder) / name, (seconds, seconds), follow_symlinks=False)


def main(root: Path) -> None:
    """Lay out everything below `root`, which must be new."""
    for name in ("etc/trunkline", "proc", "sys", "dev", "run", "tmp", "usr/lib"):
        (root / name).mkdir(parents=True)
    for name in ("lib", "lib64"):
        (root / "usr" / name).mkdir(exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in needed(installed()):
        for place in files(package.name):
            copy(place, root)
        record(package, root)
    copy(BUNDLE, root)
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    for name, text in WRITTEN.items():
        (root / name).write_text(text, "utf-8")
    lay_out_environment(root)
    check_libraries(root)
    compile_all(root)
    settle(root, int(os.environ.get("SOURCE_DATE_EPOCH", "1")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
