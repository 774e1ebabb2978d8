"""The sealed envelope around every stored payload.

    version (1) · length of key id (1) · key id · nonce (12) · AES-256-GCM of cseq (8) · payload

The cipher's key is derived for one session and one epoch; the authenticated data name the tenant,
session, number and epoch. So a record opens only in the place it was written for, and a changed,
moved or swapped one does not open at all.
"""

import os
import struct
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.core.errors import Reason, StoreError
from gateway.runtime.ports import LogEntry, SessionKey
from gateway.store.sealing_keys import DataKey, SealingKeys

VERSION: Final = 1
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
# Derived ciphers kept at hand: one per live session, so that sealing costs microseconds.
CIPHERS_MAX: Final = 4096

_LENGTH: Final = struct.Struct(">I")
_NUMBER: Final = struct.Struct(">Q")
_PURPOSE: Final = b"trunkline session record 1"


class RecordUnreadableError(StoreError):
    """A stored record is not what its place says it is: changed, moved, swapped or cut."""

    def __init__(self, key: SessionKey, seq: int, epoch: int) -> None:
        """Name the place; nothing of the record is repeated."""
        message = f"record {seq}-{epoch} of session {key.session_id} does not open in its place"
        super().__init__(Reason.INTERNAL, message)
        self.seq = seq
        self.epoch = epoch


class RecordSealer:
    """Seals entries for a place in a log, and opens what lies there."""

    def __init__(self, keys: SealingKeys) -> None:
        """Seal with the first of `keys`, open with any."""
        self._keys = keys
        self._cipher = lru_cache(maxsize=CIPHERS_MAX)(self._derive)

    def seal(self, key: SessionKey, epoch: int, entry: LogEntry) -> bytes:
        """Return the envelope of `entry` for its place; two calls never return the same bytes."""
        data_key = self._keys.sealing
        key_id = data_key.key_id
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher(data_key, key, epoch).encrypt(
            nonce, _NUMBER.pack(entry.cseq) + entry.payload, _place(key, entry.seq, epoch)
        )
        name = key_id.encode()
        return bytes((VERSION, len(name))) + name + nonce + sealed

    def open(self, key: SessionKey, epoch: int, seq: int, envelope: bytes) -> LogEntry:
        """Return the entry. Raises `KeyUnknownError` or `RecordUnreadableError`."""
        try:
            key_id, nonce, sealed = _parse(envelope)
            # The ring is asked each time: a key that was taken away opens nothing.
            plain = self._cipher(self._keys.by_id(key_id), key, epoch).decrypt(nonce, sealed, _place(key, seq, epoch))
        except (InvalidTag, ValueError):
            raise RecordUnreadableError(key, seq, epoch) from None
        (cseq,) = _NUMBER.unpack_from(plain)
        return LogEntry(seq=seq, payload=plain[_NUMBER.size :], cseq=cseq)

    def throw_away(self) -> None:
        """Forget every key and all that was derived: nothing sealed here opens again."""
        self._cipher.cache_clear()
        self._keys.throw_away()

    @staticmethod
    def _derive(data_key: DataKey, key: SessionKey, epoch: int) -> AESGCM:
        info = _PURPOSE + _framed(key.tenant, key.session_id) + _NUMBER.pack(epoch)
        return AESGCM(data_key.derive(info))


def _place(key: SessionKey, seq: int, epoch: int) -> bytes:
    return _framed(key.tenant, key.session_id) + _NUMBER.pack(seq) + _NUMBER.pack(epoch)


def _framed(*names: str) -> bytes:
    # Each with its length in front: ("ab", "c") and ("a", "bc") stay apart.
    return b"".join(_LENGTH.pack(len(raw)) + raw for raw in (name.encode() for name in names))


def _parse(envelope: bytes) -> tuple[str, bytes, bytes]:
    if len(envelope) < 2 or envelope[0] != VERSION:  # noqa: PLR2004 - version and length
        raise ValueError("no envelope of a known version")
    nonce_at = 2 + envelope[1]
    sealed_at = nonce_at + NONCE_BYTES
    if len(envelope) < sealed_at + _NUMBER.size + TAG_BYTES:
        raise ValueError("cut short")
    return envelope[2:nonce_at].decode("ascii"), envelope[nonce_at:sealed_at], envelope[sealed_at:]
