"""Seeds one fault after another in a copy of the pool's core and sees the tests fail: the tests' own test.

`python tests/mutants/run.py [NAME …]`. Each fault is a file beside this one. The working tree is not touched.
Exit code 1 when a fault survives or its place is not found any more, 2 when the tests fail without any fault.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
AT_ONCE: Final = 2
TIMEOUT_SECONDS: Final = 120
UNIT: Final = (
    "backoff breaker connection demand lease pool pool_breaker pool_dials pool_ends pool_failures pool_recoveries "
    "pool_reservations pool_shares pool_timer reservation"
)
# The quick ones first: most faults need no more.
SUITES: Final = (
    [f"tests/unit/core/test_{name}.py" for name in UNIT.split()],
    ["tests/property/test_pool_machine.py"],
)
MACHINE_ALONE: Final = "--machine-alone"


@dataclass(frozen=True)
class Fault:
    """One change to one file that breaks a promise."""

    name: str
    file: str
    why: str
    old: str
    new: str

    @classmethod
    def read(cls, path: Path) -> "Fault":
        return cls(path.stem, **tomllib.loads(path.read_text("utf-8")))

    def seed(self, tree: Path) -> bool:
        """Apply it to a copy; False = its place is not there exactly once."""
        target = tree / self.file
        text = target.read_text("utf-8")
        if text.count(self.old) != 1 or self.old == self.new:
            return False
        target.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return True


@dataclass(frozen=True)
class Verdict:
    """What became of a fault: the test that caught it, or what went wrong."""

    name: str
    caught_by: str
    seconds: float
    is_good: bool


def copied(tree: Path) -> Path:
    """Copy what the tests of the core need."""
    unneeded = shutil.ignore_patterns("__pycache__", ".hypothesis", "recordings")
    for folder in ("gateway", "tests/unit/core", "tests/property"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=unneeded)
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def tested(tree: Path, files: list[str]) -> str:
    """Run tests in a copy until one fails; return its name, empty when all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutants", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            [*command, *files],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"(over {TIMEOUT_SECONDS} s)"
    if done.returncode == 0:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) \S*?([^/\s]+\.py\S*)", done.stdout, re.MULTILINE)
    return failed[1] if failed else f"(pytest ended with {done.returncode}) {done.stdout[-200:]}"


def judge(fault: Fault | None, suites: Iterable[list[str]], whole: Path) -> Verdict:
    """Seed a fault, None for none, in a copy of `whole` and see whether the tests notice."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="trunkline-mutant-") as folder:
        tree = Path(shutil.copytree(whole, folder, dirs_exist_ok=True))
        name = fault.name if fault else "(no fault)"
        if fault is not None and not fault.seed(tree):
            return Verdict(name, "DOES NOT APPLY", 0.0, is_good=False)
        caught_by = next((found for files in suites if (found := tested(tree, files))), "")
    seconds = time.monotonic() - began
    if fault is None:
        return Verdict(name, caught_by or "all tests pass", seconds, is_good=not caught_by)
    return Verdict(name, caught_by or "SURVIVES", seconds, is_good=bool(caught_by))


def say(verdict: Verdict) -> None:
    sys.stdout.write(f"{verdict.name:34} {verdict.seconds:5.1f} s  {verdict.caught_by}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    suites = SUITES[1:] if MACHINE_ALONE in arguments else SUITES
    names = [each for each in arguments if each != MACHINE_ALONE]
    faults = [Fault.read(path) for path in sorted(HERE.glob("*.toml")) if not names or path.stem in names]
    began = time.monotonic()
    # Everything is judged by one state of the tree, whatever is edited meanwhile.
    with tempfile.TemporaryDirectory(prefix="trunkline-mutants-") as folder, ThreadPoolExecutor(AT_ONCE) as runners:
        whole = copied(Path(folder))
        sound = runners.submit(judge, None, suites, whole)
        coming = [runners.submit(judge, fault, suites, whole) for fault in faults]
        say(sound.result())
        if not sound.result().is_good:
            runners.shutdown(cancel_futures=True)
            return 2
        verdicts = []
        for verdict in (each.result() for each in coming):
            say(verdict)
            verdicts.append(verdict)
    bad = [verdict.name for verdict in verdicts if not verdict.is_good]
    sys.stdout.write(f"{len(verdicts) - len(bad)} of {len(verdicts)} faults caught, {time.monotonic() - began:.0f} s\n")
    return 1 if bad or not verdicts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
