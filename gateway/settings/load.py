"""Reads the file and the environment, and says in one sentence what is wrong with them."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError as SourceError

from gateway.settings.whole import ENV_PREFIX, Settings

# What Kubernetes sets for a service that is called trunkline, or trunkline-something.
_SERVICE_LINK: Final = re.compile(
    r"TRUNKLINE_(?:[A-Z0-9_]+_)?(?:SERVICE_(?:HOST|PORT\w*)|PORT(?:_\d+_(?:TCP|UDP|SCTP)\w*)?)"
)
# Read by the commands that call a gateway, not by the gateway.
_OTHERS: Final = frozenset({"TRUNKLINE_TOKEN"})


class SettingsError(Exception):
    """The configuration cannot be used; the text says where and why, and holds no secret."""


def load(file: Path | None) -> Settings:
    """Read the file (YAML, or none) and the environment. Raises `SettingsError`."""
    content = _read(file) if file is not None else {}
    _check_variables(os.environ)
    try:
        return Settings(**content)
    except SourceError as error:  # a variable that should hold JSON
        raise SettingsError(f"the environment cannot be read: {error}") from None
    except ValidationError as error:
        lines = [f"  {_path(each['loc'])}{_words(each['msg'])}" for each in error.errors()]
        raise SettingsError("the configuration cannot be used:\n" + "\n".join(lines)) from None


def environment_key() -> str | None:
    """Return the provider's key from the environment; for development only."""
    return os.environ.get("OPENAI_API_KEY")


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date or number that cannot be, too deep a nest
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{file} is not YAML{where}") from None
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise SettingsError(f"{file} must hold a mapping of names")
    return content


def _check_variables(environment: Mapping[str, str]) -> None:
    """Refuse a variable of ours that names no setting: pydantic would ignore it in silence."""
    for name in sorted(environment):
        if not name.upper().startswith(ENV_PREFIX) or name in _OTHERS:
            continue
        if not _SERVICE_LINK.fullmatch(name) and not _names_setting(name):
            raise SettingsError(f"environment variable {name} names no setting")


def _names_setting(name: str) -> bool:
    path = name[len(ENV_PREFIX) :].lower().split("__")
    field = Settings.model_fields.get(path[0])
    if field is None:
        return False
    section = field.annotation
    if len(path) > 1 and isinstance(section, type) and issubclass(section, BaseModel):
        return path[1] in section.model_fields
    return len(path) == 1 or get_origin(section) in (dict, list)


def _words(message: str) -> str:
    if message == "Extra inputs are not permitted":
        return "no such key"
    return message.removeprefix("Value error, ")


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) + ": " if location else ""
