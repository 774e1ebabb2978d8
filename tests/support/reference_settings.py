"""docs/reference/configuration.md, made from the settings: every key, default, unit, bound and variable."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.settings import Settings
from gateway.settings.whole import ENV_PREFIX
from tests.support.reference_markdown import code, codes, number, page, sentence, table

NAME: Final = "configuration.md"
# A mapping's keys are names that the operator chooses.
_KEYS: Final = {"pools": "template"}
_UNITS: Final = {
    "_per_second": "per second",
    "_seconds": "seconds",
    "_ms": "milliseconds",
    "_bytes": "bytes",
    "_ratio": "ratio",
}
_KINDS: Final = {str: "text", Path: "a file", int: "a whole number", float: "a number", dict: "an object"}
_USE: Final = """\
With this page you can look up every setting: what it is called in the file and in the environment, its default, its
unit and what it may be. [Configuring](../operations/configuring.md) says how file and environment go together.

`trunkline config --example` prints the same as a file to begin with."""


@dataclass(frozen=True)
class Setting:
    """One key of the configuration."""

    path: str
    field: FieldInfo
    # The variable that sets it; empty for what stands in a list.
    variable: str


def render() -> str:
    """Return the page."""
    return page("Configuration", _USE, "`gateway/settings/`", _top(), *map(_section, _sections()))


def settings(model: type[BaseModel] = Settings, path: str = "", variable: str = ENV_PREFIX) -> Iterator[Setting]:
    """Yield every key, in order."""
    for name, field in model.model_fields.items():
        below, kind = _model_of(field), get_origin(field.annotation)
        mine = f"{variable}{name.upper()}" if variable else ""
        if below is None:
            yield Setting(path + name, field, mine)
        elif kind is list:
            yield Setting(path + name, field, mine)
            yield from settings(below, f"{path}{name}[].", "")
        elif kind is dict:
            key = _KEYS.get(name, "name")
            yield from settings(below, f"{path}{name}.<{key}>.", f"{mine}__<{key.upper()}>__")
        else:
            yield from settings(below, f"{path}{name}.", f"{mine}__" if mine else "")


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    for each in (field.annotation, *get_args(field.annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _sections() -> list[str]:
    return [name for name, field in Settings.model_fields.items() if _model_of(field) is not None]


def _top() -> str:
    return _table([each for each in settings() if each.path not in _sections() and "." not in each.path])


def _section(name: str) -> str:
    field = Settings.model_fields[name]
    model = _model_of(field)
    assert model is not None
    mine = [each for each in settings() if each.path.partition(".")[0].removesuffix("[]") == name]
    return f"## {name}\n\n{_about(field, model)}\n\n{_table(mine)}"


def _about(field: FieldInfo, model: type[BaseModel]) -> str:
    summary = (model.__doc__ or "").splitlines()[0]
    return " ".join(sentence(each) for each in (summary, field.description or "") if each)


def _table(found: list[Setting]) -> str:
    rows = [(_names(each), _default(each), _allowed(each.field), each.field.description or "") for each in found]
    long = [_long_default(each) for each in found if _is_long(each.field)]
    return "\n\n".join((table(("Setting, and its variable", "Default", "May be", "Meaning"), rows), *long))


def _names(setting: Setting) -> str:
    return f"{code(setting.path)}<br>{code(setting.variable)}" if setting.variable else code(setting.path)


def _default(setting: Setting) -> str:
    if _is_long(setting.field):
        return "see below"
    value = setting.field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "none: it must be given"
    unit = next((unit for suffix, unit in _UNITS.items() if setting.path.endswith(suffix)), "")
    return f"{_shown(value)} {unit}".rstrip()


def _shown(value: Any) -> str:
    if isinstance(value, list):
        value = [each.value if isinstance(each, Enum) else each for each in value]
    if isinstance(value, bool | list) or value is None:
        return code(json.dumps(value))
    return number(value) if isinstance(value, int | float) else code(value)


def _is_long(field: FieldInfo) -> bool:
    return isinstance(field.get_default(call_default_factory=True), dict)


def _long_default(setting: Setting) -> str:
    value = setting.field.get_default(call_default_factory=True)
    shown = yaml.safe_dump(value, sort_keys=False, default_flow_style=None)
    return f"The default of {code(setting.path)}:\n\n```yaml\n{shown}```"


def _allowed(field: FieldInfo) -> str:
    kinds = [each for each in _alternatives(field.annotation) if each is not type(None)]
    optional = "" if len(kinds) == len(_alternatives(field.annotation)) else ", or `null`"
    return _kind(kinds[0], field) + optional


def _alternatives(annotation: Any) -> list[Any]:
    return list(get_args(annotation)) if get_origin(annotation) in (Union, UnionType) else [annotation]


def _kind(kind: Any, field: FieldInfo) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return codes(get_args(kind))
    if origin is list:
        (entry,) = get_args(kind)
        return f"a list of {_entries(entry)}"
    if kind is bool:
        return codes(("true", "false"))
    if bounds := _bounds(field):
        return bounds
    return _KINDS.get(origin or kind, "text")


def _entries(entry: Any) -> str:
    if isinstance(entry, type) and issubclass(entry, Enum):
        return codes(each.value for each in entry)
    return "the entries below" if isinstance(entry, type) and issubclass(entry, BaseModel) else "texts"


def _bounds(field: FieldInfo) -> str:
    given = {name: getattr(each, name) for each in field.metadata for name in ("ge", "gt", "le", "lt", "pattern")
             if getattr(each, name, None) is not None}  # fmt: skip
    if "pattern" in given:
        return f"text that matches `{given['pattern']}`"
    words = {"ge": "from {}", "gt": "more than {}", "le": "up to {}", "lt": "less than {}"}
    return ", ".join(form.format(number(given[name])) for name, form in words.items() if name in given)
