"""What is in the image, and what is not."""

import json
import re
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from gateway import __version__
from tests.deploy.image.conftest import CANARY, Built
from tests.support.processes import ROOT

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]
SIZE_MAX_BYTES: Final = 270_000_000
SBOM: Final = "usr/share/trunkline/sbom.cdx.json"
# Programs by which one who has got in would go on: shells, installers, downloaders, other interpreters.
UNWANTED: Final = re.compile(
    r"(ba|da|a|z|k|c|tc|fi)?sh|busybox|toybox|env|apt(-.*)?|dpkg(-.*)?|pip[\d.]*|uv|ensurepip|setuptools|easy_install"
    r"|perl[\d.]*|curl|wget|nc|ncat|socat|gdb|gcc|cc|make|openssl|su|sudo|mount|chroot"
)
INSTALLERS: Final = {"pip", "uv", "ensurepip", "setuptools"}
# What is called like the package that it is about.
DESCRIPTIONS: Final = ("usr/share/doc/", "var/lib/dpkg/status.d/")
# Each .pth file and each hook runs code at every start of the interpreter. None is needed.
HOOKS: Final[set[str]] = set()
ASKED: Final = """
import importlib, importlib.metadata, json, pkgutil, ssl, sys
import bz2, ctypes, lzma, sqlite3, uuid, zlib, zoneinfo
import gateway
for each in pkgutil.walk_packages(gateway.__path__, "gateway."):
    if each.name not in ("gateway.__main__", "gateway.store.tether"):
        importlib.import_module(each.name)
print(json.dumps({
    "distributions": sorted([each.metadata["Name"], each.version] for each in importlib.metadata.distributions()),
    "authorities": ssl.create_default_context().cert_store_stats()["x509_ca"],
    "zone": str(zoneinfo.ZoneInfo("Europe/Berlin")),
    "path": sys.path,
    "loaded": sorted(each for each in sys.modules if not each.startswith("gateway")),
}))
"""


def places(files: Path) -> Iterator[tuple[str, Path]]:
    for path in files.rglob("*"):
        yield str(path.relative_to(files)), path


@pytest.fixture(scope="module")
def told(image: Built) -> dict[str, Any]:
    """What the image's interpreter says of itself."""
    return asked(image)


def asked(image: Built) -> dict[str, Any]:
    python = ["--entrypoint", "/opt/trunkline/bin/python", image.tag]
    said = image.containers.podman("run", "--rm", "--read-only", "--cap-drop", "all", *python, "-c", ASKED)
    answer: dict[str, Any] = json.loads(said)
    return answer


def unwanted(files: Path) -> list[str]:
    return [
        place
        for place, path in places(files)
        if UNWANTED.fullmatch(path.name)
        and not place.startswith(DESCRIPTIONS)
        and (path.name in INSTALLERS or not path.is_dir())
    ]


