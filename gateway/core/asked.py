"""What a caller has asked of its line and was not answered yet."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# So many requests of a kind may wait for their answers.
ASKED_MAX: Final = 32
# And so many items, of which a refusal may yet come.
CREATED_MAX: Final = 1024


@dataclass(slots=True)
class Asked:
    """What the caller has asked for and the provider has not confirmed, by event id."""

    patches: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    created: dict[str, str] = field(default_factory=dict)
    deletions: dict[str, str] = field(default_factory=dict)
    truncations: dict[str, tuple[str, int]] = field(default_factory=dict)
    commits: dict[str, None] = field(default_factory=dict)

    def bound(self) -> None:
        """Forget the oldest requests that nothing came of: who asks for so much wants the last of it."""
        for requests in (self.truncations, self.deletions, self.commits):
            while len(requests) > ASKED_MAX:
                del requests[next(iter(requests))]
        while len(self.created) > CREATED_MAX:
            del self.created[next(iter(self.created))]

    def is_open(self, untold: Collection[str]) -> bool:
        """Whether something has no answer yet; `untold` = items of which the caller was not told that they are done."""
        return bool(self.untold(untold) or self.patches or self.deletions or self.truncations)

    def answered(self) -> None:
        """Record that a fresh line has it all."""
        for requests in (self.created, self.deletions, self.truncations):
            requests.clear()

    def untold(self, untold: Collection[str]) -> list[str]:
        """Return which of these items were created and have no answer yet, in order."""
        return [item_id for item_id in self.created.values() if item_id in untold]

    def drop(self, event_id: str) -> None:
        """Forget a request that was refused."""
        for requests in (self.patches, self.created, self.deletions, self.truncations, self.commits):
            requests.pop(event_id, None)
