"""How many places of one account this gateway holds, by what they are used for. The truth of the matter."""

from gateway.runtime.ports import SlotKind


class OverReleaseError(AssertionError):
    """A place was given back that was not held: a bug."""


class Held:
    """The counts."""

    def __init__(self) -> None:
        """Hold nothing."""
        self.by_kind = dict.fromkeys(SlotKind, 0)

    @property
    def total(self) -> int:
        """How many places are held."""
        return sum(self.by_kind.values())

    def add(self, kind: SlotKind) -> None:
        """Count a place more."""
        self.by_kind[kind] += 1

    def leave(self, kind: SlotKind) -> None:
        """Count a place less. Raises `OverReleaseError`."""
        if self.by_kind[kind] < 1:
            message = f"no {kind.name.lower()} place is held"
            raise OverReleaseError(message)
        self.by_kind[kind] -= 1
