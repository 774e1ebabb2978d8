"""A machine that runs `.ci/run` has what the tests call, and the tests call nothing else."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tools

ROOT = Path(__file__).parents[1]
FOLDERS = ("tests", "clients/python/tests")
STARTERS = {
    "run", "Popen", "call", "check_call", "check_output", "getoutput", "getstatusoutput",
    "create_subprocess_exec", "create_subprocess_shell", "system", "popen", "which",
    "execv", "execve", "execvp", "execlp", "spawnv", "spawnvp", "posix_spawn",
}  # fmt: skip
# What POSIX itself promises.
EVERYWHERE = {"sh"}
# Where else they may stand than in a call: nothing but the table itself asks for a path by name.
ASKS = ROOT / "tests/support/tools.py"


def sources() -> list[Path]:
    return [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]


def installed() -> set[str]:
    """Return the packages that `.ci/run` installs."""
    found = re.search(r"^packages=\(\n(.*?)^\)", (ROOT / ".ci/run").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert found is not None
    return set(found[1].split())


def named_commands(source: str) -> Iterator[tuple[int, str]]:
    """Yield each command that is started or looked up by a literal name."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name not in STARTERS:
            continue
        first: ast.expr = node.args[0]
        while isinstance(first, ast.List | ast.Tuple) and first.elts:
            first = first.elts[0]
        if isinstance(first, ast.Starred):
            first = first.value
            if isinstance(first, ast.List | ast.Tuple) and first.elts:
                first = first.elts[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield node.lineno, first.value
        elif isinstance(first, ast.JoinedStr):
            yield node.lineno, ast.unparse(first)


def test_every_package_that_tests_need_is_installed_by_ci() -> None:
    assert set(tools.PACKAGES.values()) <= installed()


def test_ci_installs_no_package_that_nothing_needs() -> None:
    assert installed() <= set(tools.PACKAGES.values())


def test_no_test_starts_a_command_by_a_literal_name() -> None:
    """But through `tool(…)`, `where(…)`, `venv_script(…)` or `sys.executable`."""
    found = {
        f"{file.relative_to(ROOT)}:{line}": command
        for file in sources()
        if file != ASKS
        for line, command in named_commands(file.read_text("utf-8"))
        if command not in EVERYWHERE
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run(['curl', 'x'])",
        "subprocess.Popen(('curl',))",
        "await asyncio.create_subprocess_exec('curl', 'x')",
        "await asyncio.create_subprocess_exec(*['curl', 'x'])",
        "os.system('curl x')",
        "shutil.which('curl')",
        "subprocess.check_output(f'curl {x}', shell=True)",
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str) -> None:
    code = f"async def f():\n    {source}"
    assert [command.strip("f'").split()[0] for _, command in named_commands(code)] == ["curl"]


def test_a_missing_command_is_skipped_at_home_and_a_failure_in_ci(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install make"):
        tools.tool("make")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install make"):
        tools.tool("make")
