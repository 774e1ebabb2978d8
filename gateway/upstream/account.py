"""Whose key is used. The key leaves this object in one place: the header of a dial."""

import hmac
from dataclasses import dataclass
from typing import Final, NoReturn

HIDDEN: Final = "[redacted]"
# A shorter beginning tells nothing of the rest: keys of one kind share it.
HIDE_FROM_CHARS: Final = 6


class ApiKey:
    """A provider's key. Shows nothing of itself in any representation, and cannot be pickled."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        """Hold `value`. Raises `ValueError` when it cannot stand in a header."""
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            message = "a key is one printable ASCII word"
            raise ValueError(message)
        self.__value = value

    def bearer(self) -> str:
        """Return the value of the authorization header."""
        return f"Bearer {self.__value}"

    def hide(self, text: str) -> str:
        """Return what a provider said without this key, also where its text was cut in the middle of it."""
        shown = text.replace(self.__value, HIDDEN)
        for size in range(len(self.__value) - 1, HIDE_FROM_CHARS - 1, -1):
            if shown.endswith(self.__value[:size]):
                return shown[:-size] + HIDDEN
        return shown

    def same_as(self, other: "ApiKey") -> bool:
        """Whether both are one key."""
        return hmac.compare_digest(self.bearer(), other.bearer())

    def __repr__(self) -> str:
        """Show that it is a key, and nothing else."""
        return "ApiKey(…)"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled."""
        message = "a key is not pickled"
        raise TypeError(message)


@dataclass(frozen=True, slots=True)
class Account:
    """A key with the organisation and project that its use is booked on."""

    name: str
    key: ApiKey
    organization: str | None = None
    project: str | None = None
