"""Generates the reference pages of the documentation, or (without --write) says which committed ones are stale."""

import sys
from pathlib import Path
from typing import Final

from tests.support import (
    reference_commands,
    reference_contract,
    reference_errors,
    reference_metrics,
    reference_settings,
)

FOLDER: Final = Path(__file__).parents[2] / "docs" / "reference"
_SINGLE: Final = (reference_settings, reference_metrics, reference_errors, reference_commands)


def pages() -> dict[str, str]:
    """Return the text of every generated page, by its name below docs/reference."""
    return {**{each.NAME: each.render() for each in _SINGLE}, **reference_contract.pages()}


def stale() -> list[str]:
    """Return the pages that differ from what the generators make, and those that nobody makes."""
    fresh = pages()
    there = {str(path.relative_to(FOLDER)): path.read_text("utf-8") for path in FOLDER.rglob("*.md")}
    return sorted(name for name in fresh.keys() | there.keys() if fresh.get(name) != there.get(name))


def write() -> None:
    """Write every page, and remove those that nobody makes any more."""
    fresh = pages()
    for path in FOLDER.rglob("*.md"):
        if str(path.relative_to(FOLDER)) not in fresh:
            path.unlink()
    for name, text in fresh.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def main() -> int:
    """Write, or compare."""
    if "--write" in sys.argv:
        write()
        return 0
    if names := stale():
        print(f"generated pages are stale, run `make docs`: {', '.join(names)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
