"""The service never forks: a copy of a process with gRPC's threads in it may stand still for ever.

What it starts are programs, by `exec`, and few places start any.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

GATEWAY: Final = Path(__file__).parents[3] / "gateway"
# A copy of this process that goes on in Python.
FORKS: Final = frozenset({"fork", "forkpty", "multiprocessing", "ProcessPoolExecutor", "preexec_fn"})
STARTS: Final = frozenset({"subprocess", "create_subprocess_exec", "create_subprocess_shell", "system", "popen", "pty"})
# Commands of the command line, and the store's own server.
STARTERS: Final = {"cli/children.py", "store/embedded.py", "store/tether.py"}


def names(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.Import(names=imported) | ast.ImportFrom(names=imported):
                yield from (part for each in imported for part in each.name.split("."))
        if isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")


def users(wanted: frozenset[str]) -> set[str]:
    files = sorted(GATEWAY.rglob("*.py"))
    assert len(files) > 100
    return {str(each.relative_to(GATEWAY)) for each in files if wanted & set(names(each.read_text("utf-8")))}


def test_nothing_forks_and_few_places_start_a_program() -> None:
    assert users(FORKS) == set()
    assert users(STARTS) == STARTERS


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.fork()",
        "import multiprocessing.pool",
        "from multiprocessing import Process",
        "from concurrent.futures import ProcessPoolExecutor as Pool",
        "start(preexec_fn=print)",
    ],
)
def test_a_fork_would_be_seen(source: str) -> None:
    assert FORKS & set(names(source))
