"""Line class, template, and the merge of a caller's overrides over a template.

Merging is RFC 7396: what is absent stays, null takes away. Policy looks at the merged result.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.core.errors import CallerError, Reason

SAFETY_CLASSES: Final = ("none", "tenant", "end_user")


@dataclass(frozen=True, slots=True)
class LineClass:
    """Everything that is fixed at connect. A new key of its account makes a new version, no other class."""

    target: str
    provider: str
    url: str
    model: str
    session_type: str
    account: str
    safety: str = "none"
    # What every line of the class carries for its tenant; empty = nothing.
    safety_identifier: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Template:
    """A named configuration: the line class it needs and the provider's session object."""

    name: str
    line_class: LineClass
    session: Mapping[str, Any]
    user_turns: str = "transcript"
    durability: str = "available"
    version: str = field(init=False)

    def __post_init__(self) -> None:
        """Derive the version from the content, so that equal content has equal versions everywhere."""
        content = json.dumps([self.line_class.model, dict(self.session)], sort_keys=True)
        object.__setattr__(self, "version", hashlib.sha256(content.encode()).hexdigest()[:12])


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `patch` applied; neither is changed."""
    merged = dict(base)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            below = merged.get(name)
            merged[name] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[name] = value
    return merged


def configuration(template: Template, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the session object for one caller; raise `CallerError` OVERRIDE_REFUSED.

    The result names what the template and the overrides name; a null in the overrides stays a
    null, since absence would leave the line's own value in place.
    """
    check_patch(template, overrides)
    return {**overlay(template.session, overrides), "type": template.line_class.session_type}


def overlay(session: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a line must be told to have `session` and then `patch` on it: a null of the patch stays one."""
    merged = merge(session, patch)
    _keep_nulls(merged, patch)
    return merged


def check_patch(template: Template, patch: Mapping[str, Any]) -> None:
    """Raise `CallerError` OVERRIDE_REFUSED where a patch names what was fixed when the line was dialled."""
    for name, fixed in (("model", template.line_class.model), ("type", template.line_class.session_type)):
        if patch.get(name, fixed) != fixed:
            message = f"{name} belongs to the line class of template {template.name}; use another template"
            raise CallerError(Reason.OVERRIDE_REFUSED, message)


def _keep_nulls(merged: dict[str, Any], patch: Mapping[str, Any]) -> None:
    for name, value in patch.items():
        if value is None:
            merged[name] = None
        elif isinstance(value, Mapping):
            _keep_nulls(merged[name], value)


def names_all(session: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one configuration names every field that another one names: applied over it, nothing of it stays."""
    for name, value in other.items():
        if name not in session:
            return False
        mine = session[name]
        if isinstance(value, Mapping) and isinstance(mine, Mapping) and not names_all(mine, value):
            return False
    return True
