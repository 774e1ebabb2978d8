"""Sealed words: what a caller carries for us and can neither read nor change.

    base64url, no padding, of: version (1) · length of key id (1) · key id · nonce (12) · AES-256-GCM of the content

The cipher's key is derived for one purpose, and the purpose is authenticated as well: a word that
was sealed for one thing does not open for another. Whether a word is none of ours at all or was
changed in one bit, as much is computed before the answer.
"""

import base64
import os
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.store.sealing_keys import DataKey, KeyUnknownError, SealingKeys

VERSION: Final = 1
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
# Longer words were not made here; nothing of them is decoded.
TOKEN_MAX_CHARS: Final = 8192
# As much as fits in there in base64, behind the longest key id.
CONTENT_MAX_BYTES: Final = 6000
# Purposes are words of our code: a handful, times the keys of the ring.
CIPHERS_MAX: Final = 64

_LABEL: Final = b"trunkline token 1\x00"
# What is opened in place of a word that has no form: so that it takes as long.
_NO_NONCE: Final = bytes(NONCE_BYTES)


class SealedTokens:
    """`TokenSealer`: the first of the keys seals, all of them open."""

    def __init__(self, keys: SealingKeys) -> None:
        """Use `keys`, which stay their owner's."""
        self._keys = keys
        self._cipher = lru_cache(maxsize=CIPHERS_MAX)(self._derive)

    def seal(self, purpose: str, content: bytes) -> str:
        """Return the token: printable, URL-safe, different each time. Raises `ValueError` for too long a content."""
        if len(content) > CONTENT_MAX_BYTES:
            message = f"a token holds at most {CONTENT_MAX_BYTES} bytes"
            raise ValueError(message)
        data_key = self._keys.sealing
        key_id = data_key.key_id
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher(data_key, purpose).encrypt(nonce, content, purpose.encode())
        name = key_id.encode()
        return _text(bytes((VERSION, len(name))) + name + nonce + sealed)

    def open(self, purpose: str, token: str) -> bytes | None:
        """Return the content; None = not sealed by us for this purpose. Raises nothing, whatever `token` is."""
        key_id, nonce, sealed = _parse(token)
        try:
            cipher, known = self._cipher(self._keys.by_id(key_id), purpose), True
        except KeyUnknownError:
            cipher, known = self._stand_in(purpose), False
        try:
            content = cipher.decrypt(nonce, sealed, purpose.encode())
        except InvalidTag:
            return None
        return content if known else None

    def throw_away(self) -> None:
        """Forget what was derived: with its keys thrown away, nothing opens again."""
        self._cipher.cache_clear()

    def _stand_in(self, purpose: str) -> AESGCM:
        try:
            return self._cipher(self._keys.sealing, purpose)
        except KeyUnknownError:
            return AESGCM(bytes(32))

    @staticmethod
    def _derive(data_key: DataKey, purpose: str) -> AESGCM:
        return AESGCM(data_key.derive(_LABEL + purpose.encode()))


def _parse(token: str) -> tuple[str, bytes, bytes]:
    """Return key id, nonce and sealed content; of what has no form, something of the same size that never opens."""
    try:
        raw = base64.urlsafe_b64decode(token[:TOKEN_MAX_CHARS] + "=" * (-len(token[:TOKEN_MAX_CHARS]) % 4))
        nonce_at = 2 + raw[1]
        sealed_at = nonce_at + NONCE_BYTES
        key_id = raw[2:nonce_at].decode("ascii")
        # Decoding overlooks strange letters and the last one's idle bits: only the form that we make counts.
        if raw[0] == VERSION and len(raw) >= sealed_at + TAG_BYTES and _text(raw) == token:
            return key_id, raw[nonce_at:sealed_at], raw[sealed_at:]
    except (ValueError, IndexError):
        pass
    return "", _NO_NONCE, bytes(max(TAG_BYTES, min(len(token), TOKEN_MAX_CHARS) * 3 // 4))


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
