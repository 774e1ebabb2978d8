"""What a page tells its reader to type, to save, and to expect.

Shell blocks (`sh`) hold commands alone. Console blocks hold commands behind `$ ` (`> ` goes on with one), and
below each what it answers. A block with a `title` is a file to save under that name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TITLE: Final = re.compile(r'title="([^"]+)"')
# A shell command goes on in the next line after these; a loop, until it is done.
_GOES_ON: Final = ("\\", "|", "&&", "||")
_LOOP, _LOOP_END = re.compile(r"\b(?:for|while|until)\b.*"), re.compile(r"^\s*done\b")
# What differs from run to run: a number, or what the page leaves out.
_NUMBER: Final = re.compile(r"\d[\d.,]*")
LEFT_OUT: Final = "…"


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    title: str
    body: str


@dataclass(frozen=True)
class Command:
    """One command, and the lines that the page shows below it."""

    text: str
    shown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Save:
    """A file that the reader saves."""

    name: str
    content: str


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, by its path in the repository."""
    text = (ROOT / page).read_text("utf-8")
    return [
        Block(language, found[1] if (found := _TITLE.search(rest)) else "", body)
        for language, rest, body in _FENCE.findall(text)
    ]


def steps(page: str) -> Iterator[Command | Save]:
    """Yield what a reader of the page does, in order."""
    for block in blocks(page):
        if block.title:
            yield Save(block.title, block.body)
        elif block.language == "console":
            yield from _console(block.body)
        elif block.language == "sh":
            yield from map(Command, shell_commands(block.body))


def commands(page: str) -> list[Command]:
    """Return the commands of the page."""
    return [each for each in steps(page) if isinstance(each, Command)]


def _console(body: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        first, *rest = part.rstrip("\n").split("\n")
        more = [line[2:] for line in rest if line.startswith("> ")]
        shown = [line for line in rest if line.strip() and not line.startswith("> ")]
        yield Command("\n".join([first, *more]), tuple(shown))


def shell_commands(body: str) -> Iterator[str]:
    """Yield the commands of a shell block; one may have several lines."""
    gathered: list[str] = []
    for line in body.splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line).rstrip()
        if not bare and not gathered:
            continue
        gathered.append(bare)
        is_loop = bool(_LOOP.match(gathered[0]))
        if (is_loop and not _LOOP_END.match(bare)) or bare.endswith(_GOES_ON):
            continue
        yield "\n".join(gathered)
        gathered = []
    assert not gathered, f"a command does not end: {gathered}"


def missing(shown: tuple[str, ...], told: str) -> str:
    """Return the first shown line that is not among the told ones in this order; empty when all are.

    Numbers and blanks may differ, and whatever the page leaves out.
    """
    lines = iter(" ".join(line.split()) for line in told.splitlines())
    for line in shown:
        form = _form(line)
        if line.strip() != LEFT_OUT and not any(form.fullmatch(each) for each in lines):
            return line
    return ""


def _form(line: str) -> re.Pattern[str]:
    parts = (_NUMBER.sub("0", part) for part in " ".join(line.split()).split(LEFT_OUT))
    return re.compile(".*".join(re.escape(part).replace("0", r"[\d.,]+") for part in parts))
