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


def _text(name: str) -> str:
    return (files(__package__) / f"{name}.lua").read_text("utf-8")


def _load(name: str, *shared: str) -> Script:
    # The first line tells the server how to run it; what is shared comes right behind.
    first, body = _text(name).split("\n", 1)
    text = "\n".join([first, *map(_text, shared), body])
    # Redis names a script by its SHA-1; nothing is protected by it.
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


APPEND: Final = _load("append", "entries")
CLAIM: Final = _load("claim", "entries")
FINISH: Final = _load("finish")
SLOTS: Final = _load("slots")
TENANTS: Final = _load("tenants")
SCRIPTS: Final = (APPEND, CLAIM, FINISH, SLOTS, TENANTS)
