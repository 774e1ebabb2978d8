"""The one command of these tests that has an environment of its own."""

import os
from pathlib import Path
from typing import Final

import pytest

_PATH: Final = Path(__file__).parents[3] / ".venv-checkov" / "bin" / "checkov"


def checkov() -> str:
    """Return its path; skip or, in CI, fail where it is missing."""
    if not _PATH.exists():
        sentence = "checkov is not here; make .venv-checkov/stamp installs it"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return str(_PATH)
