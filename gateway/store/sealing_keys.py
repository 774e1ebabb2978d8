"""The keys that seal records. They never show: not in repr, str, pickle, copy or errors."""

import binascii
import hmac
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.core.errors import Reason, StoreError

KEY_BYTES: Final = 32
KEY_ID_MAX_BYTES: Final = 64
# A file that is longer cannot be a key; nothing more of it is read.
KEY_FILE_MAX_BYTES: Final = 256

_HEX: Final = re.compile(rb"[0-9a-fA-F]{64}")
_KEY_ID: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{KEY_ID_MAX_BYTES}}}")


class KeyUnknownError(StoreError):
    """A record was sealed with a key that is not among ours."""

    def __init__(self, key_id: str) -> None:
        """Name the key; ids are no secret."""
        super().__init__(Reason.INTERNAL, f"no sealing key is called {key_id!r}")
        self.key_id = key_id


class DataKey:
    """One 256-bit key. Records are sealed with keys derived from it, never with itself."""

    __slots__ = ("_material", "key_id")

    def __init__(self, key_id: str, material: bytes) -> None:
        """Take a copy of `material`. Raises `ValueError` for a bad id or length."""
        if not _KEY_ID.fullmatch(key_id):
            message = f"{key_id!r} is no key id: 1 to {KEY_ID_MAX_BYTES} of letters, digits, . _ -"
            raise ValueError(message)
        if len(material) != KEY_BYTES:
            message = f"sealing key {key_id}: a key has {KEY_BYTES} bytes, not {len(material)}"
            raise ValueError(message)
        self.key_id = key_id
        self._material = bytearray(material)

    def derive(self, info: bytes) -> bytes:
        """Return the key for `info`. Raises `KeyUnknownError` after `throw_away`."""
        if not self._material:
            raise KeyUnknownError(self.key_id)
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=info).derive(self._material)

    def same_as(self, other: "DataKey") -> bool:
        """Whether both are one key."""
        return hmac.compare_digest(self.derive(b"same"), other.derive(b"same"))

    def throw_away(self) -> None:
        """Forget the key: whatever it sealed can never be opened again."""
        self._material[:] = bytes(len(self._material))
        self._material.clear()

    def __repr__(self) -> str:
        """Show the id alone."""
        return f"<DataKey {self.key_id}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError("a sealing key cannot be copied or pickled")


class SealingKeys:
    """Keys by id: the first seals, all open. So a new key can come before an old one goes."""

    __slots__ = ("_by_id", "sealing")

    def __init__(self, keys: Sequence[DataKey]) -> None:
        """Own `keys`. Raises `ValueError` when there is none, or two of one id."""
        self._by_id = {key.key_id: key for key in keys}
        if not keys or len(self._by_id) != len(keys):
            raise ValueError("sealing keys: at least one is needed, and each id only once")
        self.sealing = keys[0]

    @classmethod
    def of_this_process(cls) -> Self:
        """Make a key that nobody else will ever have, for a store that dies with the process."""
        return cls([DataKey("process", os.urandom(KEY_BYTES))])

    def become(self, keys: Sequence[DataKey]) -> None:
        """Own these keys instead. Raises `StoreError` when a key that is known would become another one."""
        after = SealingKeys(keys)
        for key in keys:
            before = self._by_id.get(key.key_id)
            if before is not None and not key.same_as(before):
                message = f"sealing key {key.key_id} has another content: a new key needs a new id"
                raise StoreError(Reason.INTERNAL, message)
        self._by_id, self.sealing = {key.key_id: key for key in keys}, after.sealing

    def by_id(self, key_id: str) -> DataKey:
        """Return the key called `key_id`. Raises `KeyUnknownError`."""
        try:
            return self._by_id[key_id]
        except KeyError:
            raise KeyUnknownError(key_id) from None

    def throw_away(self) -> None:
        """Forget every key."""
        for key in self._by_id.values():
            key.throw_away()

    def __repr__(self) -> str:
        """Show the ids alone."""
        return f"<SealingKeys {' '.join(self._by_id)}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError("sealing keys cannot be copied or pickled")


def read_key(key_id: str, path: Path) -> DataKey:
    """Read one key file. Raises `StoreError`, which names the path and nothing of the content."""
    try:
        with path.open("rb") as file:
            content = file.read(KEY_FILE_MAX_BYTES + 1)
    except OSError as error:
        message = f"sealing key {key_id}: {path} cannot be read: {error.strerror}"
        raise StoreError(Reason.INTERNAL, message) from None
    try:
        return DataKey(key_id, _material(content))
    except ValueError:
        message = f"sealing key {key_id}: {path} must hold {KEY_BYTES} bytes: raw, as 64 hex digits, or as base64"
        # The cause would carry the content in its locals.
        raise StoreError(Reason.INTERNAL, message) from None


def _material(content: bytes) -> bytes:
    if len(content) == KEY_BYTES:
        return content
    text = content.strip()
    if _HEX.fullmatch(text):
        return binascii.unhexlify(text)
    standard = text.replace(b"-", b"+").replace(b"_", b"/")
    return binascii.a2b_base64(standard, strict_mode=True)
