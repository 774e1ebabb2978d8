"""The page of what can go wrong: each row is there once, in order, and the tests that it names are there."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs/fault-matrix.md"
SCENARIOS: Final = "tests/chaos/__main__.py"
# A row keeps its name for ever; a new one goes to the end of its table.
ROWS: Final = (
    *(f"A{number}" for number in range(1, 31)),
    *(f"B{number}" for number in range(1, 14)),
    *(f"C{number}" for number in range(1, 15)),
    *(f"D{number}" for number in range(1, 13)),
    *(f"E{number}" for number in range(1, 11)),
    *(f"F{number}" for number in range(1, 7)),
)
# So many rows may lack something. Less is welcome: then this number comes down, and never goes up again.
NOT_YET_MAX: Final = 8
NOT_YET: Final = "**not yet:** "
COLUMNS: Final = ["row", "what happens", "what the gateway does", "what the caller notices", "shown by"]
NAMED: Final = re.compile(r"`([\w/.]+\.py)::(\w+)`")


@cache
def rows() -> list[list[str]]:
    """Return the cells of each row; heads and rulers are not among them."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row != COLUMNS and not set("".join(row)) <= {"-"}]


def named() -> Iterator[tuple[str, str, str]]:
    """Return row, file and name of each test that the page names."""
    for row in rows():
        for path, name in NAMED.findall(row[-1]):
            yield row[0], path, name


@cache
def functions(path: str) -> frozenset[str]:
    """Return the names of a file's own functions, without running any of it."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def scenarios() -> dict[str, str]:
    """Return what `make chaos` runs, and the file in which each is."""
    tree = ast.parse((ROOT / SCENARIOS).read_text("utf-8"))
    tables = [
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "SCENARIOS"
    ]
    (table,) = tables
    assert isinstance(table, ast.Dict)
    run = {each.id for each in table.values if isinstance(each, ast.Name)}
    modules = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {
        each.name: f"{(module.module or '').replace('.', '/')}.py"
        for module in modules
        for each in module.names
        if each.name in run
    }


def is_there(path: str, name: str) -> bool:
    """Whether a test runs under this name."""
    if not (ROOT / path).is_file() or name not in functions(path):
        return False
    return name.startswith("test_") or scenarios().get(name) == path


def test_each_row_is_there_once_and_in_order() -> None:
    assert [row[0] for row in rows()] == list(ROWS)


@pytest.mark.parametrize("number", range(len(ROWS)), ids=ROWS)
def test_a_row_says_what_happens_and_what_shows_it(number: int) -> None:
    row = rows()[number]
    assert len(row) == len(COLUMNS)
    assert all(row)
    left = NAMED.sub("", row[-1].partition(NOT_YET)[0]).replace("<br>", "")
    assert left == "", "tests stand alone in the last column"
    assert NAMED.search(row[-1]) or NOT_YET in row[-1]


def test_every_test_that_is_named_is_there() -> None:
    assert [each for each in named() if not is_there(*each[1:])] == []


def test_no_row_names_a_test_twice() -> None:
    assert [each for each, count in Counter(named()).items() if count > 1] == []


def test_less_and_less_is_not_there_yet() -> None:
    lacking = [row[0] for row in rows() if "not yet" in row[-1].lower()]
    assert lacking == [row[0] for row in rows() if NOT_YET in row[-1]], "in these words alone"
    assert len(lacking) <= NOT_YET_MAX


def test_a_name_that_is_nobodys_would_be_seen() -> None:
    here = "tests/test_fault_matrix.py"
    assert is_there(here, "test_a_name_that_is_nobodys_would_be_seen")
    assert not is_there(here, "test_that_was_renamed")
    assert not is_there(here, "named"), "nobody runs it"
    assert not is_there("tests/test_that_was_moved.py", "test_a_name")
    assert scenarios()["kills"] == "tests/chaos/gateways.py"
    assert is_there("tests/chaos/gateways.py", "kills")
    assert not is_there("tests/chaos/gateways.py", "struck"), "a part of one"
