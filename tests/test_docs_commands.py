"""Every command of README.md and of the quick start works as it stands there."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.reference_blocks import (
    LEFT_OUT,
    ROOT,
    Command,
    Save,
    blocks,
    commands,
    missing,
    shell_commands,
    steps,
)
from tests.support.reference_terminal import SIMULATOR, Terminal, terminal

README, QUICK_START = "README.md", "docs/quick-start.md"
OTHERS: Final = ("docs/operations/configuring.md", "docs/operations/secrets.md")
COMMANDS_MIN: Final = 20
ADDRESS: Final = "127.0.0.1:50051"


def _before_the_readme(at: Terminal) -> None:
    """Put there what the README asks its reader for: the provider, its key, and the file in the text."""
    at.follow(Command(f"trunkline simulator --port {SIMULATOR}"))
    at.follow(Save("openai.key", "sk-of-the-simulator\n"))
    (content,) = [block.body for block in blocks(README) if block.language == "yaml"]
    chosen: dict[str, Any] = yaml.safe_load(content)
    chosen["targets"] = {"openai": {"url": f"ws://127.0.0.1:{SIMULATOR}/v1/realtime"}}
    chosen["limits"] = {"drain_seconds": 0}
    at.follow(Save("trunkline.yaml", yaml.safe_dump(chosen)))


def _nothing(_: Terminal) -> None:
    pass


PAGES: Final[dict[str, Callable[[Terminal], None]]] = {
    README: _before_the_readme,
    QUICK_START: _nothing,
    **dict.fromkeys(OTHERS, _nothing),
}


# How pages are read.


def test_a_shell_block_is_cut_into_commands() -> None:
    block = "a  # why\n\n# alone\nfor x in 1 2; do\n  b $x\ndone\nc | \\\n  d\n"
    assert list(shell_commands(block)) == ["a", "for x in 1 2; do\n  b $x\ndone", "c | \\\n  d"]


@pytest.mark.parametrize(
    ("shown", "told", "absent"),
    [
        (("one", "two"), "zero\none\nand\ntwo", ""),
        (("two", "one"), "one\ntwo", "one"),
        (("a  12  b",), "a 3.5     b  ", ""),
        (("a  12  b",), "a x b", "a  12  b"),
        (("sess_… 1",), "sess_x9y 20", ""),
        (("…", "end"), "begin\nend", ""),
        (("one",), "one more", "one"),
        (("one",), "", "one"),
    ],
)
def test_what_a_page_shows_is_looked_for_in_order(shown: tuple[str, ...], told: str, absent: str) -> None:
    assert missing(shown, told) == absent


# What they say.


def test_the_pages_have_enough_commands(capsys: pytest.CaptureFixture[str]) -> None:
    found = {page: len(commands(page)) for page in (README, QUICK_START)}
    with capsys.disabled():
        sys.stdout.write(f"\n{sum(found.values())} commands to try: {found}\n")
    assert sum(found.values()) >= COMMANDS_MIN
    assert all(found.values())


@pytest.mark.heavy
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_works(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with terminal(tmp_path) as at:
        PAGES[page](at)
        begun = at.done
        for step in steps(page):
            at.follow(step)
    with capsys.disabled():
        sys.stdout.write(f"\n{page}: {at.done - begun} commands tried\n")
    assert at.done - begun == len(commands(page))


@pytest.mark.heavy
def test_every_program_of_the_callers_pages_runs(tmp_path: Path) -> None:
    ran = 0
    with terminal(tmp_path) as at:
        at.follow(Command("trunkline dev"))
        for page in sorted((ROOT / "docs" / "callers").glob("*.md")):
            for block in blocks(f"docs/callers/{page.name}"):
                if block.language == "python" and ADDRESS in block.body:
                    at.follow(Save("example.py", block.body))
                    at.follow(Command("python example.py", (LEFT_OUT,)))
                    ran += 1
    assert ran >= 4
