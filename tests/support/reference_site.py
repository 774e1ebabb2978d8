"""A hook of MkDocs: shows pages of the repository's root in the site, and lets links lead there.

On the repository a page of docs/ links to `../SECURITY.md`; in the site that page stands elsewhere, and a
file that is no page has no address at all. Nothing is guessed: what is not known stays as it is, and
`mkdocs build --strict` refuses it.
"""

import os
import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[2]
# A page of the repository → where it stands in the site.
INCLUDED: Final = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "clients/python/README.md": "callers/python.md",
}
# A file of the repository → the page that says the same.
STANDS_FOR: Final = {"README.md": "index.md"}
_PROTO: Final = re.compile(r"proto/trunkline/v1/(\w+)\.proto")
_FENCE: Final = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[((?:[^\[\]]|`[^`]*`)*)\]\(([^()\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository."""
    for source, target in INCLUDED.items():
        text = (ROOT / source).read_text("utf-8")
        files.append(File.generated(config, target, content=linked(text, source, target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links of a page of docs/ lead to where the repository's pages are shown."""
    del config, files
    place = page.file.src_uri
    return markdown if place in INCLUDED.values() else linked(markdown, f"docs/{place}", place)


def linked(text: str, source: str, place: str) -> str:
    """Return `text`, which stands in the repository as `source`, with links that work at `place` of the site."""

    def replaced(found: re.Match[str]) -> str:
        label, address = found[1], found[2]
        path, mark, anchor = address.partition("#")
        if not path or "://" in path:
            return found[0]
        named = os.path.normpath(os.path.join(os.path.dirname(source), path))  # noqa: PTH118, PTH120 a path in a URL
        target = _page_of(named)
        if target is not None:
            anchor = "" if named in STANDS_FOR else mark + anchor
            return f"[{label}]({os.path.relpath(target, os.path.dirname(place) or '.')}{anchor})"  # noqa: PTH120
        return label if (ROOT / named).exists() and not named.startswith("docs/") else found[0]

    parts = _FENCE.split(text)
    return "".join(part if part.startswith("```") else _LINK.sub(replaced, part) for part in parts)


def _page_of(named: str) -> str | None:
    """Return the page of the site that shows a file of the repository."""
    proto = _PROTO.fullmatch(named)
    if proto is not None:
        return f"reference/api/{proto[1]}.md"
    if named.startswith("docs/") and named.endswith(".md"):
        return named.removeprefix("docs/")
    return INCLUDED.get(named) or STANDS_FOR.get(named)