def is_program(path: Path) -> bool:
    """Whether the kernel would start it: an ELF file that names its loader, or that needs none and is executable."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:2] == b"#!":
        return bool(path.stat().st_mode & 0o111)
    if head[:4] != b"\x7fELF":
        return False
    kind, offset, size, count = (
        *struct.unpack_from("<H", head, 16), *struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54)
    )  # fmt: skip
    interpreted = any(struct.unpack_from("<I", head, offset + at * size)[0] == 3 for at in range(count))
    return (interpreted or kind == 2) and ".so" not in path.name


def test_nothing_is_there_by_which_an_intruder_would_go_on(files: Path) -> None:
    assert unwanted(files) == []


def test_the_scan_finds_a_shell_and_an_installer(tmp_path: Path) -> None:
    for name in ("bin/sh", "usr/bin/dash", "opt/x/bin/pip3", "usr/lib/python3.13/ensurepip/__init__.py", "bin/apt-get"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert len(unwanted(tmp_path)) == 5


def test_no_pip_and_no_installer_can_be_imported(told: dict[str, Any]) -> None:
    names = {name for name, _ in told["distributions"]}
    assert names.isdisjoint({"pip", "uv", "setuptools", "wheel", "hatchling", "cyclonedx-bom", "matplotlib"})


def test_the_only_programs_are_the_interpreter_and_the_embedded_server(files: Path) -> None:
    found = {place: path for place, path in places(files) if is_program(path) and path.stat().st_mode & 0o111}
    scripts = {place for place in found if not place.endswith(".py")}
    assert {re.sub(r"\.\d+$", "", place) for place in scripts if place.startswith("usr/")} == {"usr/bin/python3"}
    ours = {place for place in scripts if not place.startswith("usr/")}
    assert {Path(place).name for place in ours} == {"trunkline", "valkey-server"}
    assert {path.name for path in (files / "opt/trunkline/bin").iterdir()} == {"python", "trunkline"}


def test_every_file_that_runs_at_each_start_is_known(files: Path) -> None:
    hooks = ("sitecustomize.", "usercustomize.")
    found = {place for place, path in places(files) if path.suffix == ".pth" or path.name.startswith(hooks)}
    assert found == HOOKS


def test_nothing_belongs_to_the_service_and_nothing_but_tmp_can_be_written(files: Path) -> None:
    for place, path in places(files):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), place
        assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID), place
        if place != "tmp" and not path.is_symlink():
            assert not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH), place
    assert stat.S_IMODE((files / "tmp").stat().st_mode) == 0o1777


def test_every_link_leads_somewhere_inside(files: Path) -> None:
    for place, path in places(files):
        if path.is_symlink():
            target = path.readlink()
            inside = files / target.relative_to("/") if target.is_absolute() else path.parent / target
            assert inside.exists() or inside.is_symlink(), f"{place} → {target}"


def test_every_module_is_compiled_since_nobody_could_do_it_later(files: Path) -> None:
    for source in (files / "opt/trunkline/lib").rglob("gateway/**/*.py"):
        assert list((source.parent / "__pycache__").glob(f"{source.stem}.*.pyc")), source


# The bill of materials.


def test_the_bill_of_materials_is_the_installed_set(files: Path, told: dict[str, Any]) -> None:
    bill = json.loads((files / SBOM).read_text("utf-8"))
    listed = sorted([each["name"], each["version"]] for each in bill["components"] if "pkg:deb/" not in each["bom-ref"])
    assert listed == told["distributions"]
    debian = {(each["name"], each["version"]) for each in bill["components"] if "pkg:deb/" in each["bom-ref"]}
    records = [each.read_text("utf-8") for each in (files / "var/lib/dpkg/status.d").iterdir()]
    assert debian == {
        (re.findall(r"^Package: (.+)$", each, re.MULTILINE)[0], re.findall(r"^Version: (.+)$", each, re.MULTILINE)[0])
        for each in records
    }
    assert bill["metadata"]["component"]["version"] == __version__


def test_the_installed_set_is_the_lock(told: dict[str, Any]) -> None:
    lock = (ROOT / "deploy/docker/requirements.txt").read_text("utf-8")
    pins = set(re.findall(r"^([\w.-]+)==([\w.]+)", lock, re.MULTILINE))
    ours = {("trunkline", __version__), ("trunkline-client", "0.1.0"), ("trunkline-proto", "0.1.0")}
    assert {(name.lower().replace("_", "-"), version) for name, version in told["distributions"]} <= pins | ours


def test_the_build_hands_out_the_same_bill(image: Built, files: Path) -> None:
    assert (image.output / "sbom.cdx.json").read_bytes() == (files / SBOM).read_bytes()


# Surroundings.


def test_it_knows_the_worlds_authorities_and_time_zones(told: dict[str, Any]) -> None:
    assert told["authorities"] > 100
    assert told["zone"] == "Europe/Berlin"


def test_no_secret_of_the_build_is_in_the_image_or_its_history(image: Built, files: Path) -> None:
    canary = CANARY.encode()
    found = [place for place, path in places(files) if not path.is_symlink() and path.is_file() and has(path, canary)]
    assert found == []
    assert CANARY not in json.dumps(image.containers.inspect(image.tag))
    assert not (files / "run/secrets").exists()
    assert not list(files.rglob("pip.conf"))


def has(path: Path, word: bytes) -> bool:
    return word in path.read_bytes()


def test_it_says_who_it_is_and_how_it_runs(image: Built) -> None:
    shown = image.containers.inspect(image.tag)
    config = shown["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/opt/trunkline/bin/trunkline"]
    assert config["Cmd"] == ["serve", "--config", "/etc/trunkline/trunkline.yaml"]
    assert set(config["ExposedPorts"]) == {"50051/tcp", "9464/tcp"}
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert config["Labels"]["org.opencontainers.image.revision"] != "unknown"
    assert image.containers.podman("run", "--rm", "--read-only", image.tag, "version") == __version__
    assert shown["Size"] < SIZE_MAX_BYTES


# What these tests are worth: the image with a fault of each kind, where they must fail.

SPOILT: Final = "localhost/trunkline:spoilt"
FAULTS: Final = {
    "bin/sh": 0o755,
    "opt/trunkline/lib/python3.13/site-packages/start.pth": 0o644,
    "opt/trunkline/lib/python3.13/site-packages/pip-26.0.dist-info/METADATA": 0o644,
    "srv/for-everybody": 0o666,
    "var/lib/dpkg/status.d/curl": 0o644,
    "etc/pip-was-here": 0o644,
}
CHECKS: Final = (
    test_nothing_is_there_by_which_an_intruder_would_go_on,
    test_every_file_that_runs_at_each_start_is_known,
    test_nothing_belongs_to_the_service_and_nothing_but_tmp_can_be_written,
    test_every_link_leads_somewhere_inside,
)


@pytest.fixture(scope="module")
def spoilt(image: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The image, with all of these on top of it."""
    folder = tmp_path_factory.mktemp("spoilt")
    for place, mode in FAULTS.items():
        (folder / "root" / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / "root" / place).write_text(f"Metadata-Version: 2.1\nName: pip\nVersion: 26.0\n# {CANARY}\n", "ascii")
        (folder / "root" / place).chmod(mode)
    (folder / "root/srv/nowhere").symlink_to("/srv/nothing")
    (folder / "Dockerfile").write_text(f"FROM {image.tag}\nUSER 0\nCOPY root/ /\n", "ascii")
    image.containers.buildah("bud", "--quiet", "--pull-never", "--tag", SPOILT, str(folder))
    return Built(SPOILT, "", image.output, image.containers)


@pytest.mark.parametrize("check", CHECKS)
def test_a_spoilt_image_is_noticed(spoilt: Built, check: Callable[[Path], None]) -> None:
    with spoilt.containers.mounted(spoilt.tag) as files, pytest.raises(AssertionError):
        check(files)


def test_a_distribution_that_nobody_listed_is_noticed(spoilt: Built) -> None:
    told = asked(spoilt)
    with spoilt.containers.mounted(spoilt.tag) as files, pytest.raises(AssertionError):
        test_the_bill_of_materials_is_the_installed_set(files, told)
    for check in (test_no_pip_and_no_installer_can_be_imported, test_the_installed_set_is_the_lock):
        with pytest.raises(AssertionError):
            check(told)


def test_a_secret_in_the_image_and_another_user_are_noticed(spoilt: Built) -> None:
    with spoilt.containers.mounted(spoilt.tag) as files, pytest.raises(AssertionError):
        test_no_secret_of_the_build_is_in_the_image_or_its_history(spoilt, files)
    with pytest.raises(AssertionError):
        test_it_says_who_it_is_and_how_it_runs(spoilt)
