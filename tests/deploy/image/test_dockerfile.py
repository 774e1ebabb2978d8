"""The Dockerfile, what goes into its build, and its locks. Nothing is built here but a list of files."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.containers import DOCKERFILE, Containers, command
from tests.support.processes import ROOT
from tests.support.tools import venv_script

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(300)]
FOLDER: Final = DOCKERFILE.parent
LOCKS: Final = ("requirements.txt", "requirements-build.txt")
# What a working folder may hold → whether the build may see it.
SEEN: Final = {
    "LICENSE": True,
    "README.md": True,
    "pyproject.toml": True,
    "gateway/core/pool.py": True,
    "gateway/store/slots.lua": True,
    "proto/pyproject.toml": True,
    "proto/trunkline/v1/session.proto": True,
    "clients/python/pyproject.toml": True,
    "clients/python/README.md": True,
    "clients/python/trunkline_client/aio.py": True,
    "deploy/docker/requirements.txt": True,
    "deploy/docker/requirements-build.txt": True,
    "deploy/docker/rootfs.py": True,
    "deploy/docker/sbom.py": True,
    ".env": False,
    ".git/config": False,
    ".venv/bin/python": False,
    "openai.key": False,
    "output/sbom.cdx.json": False,
    "gateway/core/__pycache__/pool.cpython-311.pyc": False,
    "gateway/core/pool.pyc": False,
    "proto/released.binpb": False,
    "clients/python/tests/test_sync.py": False,
    "clients/python/examples/call.py": False,
    "clients/python/.pypirc": False,
    "deploy/docker/compose.yaml": False,
    "deploy/docker/build.py": False,
    "deploy/helm/trunkline/values.yaml": False,
    "tests/conftest.py": False,
    "requirements-dev.txt": False,
}


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [venv_script("hadolint"), "--no-color", str(file)], capture_output=True, text=True, timeout=60, check=False
    )


def test_hadolint_finds_nothing() -> None:
    done = hadolint(DOCKERFILE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        ("WORKDIR /build", "WORKDIR build", "DL3000"),
        ("ARG BASE=debian:trixie-slim", "ARG BASE=debian:trixie-slim\nFROM debian:latest AS other", "DL3007"),
        ("--no-install-recommends ", "", "DL3015"),
        ('ENTRYPOINT ["/opt/trunkline/bin/trunkline"]', "ENTRYPOINT /opt/trunkline/bin/trunkline", "DL3025"),
        ("USER 65532:65532", "USER 65532:65532\nUSER root", "DL3002"),
        ("# hadolint ignore=DL3008\n", "", "DL3008"),
    ],
)
def test_hadolint_finds_a_fault(tmp_path: Path, good: str, bad: str, rule: str) -> None:
    text = DOCKERFILE.read_text("utf-8")
    assert good in text
    faulty = tmp_path / "Dockerfile"
    faulty.write_text(text.replace(good, bad, 1), "utf-8")
    assert rule in hadolint(faulty).stdout


def stages(text: str) -> list[list[str]]:
    """Return the instructions of each stage, long ones on one line."""
    lines = [
        line
        for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
        if line.strip()
    ]
    starts = [at for at, line in enumerate(lines) if line.startswith("FROM ")]
    return [lines[at:end] for at, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


def test_the_final_stage_runs_nothing_and_takes_from_the_build_alone() -> None:
    build, final = stages(DOCKERFILE.read_text("utf-8"))
    assert build[0] == "FROM ${BASE} AS build"
    assert final[0] == "FROM scratch"
    assert {line.split()[0] for line in final}.isdisjoint({"RUN", "ADD", "SHELL", "VOLUME"})
    assert [line for line in final if line.startswith("COPY")] == ["COPY --from=build /rootfs/ /"]
    for line in final:
        if line.split()[0] in ("CMD", "ENTRYPOINT"):
            assert re.fullmatch(r'\w+ \[".+"\]', line), f"a shell would run: {line}"


def test_every_installation_is_held_to_hashes_or_to_no_index_at_all() -> None:
    build, _ = stages(DOCKERFILE.read_text("utf-8"))
    installs = [
        each
        for line in build
        for each in line.split("&&")
        if re.search(r"bin/pip( --python \S+)? (install|wheel)\b", each)
    ]
    assert len(installs) == 4
    assert all("--require-hashes" in each or "--no-index" in each for each in installs)


# What the build sees.


def test_the_build_sees_nothing_but_what_is_allowed(engine: Containers, tmp_path: Path) -> None:
    assert seen(engine, tmp_path, (ROOT / ".dockerignore").read_text("utf-8")) == {n for n, yes in SEEN.items() if yes}


def test_a_list_that_lets_too_much_through_is_noticed(engine: Containers, tmp_path: Path) -> None:
    everything = (ROOT / ".dockerignore").read_text("utf-8").replace("\n*\n", "\n")
    assert {".env", ".git/config", "openai.key"} <= seen(engine, tmp_path, everything)


def seen(engine: Containers, folder: Path, ignored: str) -> set[str]:
    """Copy a folder with all of this into an image, as `COPY . .` does, and say what arrived."""
    context = folder / "context"
    for name in SEEN:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).write_text("x", "ascii")
    (context / ".dockerignore").write_text(ignored, "utf-8")
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . ./\n", "ascii")
    tag = "localhost/context:tested"
    engine.buildah("bud", "--quiet", "--no-cache", "--file", str(folder / "Dockerfile"), "--tag", tag, str(context))
    with engine.mounted(tag) as mounted:
        arrived = {str(each.relative_to(mounted)) for each in mounted.rglob("*") if each.is_file()}
    engine.podman("rmi", "--force", tag)
    shutil.rmtree(context)
    return arrived - {".dockerignore"}


# The locks.


def pins(file: Path) -> dict[str, set[str]]:
    """Return each pinned name with its versions, and the hashes of each."""
    text = file.read_text("utf-8")
    found: dict[str, set[str]] = {}
    for block in re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE):
        if name := re.match(r"([\w.-]+)==(\S+)", block):
            found.setdefault(name[1], set()).update([name[2], *re.findall(r"sha256:\w{64}", block)])
    return found


def test_the_image_has_what_the_service_has_elsewhere() -> None:
    image, service = pins(FOLDER / LOCKS[0]), pins(ROOT / "requirements.txt")
    assert {name: each for name, each in image.items() if service.get(name) != each} == {}
    assert image.keys().isdisjoint({"matplotlib", "hatchling", "cyclonedx-bom", "pip"})


def test_the_build_uses_what_the_checks_use() -> None:
    build, checks = pins(FOLDER / LOCKS[1]), pins(ROOT / "requirements-deploy.txt")
    assert {name: each for name, each in build.items() if checks.get(name) != each} == {}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_by_hash_and_names_no_place(name: str) -> None:
    text = (FOLDER / name).read_text("utf-8")
    assert all(len(each) > 1 for each in pins(FOLDER / name).values())
    assert not re.search(r"https?:|file:|--index|--find-links", text)


# The script.


def build_script(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(FOLDER / "build.py"), *arguments]
    return subprocess.run(script, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_without_an_engine_the_build_says_which_it_looked_for() -> None:
    done = build_script("trunkline:x", PATH="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "build.py: no engine can build here: docker is not here; podman is not here; buildah is not here\n"
    )


def test_an_engine_that_does_not_work_is_passed_over_with_its_own_words(tmp_path: Path) -> None:
    for name in ("docker", "podman"):
        (tmp_path / name).write_text(f"#!{sys.executable}\nimport sys\nsys.exit('{name} is out of order')\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    done = build_script("trunkline:x", PATH=str(tmp_path))
    assert done.returncode == 1
    for words in ("docker is out of order", "podman is out of order", "buildah is not here"):
        assert words in done.stderr


def test_an_engine_that_fails_leaves_no_traceback(engine: Containers, tmp_path: Path) -> None:
    command("buildah")
    options = ["--engine", "buildah", "--base", "localhost/nonesuch:1", "--", "--pull-never"]
    done = build_script("trunkline:x", "--output", str(tmp_path), *options, **engine.env)
    assert done.returncode == 1
    assert done.stderr.endswith("build.py: buildah could not build trunkline:x; its own words stand above\n")
    assert "Traceback" not in done.stderr
