"""Takes out of a provider's sentence what a caller or a log must not see."""

import re
from typing import Final

_SECRET: Final = re.compile(
    r"""
      \b(?:sk|ek|org|proj|sess|user)[-_][\w*-]{4,}      # keys, organisations, projects, sessions
    | \b[a-z]+://\S+                                    # addresses
    | \b\d{1,3}(?:\.\d{1,3}){3}\b                       # IPv4
    | \b[\w.+-]+@[\w-]+\.[\w.]+\b                       # mail
    | (?i:bearer\s+\S+)
    """,
    re.VERBOSE,
)
SENTENCE_MAX: Final = 300
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


def redact(text: str) -> str:
    """Return `text` on one line, without identifiers of the account, cut to a sentence's length."""
    flat = " ".join(text.split())
    return _SECRET.sub("[redacted]", flat)[:SENTENCE_MAX]


def shown_code(code: str | None) -> str:
    """Return a provider's error code where it is a word, else nothing: it is printed as one."""
    return code if code is not None and _CODE.fullmatch(code) and redact(code) == code else ""
