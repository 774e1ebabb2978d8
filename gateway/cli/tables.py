"""Tables that fit: on a narrow terminal long words are cut first, and then whole columns are left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from gateway.cli.words import printable

_Row = TypeVar("_Row")
# Below this width columns stand closer together.
WIDE: Final = 100


@dataclass(frozen=True, slots=True)
class Column(Generic[_Row]):
    """One column. `least` is how narrow its words may be cut, 0 = not at all; the lowest `rank` is left out first."""

    title: str
    cell: Callable[[_Row], str]
    rank: int
    least: int = 0
    is_number: bool = False


def fitted(
    columns: Sequence[Column[_Row]], rows: Sequence[_Row], width: int, style: Callable[[_Row], str], room: int
) -> Table:
    """Return a table of at most `width` cells and `room` lines below its titles; the last line counts what is left."""
    shown, left = cut(rows, room)
    cells = [[printable(column.cell(row)) for column in columns] for row in shown]
    gap = 2 if width >= WIDE else 1
    widths = _widths(columns, cells, width, gap)
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    for place, each in widths.items():
        column = columns[place]
        justify: Literal["left", "right"] = "right" if column.is_number else "left"
        table.add_column(column.title, width=each, no_wrap=True, overflow="ellipsis", justify=justify)
    for row, texts in zip(shown, cells, strict=True):
        table.add_row(*(Text(texts[place]) for place in widths), style=style(row))
    if left:
        table.caption = f"… {left} more"
        table.caption_justify = "left"
        table.caption_style = "dim"
    return table


def cut(rows: Sequence[_Row], room: int) -> tuple[Sequence[_Row], int]:
    """Return the rows that fit into so many lines, and how many do not; one line is for saying so."""
    if len(rows) <= room:
        return rows, 0
    shown = rows[: max(0, room - 1)]
    return shown, len(rows) - len(shown)


def _widths(columns: Sequence[Column[_Row]], cells: Sequence[Sequence[str]], width: int, gap: int) -> dict[int, int]:
    """Return the width of each column that is shown, by its place."""
    wanted = {
        place: max([cell_len(column.title), *(cell_len(row[place]) for row in cells)])
        for place, column in enumerate(columns)
    }
    widths = {place: min(each, columns[place].least or each) for place, each in wanted.items()}

    def spare() -> int:
        return width - sum(widths.values()) - gap * len(widths)

    while spare() < 0 and len(widths) > 1:
        del widths[min(widths, key=lambda place: columns[place].rank)]
    while spare() > 0 and (short := [place for place in widths if widths[place] < wanted[place]]):
        widths[min(short, key=lambda place: widths[place])] += 1
    return widths
