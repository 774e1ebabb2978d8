"""`trunkline config`: the configuration in force, and a commented example made from the settings."""

import json
import textwrap
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import urlsplit, urlunsplit

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.cli.serve import settings_of
from gateway.settings import CallerSettings, SealingKeySettings, Settings

_WIDTH = 100
# What a list that is empty by default would hold.
_ENTRIES: dict[str, type[BaseModel]] = {
    "callers": CallerSettings,
    "sealing_keys": SealingKeySettings,
}


def effective(config: Path | None) -> None:
    """Print the configuration as it would be used; a password in a URL is masked."""
    content = json.loads(settings_of(config).model_dump_json())
    content["redis"]["url"] = _masked(content["redis"]["url"])
    print(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=_WIDTH), end="")


def example() -> None:
    """Print every setting with its default and what it means; the output is a usable file."""
    print("# Every setting of Trunkline with its default. Delete what you do not change.")
    print("# In the environment: TRUNKLINE_GRPC__ADDRESS and so on; it wins over this file.")
    for line in _section(Settings.model_construct(), Settings):
        print(line)


def _masked(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))


def _section(values: BaseModel, model: type[BaseModel]) -> list[str]:
    lines: list[str] = []
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        comment = field.description or _summary(value)
        lines += [f"# {part}" for part in textwrap.wrap(comment, _WIDTH)]
        lines += _field(name, value)
    return lines


def _field(name: str, value: Any) -> list[str]:
    if isinstance(value, BaseModel):
        return [f"{name}:", *_indented(_section(value, type(value)))]
    if isinstance(value, dict) and any(isinstance(each, BaseModel) for each in value.values()):
        below: list[str] = []
        for key, each in value.items():
            below += [f"{key}:", *_indented(_section(each, type(each)))]
        return [f"{name}:", *_indented(below)]
    if value == [] and name in _ENTRIES:
        return [f"{name}: []", *_entry(_ENTRIES[name])]
    return yaml.safe_dump(
        {name: json.loads(json.dumps(value, default=str))}, sort_keys=False, width=_WIDTH
    ).splitlines()


def _entry(model: type[BaseModel]) -> list[str]:
    fields = [f"#     {name}: {_kind(field)}  # {field.description}" for name, field in model.model_fields.items()]
    return ["#   - each entry:", *fields]


def _kind(field: FieldInfo) -> str:
    if get_origin(field.annotation) is list:
        return f"[{get_args(field.annotation)[0].__name__.lower()}, …]"
    return "…"


def _summary(value: Any) -> str:
    return (type(value).__doc__ or "").splitlines()[0] if isinstance(value, BaseModel) else ""


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
