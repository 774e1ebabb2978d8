"""Secrets made for one run, and the search for them in whatever a gateway shows or stores.

A failure names the secret by its label and the page that it is on, never the secret itself.
"""

import base64
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import pytest

_ESCAPE = re.compile(rb"\\x([0-9a-fA-F]{2})")
# Less of a secret is no proof that it was that one.
_SHORTEST = 12
# As much of its beginning, or of its end, is as good as all of it: a text may have been cut there.
_PART = 16


def fresh(prefix: str) -> str:
    """Return a secret that nobody has ever seen."""
    return f"{prefix}{secrets.token_hex(12)}"


class Canaries:
    """Secrets by label."""

    def __init__(self) -> None:
        self._forms: dict[str, tuple[bytes, ...]] = {}

    def add(self, label: str, secret: str | bytes, *, whole: bool = False) -> None:
        """Look for a secret from now on, in every form that it may take on its way; `whole` = not for parts of it."""
        raw = secret.encode() if isinstance(secret, str) else secret
        assert len(raw) >= _SHORTEST, f"{label} is too short to be recognised"
        parts = [] if whole or len(raw) < _PART else [raw[:_PART], raw[-_PART:]]
        self._forms[label] = tuple(dict.fromkeys([*_forms(raw), *parts]))

    def found_in(self, page: str | bytes) -> list[str]:
        """Return the labels of those that stand in a page."""
        raw = page.encode("utf-8", "surrogateescape") if isinstance(page, str) else page
        plain = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw)
        return [label for label, forms in self._forms.items() if any(form in raw or form in plain for form in forms)]

    def check(self, pages: Mapping[str, str | bytes], *but: str) -> None:
        """Fail when one stands in a page; those named by `but` may."""
        wrong = [
            f"{label} stands in {page}"
            for page, content in pages.items()
            for label in self.found_in(content)
            if label not in but
        ]
        if wrong:
            pytest.fail("\n".join(wrong), pytrace=False)


def _forms(raw: bytes) -> Iterator[bytes]:
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for at in range(3):  # wherever it begins in what was encoded
        whole = raw[at : at + (len(raw) - at) // 3 * 3]
        if len(whole) >= _SHORTEST - 3:
            yield base64.b64encode(whole)
            yield base64.urlsafe_b64encode(whole)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    yield quote(text, safe="").encode()
    yield json.dumps(text)[1:-1].encode()
    yield repr(text)[1:-1].encode()
