"""Who calls: established by authentication, never by a frame."""

from dataclasses import dataclass
from enum import StrEnum


class Right(StrEnum):
    """What a principal may do."""

    CONVERSE = "converse"
    READ = "read"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller, the tenant it belongs to, and its rights."""

    tenant: str
    caller: str
    rights: frozenset[Right]

    def may(self, right: Right) -> bool:
        """Whether `right` is held; `admin` includes `read`."""
        return right in self.rights or (right is Right.READ and Right.ADMIN in self.rights)
