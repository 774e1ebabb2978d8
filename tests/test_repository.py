"""What must never stand in a committed file: hosts of registries, and paths of one machine."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.tools import tool

ROOT = Path(__file__).parents[1]
# In pieces, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a registry's host": re.compile(
        r"py" + r"pi\.org|python" + r"hosted\.|registry\.np" + r"mjs|deb\.de" + r"bian\.org", re.IGNORECASE
    ),
    "a download address": re.compile(r"https?://\S+\.(?:whl|tgz|tar\.gz)\b"),
    "an index option": re.compile(r"--(?:extra-)?index-url\s+http"),
    "a path of one machine": re.compile(r"(?<![\w.])/(?:ro" + r"ot|wo" + r"rk|ho" + r"me/\w+)/[\w.-]+"),
}


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: `git clone` gives one")
    listed = subprocess.run([tool("git"), "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=True)
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_committed_file_holds(what: str) -> None:
    found = []
    for path in _tracked():
        content = path.read_bytes()
        if b"\0" not in content[:1024]:
            matches = FORBIDDEN[what].findall(content.decode("utf-8", errors="replace"))
            found += [f"{path.relative_to(ROOT)}: {match}" for match in matches]
    assert found == []
