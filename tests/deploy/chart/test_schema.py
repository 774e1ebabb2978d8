"""The schema is one, closes what has an end, and names what values.yaml names."""

import json
from collections.abc import Iterator
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped, import-not-found, unused-ignore] # no types are published
import pytest
import yaml

from tests.deploy.chart.rendered import CASES, changed, values
from tests.support.helm import CHART

pytestmark = pytest.mark.deploy

SCHEMA: Final[dict[str, Any]] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
# Kubernetes' own, or keyed by names that others choose.
OPEN: Final = {
    "affinity", "extraEgress", "extraIngress", "global", "namespaceSelector", "podSelector", "session", "tolerations",
    "claims", "pullSecrets", "valueFrom",
}  # fmt: skip


def resolved(node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        node = SCHEMA["definitions"][node["$ref"].removeprefix("#/definitions/")]
    return node


def objects(node: Any, name: str, seen: frozenset[str] = frozenset()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each place where a mapping may stand, with the name of the value that leads there."""
    node = resolved(node)
    if not isinstance(node, dict):
        return
    if node.get("type") == "object":
        yield name, node
    for key, below in node.get("properties", {}).items():
        yield from objects(below, key)
    for key in ("additionalProperties", "items"):
        yield from objects(node.get(key), name)
    for key in ("anyOf", "allOf"):
        for each in node.get(key, []):
            yield from objects(each, name)


def test_it_is_a_schema_of_the_draft_that_helm_reads() -> None:
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert "$defs" not in json.dumps(SCHEMA)


def test_whatever_has_an_end_is_closed() -> None:
    found = list(objects(SCHEMA, "values"))
    assert len(found) > 60
    # A map of names says what stands below each of them.
    open_ones = {name for name, each in found if each.get("additionalProperties", True) is True}
    assert open_ones - OPEN == set()


def test_it_names_what_the_values_name() -> None:
    def compared(schema: Any, tree: Any, path: str) -> Iterator[str]:
        named = resolved(schema).get("properties")
        if isinstance(tree, dict) and named is not None and path != "config":
            yield from (f"{path}.{key}" for key in set(named) ^ set(tree))
            for key in set(named) & set(tree):
                yield from compared(named[key], tree[key], f"{path}.{key}".lstrip("."))

    tree = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    # Of parts that several values share, or that nobody sets by default.
    accepted = {
        ".global", "valkey.image.pullSecrets", *(f"{each}.claims" for each in (
            "resources", "simulator.resources", "test.resources", "valkey.resources")),
    }  # fmt: skip
    assert set(compared(SCHEMA, tree, "")) == accepted


@pytest.mark.parametrize("case", CASES)
def test_editors_that_read_it_accept_what_helm_accepts(case: str) -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    validator = jsonschema.Draft7Validator(SCHEMA)
    assert [each.message for each in validator.iter_errors(changed(defaults, values(case)))] == []
