"""Tables fit, whatever they hold."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from gateway.cli.tables import Column, cut, fitted

Row = dict[str, str]
COLUMNS: tuple[Column[Row], ...] = (
    Column("name", lambda row: row["name"], rank=9, least=8),
    Column("count", lambda row: row["count"], rank=8, is_number=True),
    Column("spare", lambda row: row["spare"], rank=1),
    Column("words", lambda row: row["words"], rank=5, least=6),
)
ROWS = [{"name": "n" * size, "count": "7" * 5, "spare": "s" * 9, "words": "東京" * size} for size in (3, 40, 12)]


def lines(rows: list[Row], width: int, room: int = 99) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(fitted(COLUMNS, rows, width, lambda _: "", room))
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [14, 20, 24, 30, 40, 60, 99, 100, 140, 200])
def test_no_line_is_wider_than_the_terminal_and_no_row_takes_two(width: int) -> None:
    shown = lines(ROWS, width)
    assert len(shown) == 1 + len(ROWS)
    assert max(map(cell_len, shown)) <= width


def test_numbers_are_never_cut() -> None:
    for width in range(16, 60):
        assert all("77777" in line for line in lines(ROWS, width)[1:]), width


def test_what_matters_least_is_left_out_first_and_what_is_left_uses_the_room() -> None:
    assert all(word in lines(ROWS, 200)[0] for word in ("name", "count", "spare", "words"))
    narrow = lines(ROWS, 30)
    assert "spare" not in narrow[0]
    assert narrow[0].split() == ["name", "count", "words"]
    assert cell_len(narrow[2].rstrip()) >= 28


def test_everything_is_whole_where_there_is_room() -> None:
    assert "n" * 40 in lines(ROWS, 300)[2]
    assert "東京" * 40 in lines(ROWS, 300)[2]


def test_an_empty_table_has_its_titles() -> None:
    assert lines([], 80)[0].split() == ["name", "count", "spare", "words"]


@pytest.mark.parametrize(
    ("rows", "room", "shown", "left"), [(3, 3, 3, 0), (4, 3, 2, 2), (9, 1, 0, 9), (9, 0, 0, 9), (0, 0, 0, 0)]
)
def test_the_line_that_says_how_many_are_left_takes_the_place_of_a_row(
    rows: int, room: int, shown: int, left: int
) -> None:
    found, more = cut(range(rows), room)
    assert (len(found), more) == (shown, left)


def test_how_many_are_left_is_said() -> None:
    shown = lines(ROWS, 80, room=2)
    assert len(shown) == 3
    assert shown[-1].strip() == "… 2 more"
