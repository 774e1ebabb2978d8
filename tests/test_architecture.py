"""The architecture is tested: who may import whom, sizes, and that the checks themselves can fail."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.fresh_proto import stale

ROOT = Path(__file__).parents[1]
LINES_MAX = 300
# Longer, and why.
LONG = {
    "gateway/core/events.py": "values only, one beside the other as the contract has them",
    "gateway/core/realtime.py": "values only, one per server event",
    "gateway/core/pool.py": "one short method for each input that a pool takes",
}

# A contract's name → (file, line that breaks it).
VIOLATIONS = {
    "The rooms, from the outside in": ("gateway/upstream/dialer.py", "import gateway.store.keys"),
    "The core does no I/O and owns no clock": ("gateway/core/backoff.py", "import time"),
    "The runtime names no library of the outside": ("gateway/runtime/tasks.py", "import grpc"),
    "The simulator knows nothing of the service but its audio arithmetic": (
        "gateway/simulator/vad.py",
        "import gateway.core.realtime",
    ),
    "Only rpc speaks gRPC, and one file of the command": (
        "gateway/telemetry/health.py",
        "import grpc",
    ),
    "Only upstream speaks WebSocket as a client": ("gateway/rpc/views.py", "import websockets"),
    "Only store speaks Redis": ("gateway/telemetry/metrics.py", "import redis"),
    "Only telemetry names metrics": ("gateway/store/writer.py", "import prometheus_client"),
    "Only telemetry makes spans": ("gateway/runtime/teller.py", "import opentelemetry"),
    "Server and client meet only in the contract, and in the command": (
        "gateway/rpc/server.py",
        "import trunkline_client",
    ),
    "The client knows nothing of the service": (
        "clients/python/trunkline_client/audio.py",
        "import gateway.core.audio",
    ),
    "The contract knows nobody": ("proto/trunkline/v1/__init__.py", "import gateway"),
}


def _contracts() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return [each["name"] for each in settings["tool"]["importlinter"]["contracts"]]


def _lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    paths = [tree, tree / "proto", tree / "clients/python"]
    program = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}; "
    program += "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=120, check=False)


def test_every_contract_has_a_violation_that_shows_it_works() -> None:
    assert sorted(VIOLATIONS) == sorted(_contracts())


@pytest.mark.heavy
@pytest.mark.parametrize("contract", [None, *VIOLATIONS])
def test_each_import_contract_holds_and_fails_on_purpose(contract: str | None, tmp_path: Path) -> None:
    for name in ("gateway", "proto", "clients"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    if contract is not None:
        file, line = VIOLATIONS[contract]
        seeded = tmp_path / file
        seeded.write_text(f"{seeded.read_text('utf-8')}\n{line}\n", encoding="utf-8")

    linted = _lint_imports(tmp_path)

    broken = [name for name in _contracts() if f"{name} BROKEN" in linted.stdout]
    if contract is None:
        assert (linted.returncode, broken) == (0, []), linted.stdout
    else:
        assert linted.returncode == 1, linted.stdout + linted.stderr
        assert contract in broken, linted.stdout


def test_a_new_room_is_noticed(tmp_path: Path) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    rooms = settings["tool"]["importlinter"]["contracts"][0]
    assert rooms["exhaustive"] is True
    named = {part.strip() for layer in rooms["layers"] for part in layer.split("|")}
    there = {path.stem for path in (ROOT / "gateway").iterdir() if not path.name.startswith("__")}
    assert there == named


def test_long_files_have_a_reason() -> None:
    ours = [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "clients/python/trunkline_client").rglob("*.py")]
    long = {str(path.relative_to(ROOT)) for path in ours if len(path.read_text("utf-8").splitlines()) > LINES_MAX}
    assert long <= set(LONG)


def test_the_generated_contract_is_fresh() -> None:
    assert stale() == []
