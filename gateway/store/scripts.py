"""The Lua that runs inside Redis, as shipped beside this file."""

import hashlib
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final


@dataclass(frozen=True, slots=True)
class Script:
    """One script and the name Redis knows it by."""

    name: str
    text: str = field(repr=False)
    sha: str


def _load(name: str) -> Script:
    text = (files(__package__) / f"{name}.lua").read_text("utf-8")
    # Redis names a script by its SHA-1; nothing is protected by it.
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


APPEND: Final = _load("append")
FINISH: Final = _load("finish")
SLOTS: Final = _load("slots")
SCRIPTS: Final = (APPEND, FINISH, SLOTS)
