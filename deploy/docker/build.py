#!/usr/bin/env python3
"""Builds the image with docker, podman or buildah, and says what came of it.

    deploy/docker/build.py [TAG] [--engine NAME] [--base IMAGE] [--output FOLDER] [-- OPTION …]

The builder's own pip configuration (index, proxy, authority) reaches the build as secrets: nothing of it stands in the
image or in its history. What follows `--` goes to the engine's `build`. Needs nothing but Python.
"""
# ruff: noqa: T201 a script, which prints

import argparse
import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
DOCKERFILE: Final = "deploy/docker/Dockerfile"
ENGINES: Final = ("docker", "podman", "buildah")
PROBE_SECONDS: Final = 30
SBOM: Final = "/usr/share/trunkline/sbom.cdx.json"
CA_SECRET: Final = "/run/secrets/ca.crt"  # noqa: S105 a place
# What of pip's configuration says where packages are and how to get there.
PIP_KEYS: Final = ("index-url", "extra-index-url", "trusted-host", "proxy", "retries", "timeout", "default-timeout")


class BuildError(Exception):
    """The image cannot be built; the text is for whoever asked."""


def said(command: Sequence[str], seconds: float | None = None) -> str:
    """Return what a command says. Raises BuildError with its last words."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise BuildError(f"{' '.join(command[:2])}: {done.stderr.strip()[-500:]}")
    return done.stdout


def engine(wanted: str | None) -> str:
    """Return the engine to use: the wanted one, or the first that works. Raises BuildError."""
    faults: list[str] = []
    for name in [wanted] if wanted else ENGINES:
        if shutil.which(name) is None:
            faults.append(f"{name} is not here")
            continue
        try:
            said([name, "info"], PROBE_SECONDS)
        except BuildError as error:
            faults.append(str(error))
        else:
            return name
    raise BuildError("no engine can build here: " + "; ".join(faults))


# Secrets.


def pip_settings() -> dict[str, str]:
    """Return the builder's own pip configuration, the environment's part last."""
    try:
        text = said([sys.executable, "-m", "pip", "config", "list"], PROBE_SECONDS)
    except BuildError:
        return {}
    found: dict[str, str] = {}
    for line in sorted(text.splitlines(), key=lambda each: each.startswith(":env:")):
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in ("global", "install", ":env:"):
            found[key] = str(ast.literal_eval(value))
    return found


def secrets(folder: Path) -> list[str]:
    """Write what the build may read, and return the options that show it."""
    settings = pip_settings()
    # What is on this machine's own disk is not in the build.
    reachable = [each for each in settings.get("extra-index-url", "").split() if not each.startswith(("file:", "/"))]
    kept: dict[str, str] = {key: settings[key] for key in PIP_KEYS if key in settings and key != "extra-index-url"}
    if reachable:
        kept["extra-index-url"] = "\n".join(reachable)
    options = ["--secret", f"id=pip,src={folder / 'pip.conf'}"]
    if authority := settings.get("cert") or os.environ.get("SSL_CERT_FILE"):
        kept["cert"] = CA_SECRET
        options += ["--secret", f"id=ca,src={authority}"]
    written = configparser.RawConfigParser()
    written["global"] = kept
    with (folder / "pip.conf").open("w", encoding="utf-8") as file:
        written.write(file)
    return options


# Labels.


def version() -> str:
    """Return the version of the service in this tree."""
    text = (ROOT / "gateway/__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if found is None:
        raise BuildError("gateway/__init__.py names no __version__")
    return found[1]


def origin() -> dict[str, str]:
    """Return the commit and its time, where this is a clone."""
    try:
        revision, seconds = said(["git", "log", "-1", "--format=%H %ct"], PROBE_SECONDS).split()
        changed = said(["git", "status", "--porcelain"], PROBE_SECONDS).strip()
    except (BuildError, ValueError):
        return {}
    return {"REVISION": revision + ("-changed" if changed else ""), "SOURCE_DATE_EPOCH": seconds}


# The image.


def build(name: str, tag: str, base: str | None, options: Sequence[str]) -> None:
    """Build it. Raises BuildError."""
    arguments = {"VERSION": version(), **origin(), **({"BASE": base} if base else {})}
    command = [name, "build", "--file", DOCKERFILE, "--tag", tag]
    for key, value in arguments.items():
        command += ["--build-arg", f"{key}={value}"]
    with tempfile.TemporaryDirectory() as folder:
        command += [*secrets(Path(folder)), *options, "."]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"}, check=False)  # noqa: S603
    if done.returncode:
        raise BuildError(f"{name} could not build {tag}; its own words stand above")


def size_bytes(name: str, tag: str) -> int:
    """Return how large the image is."""
    if name == "buildah":
        shown = json.loads(said([name, "images", "--json", tag]))
        return int(shown[0]["sizeRaw"]) if "sizeRaw" in shown[0] else _bytes(shown[0]["size"])
    return int(said([name, "image", "inspect", "--format", "{{.Size}}", tag]))


def _bytes(text: str) -> int:
    """Read what buildah writes for people: `248 MB`."""
    number, unit = text.split()
    return round(float(number) * {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}[unit.upper()])


def take_sbom(name: str, tag: str, output: Path) -> Path:
    """Copy the bill of materials out of the image."""
    output.mkdir(parents=True, exist_ok=True)
    file = output / "sbom.cdx.json"
    if name == "buildah":
        container = said([name, "from", tag]).strip()
        try:
            mounted = said([name, "mount", container]).strip()
            shutil.copyfile(f"{mounted}{SBOM}", file)
        finally:
            said([name, "rm", container])
    else:
        container = said([name, "create", tag]).strip()
        try:
            said([name, "cp", f"{container}:{SBOM}", str(file)])
        finally:
            said([name, "rm", container])
    return file


def main() -> int:
    """Build, and print the name, the size and where the bill of materials is."""
    given, options = sys.argv[1:], []
    if "--" in given:
        at = given.index("--")
        given, options = given[:at], given[at + 1 :]
    parser = argparse.ArgumentParser(description="Build the image.", epilog="What follows -- goes to the engine.")
    parser.add_argument("tag", nargs="?", help="the image's name; trunkline:<version> by default")
    parser.add_argument("--engine", choices=ENGINES, help="the first that works by default")
    parser.add_argument("--base", help="another base than the Dockerfile's, best by its digest")
    parser.add_argument("--output", type=Path, default=ROOT / "output", help="where the bill of materials goes")
    asked = parser.parse_args(given)
    try:
        tag = asked.tag or f"trunkline:{version()}"
        name = engine(asked.engine)
        build(name, tag, asked.base, options)
        file = take_sbom(name, tag, asked.output)
        print(f"{tag}: {size_bytes(name, tag) / 1e6:.0f} MB, built by {name}; bill of materials in {file}")
    except BuildError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
