"""The documentation builds without a warning, leads nowhere that is not there, and loads nothing from elsewhere."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

from tests.support.reference_site import INCLUDED
from tests.support.reference_terminal import NOT_COPIED

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
PAGES: Final = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
BUILD_SECONDS: Final = 60
# Tags, and which of their attributes a browser loads; a link's depends on what it is.
LOADED: Final = {
    "audio": ("src",), "embed": ("src",), "iframe": ("src",), "image": ("href",), "img": ("src", "srcset"),
    "input": ("src",), "object": ("data",), "script": ("src",), "source": ("src", "srcset"), "track": ("src",),
    "use": ("href", "xlink:href"), "video": ("src", "poster"),
}  # fmt: skip
NOT_LOADED: Final = {"canonical", "next", "prev", "alternate", "edit", "license", "author"}
ELSEWHERE: Final = re.compile(r"^\s*(?:https?:|wss?:)?//", re.IGNORECASE)
IN_STYLES: Final = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])\s*((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)


def build(folder: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    """Build as `make docs` does. Not with --quiet: it hides warnings from --strict, too."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


def html(site: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(site.rglob("*.html")):
        yield str(path.relative_to(site)), path.read_text("utf-8")


def test_every_page_is_in_the_site(site: Path) -> None:
    shown = {name for name, _ in html(site)}
    wanted = {str(Path(page).with_suffix(".html")) for page in (*PAGES, *INCLUDED.values())}
    assert wanted - shown == set()
    assert len(wanted) > 25


# What a strict build refuses.


def seeded(folder: Path, page: str, line: str) -> "subprocess.CompletedProcess[str]":
    """Build a copy of the documentation with a line more on a page."""
    shutil.copytree(ROOT, folder, ignore=NOT_COPIED, dirs_exist_ok=True)
    path = folder / page
    path.write_text(f"{path.read_text('utf-8')}\n{line}\n", "utf-8")
    return build(folder, folder / "site")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("page", "line"),
    [
        ("docs/index.md", "[nowhere](nowhere.md)"),
        ("docs/index.md", "[no such heading](concepts.md#no-such-heading)"),
        ("docs/index.md", "[no such heading](../SECURITY.md#no-such-heading)"),
        ("docs/concepts.md", "[not here](#no-such-heading)"),
        ("docs/concepts.md", "[no such file](../gateway/no_such_file.py)"),
        ("docs/reference/api/lease.md", "[no such field](types.md#nosuchmessage)"),
        ("SECURITY.md", "[nowhere](NOWHERE.md)"),
        ("mkdocs.yml", "  - Nowhere: nowhere.md"),
    ],
)
def test_a_link_that_leads_nowhere_is_refused(page: str, line: str, tmp_path: Path) -> None:
    built = seeded(tmp_path, page, line)
    assert built.returncode != 0
    assert built.stderr.count("WARNING") == 1, built.stderr


@pytest.mark.heavy
def test_a_page_that_nothing_leads_to_is_refused(tmp_path: Path) -> None:
    assert seeded(tmp_path, "docs/index.md", "").returncode == 0
    (tmp_path / "docs/alone.md").write_text("# Alone\n", "utf-8")
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    assert "alone.md" in built.stderr


def test_headings_of_a_page_differ() -> None:
    """Else a link to one of them is a guess."""
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", (DOCS / page).read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        headings = [each.lower() for each in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
        assert sorted(set(headings)) == sorted(headings), page


# What a browser would load.


class Loads(HTMLParser):
    """Gathers every address that a browser loads by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.classes |= set(given.get("class", "").split())
        if tag == "link" and not set(given.get("rel", "").split()) <= NOT_LOADED:
            self.found.append(given.get("href", ""))
        if tag == "meta" and given.get("http-equiv", "").lower() == "refresh":
            self.found.append(given.get("content", "").partition("=")[2])
        self.found += [given[name] for name in LOADED.get(tag, ()) if name in given]
        self.found += IN_STYLES.findall(given.get("style", ""))


def from_elsewhere(text: str) -> list[str]:
    """Return what a browser would load from another place for this page."""
    loads = Loads()
    loads.feed(text)
    styles = re.findall(r"<style[^>]*>(.*?)</style>", text, re.DOTALL)
    return [each for each in loads.found if ELSEWHERE.match(each)] + IN_STYLES.findall("".join(styles))


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    assert {name: found for name, text in html(site) if (found := from_elsewhere(text))} == {}


def test_no_style_loads_anything_from_elsewhere(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert len(sheets) >= 3
    assert [str(path) for path in sheets if IN_STYLES.search(path.read_text("utf-8"))] == []


def test_nothing_makes_the_scripts_of_the_theme_load_more(site: Path) -> None:
    """They fetch a drawing library where a page has a drawing, and figures where the site has a repository."""
    for name, text in html(site):
        loads = Loads()
        loads.feed(text)
        assert not loads.classes & {"mermaid", "md-source"}, name
        assert 'data-md-component="source"' not in text, name


@pytest.mark.parametrize(
    "line",
    [
        '<script src="https://cdn.example.com/x.js"></script>',
        '<link rel="stylesheet" href="//cdn.example.com/x.css">',
        '<link rel="preconnect" href="https://fonts.example.com">',
        '<img alt="" src="HTTP://example.com/x.png">',
        '<img alt="" srcset="https://example.com/x.png 2x">',
        '<style>@import "https://example.com/x.css";</style>',
        "<p style=\"background: url('https://example.com/x.png')\"></p>",
        '<iframe src="https://example.com"></iframe>',
    ],
)
def test_the_search_for_loads_finds_what_it_looks_for(line: str) -> None:
    page = f'<html><head><link rel="canonical" href="https://example.com/"></head><body>{line}'
    assert len(from_elsewhere(page)) == 1
    assert from_elsewhere(page.replace(line, '<a href="https://example.com/">a link is not loaded</a>')) == []


# What readers find.


@pytest.mark.parametrize("page", PAGES)
def test_a_page_begins_with_what_its_reader_can_do(page: str) -> None:
    text = re.sub(r"^<!--.*?-->\s*", "", (DOCS / page).read_text("utf-8"), flags=re.DOTALL)
    title, _, rest = text.partition("\n")
    assert re.fullmatch(r"# \S.*", title)
    assert "you can" in rest.strip().partition("\n\n")[0], "the first paragraph says what the reader can do"


def test_the_search_knows_the_pages(site: Path) -> None:
    index = (site / "search/search_index.json").read_text("utf-8")
    for word in ("trunkline_acquires_total", "TRUNKLINE_GRPC__ADDRESS", "QUEUE_FULL", "drain"):
        assert word in index
