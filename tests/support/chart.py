"""Generates what the chart repeats of others, or (without --write) says which committed files are stale.

README.md has the values with the comments of values.yaml. In values.schema.json the part below `config` is the
gateway's own settings: a misspelt one is refused before anything is installed.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from gateway.settings import Settings
from tests.support.helm import CHART

# Those of the gateway's own file that have values of their own in the chart. What to do instead is said by a template,
# in better words than a schema has.
TAKEN: Final = ("profile", "grpc", "ops", "door", "redis", "callers")
TAKEN_WITHIN: Final = {"StoreSettings": "sealing_keys", "AccountSettings": "key_file", "TracingSettings": "ca_file"}
_KEPT: Final = frozenset(
    {"additionalProperties", "anyOf", "default", "description", "enum", "exclusiveMaximum", "exclusiveMinimum", "items",
     "const", "maximum", "minItems", "minimum", "pattern", "properties", "required", "type"}
)  # fmt: skip
_BEGIN: Final = "<!-- values: made from values.yaml -->"
_KEY: Final = re.compile(r"^( *)([A-Za-z]\w*):(.*)$")


# The schema.


def schema() -> dict[str, Any]:
    """Return values.schema.json with its generated part as it must be."""
    written: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    own = {name: each for name, each in written["definitions"].items() if not name.startswith("config.")}
    return {**written, "definitions": {**own, **_config_definitions()}}


def _config_definitions() -> dict[str, Any]:
    settings = Settings.model_json_schema()
    found = {f"config.{name}": _draft_7(each) for name, each in settings["$defs"].items()}
    found["config.Settings"] = _draft_7({key: each for key, each in settings.items() if key != "$defs"})
    for name in TAKEN:
        found["config.Settings"]["properties"][name] = True
    for name, field in TAKEN_WITHIN.items():
        found[f"config.{name}"]["properties"][field] = True
    return {name: found[name] for name in sorted(_reached(found, "config.Settings"))}


def _draft_7(node: Any) -> Any:
    """Return what pydantic says, without the keywords that Helm's draft knows differently or not at all."""
    if isinstance(node, list):
        return [_draft_7(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:  # whatever stands beside it is ignored
        return {"$ref": node["$ref"].replace("#/$defs/", "#/definitions/config.")}
    kept = {key: each for key, each in node.items() if key in _KEPT}
    if isinstance(number := kept.get("default"), float) and number.is_integer():
        kept["default"] = int(number)  # 1 and 1.0 are the same to a reader
    for key in ("anyOf", "items", "additionalProperties"):
        if key in kept:
            kept[key] = _draft_7(kept[key])
    if "properties" in kept:
        kept["properties"] = {name: _draft_7(each) for name, each in kept["properties"].items()}
    return kept


def _reached(definitions: dict[str, Any], name: str) -> set[str]:
    named = set(re.findall(r'"#/definitions/([\w.]+)"', json.dumps(definitions[name])))
    return {name}.union(*(_reached(definitions, each) for each in named))


# The README.


@dataclass(frozen=True, slots=True)
class Value:
    """One value of values.yaml that a comment explains."""

    path: str
    default: Any
    words: str


def values() -> list[Value]:
    """Return the explained values, in the order of the file."""
    text = (CHART / "values.yaml").read_text("utf-8")
    tree = yaml.safe_load(text)
    return [Value(path, _at(tree, path), words) for path, words in _explained(text)]


def _explained(text: str) -> Iterator[tuple[str, str]]:
    """Yield each path with its comment: the lines from `# -- ` down to the key."""
    above: list[str] = []
    path: list[str] = []
    for line in text.splitlines():
        comment = line.strip()
        if comment.startswith("# -- "):
            above = [comment.removeprefix("# -- ")]
        elif comment.startswith("#"):
            above += [comment.removeprefix("#").strip()] if above else []
        elif found := _KEY.match(line):
            path = [*path[: len(found[1]) // 2], found[2]]
            if above:
                yield ".".join(path), " ".join(above)
            above = []
        else:
            above = []


def _at(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree[key]
    return tree


def readme() -> str:
    """Return README.md with its generated part as it must be."""
    head = (CHART / "README.md").read_text("utf-8").partition(_BEGIN)[0]
    rows = "".join(f"| `{each.path}` | `{_cell(each.default)}` | {each.words} |\n" for each in values())
    return f"{head}{_BEGIN}\n\n| value | default | meaning |\n|---|---|---|\n{rows}"


def _cell(default: Any) -> str:
    return json.dumps(default, ensure_ascii=False)


def fresh() -> dict[str, str]:
    """Return the generated files as they must be, by their names in the chart."""
    return {
        "values.schema.json": json.dumps(schema(), indent=2, ensure_ascii=False) + "\n",
        "README.md": readme(),
    }


def main() -> int:
    """Write, or compare."""
    stale = [name for name, text in fresh().items() if (CHART / name).read_text("utf-8") != text]
    if "--write" in sys.argv:
        for name in stale:
            (CHART / name).write_text(fresh()[name], "utf-8")
        return 0
    if stale:
        print(f"stale, run `python -m tests.support.chart --write`: {', '.join(stale)}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
