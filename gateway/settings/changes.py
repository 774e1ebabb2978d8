"""What a running gateway can follow of a changed configuration, and what it cannot."""

from typing import Final

from pydantic import BaseModel

from gateway.settings.whole import Settings

# Read once: listeners, the store's connection and the bounds of running sessions stand on them.
_FIXED: Final = ("profile", "grpc", "ops", "door", "redis", "rotate", "limits", "tracing")
# Their files, and where those are, may change.
_KEYS_OF: Final = {"store": {"sealing_keys"}, "account": {"key_file"}}


def needs_restart(before: Settings, after: Settings) -> list[str]:
    """Name the settings that differ and cannot be followed while running."""
    found = [name for name in _FIXED if getattr(before, name) != getattr(after, name)]
    if _without(before.store, "store") != _without(after.store, "store"):
        found.append("store")
    if before.accounts.keys() != after.accounts.keys():
        found.append("accounts")
    found += [
        f"accounts.{name}"
        for name, account in before.accounts.items()
        if name in after.accounts and _without(account, "account") != _without(after.accounts[name], "account")
    ]
    return found


def _without(section: BaseModel, kind: str) -> dict[str, object]:
    return section.model_dump(exclude=_KEYS_OF[kind])
