"""The merge of overrides over a template, for any two JSON objects."""

import copy
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.template import LineClass, Template, configuration, merge

LINE = LineClass("openai", "openai", "wss://host/v1/realtime", "gpt-realtime", "realtime", "main")

# Few names, so that both sides often mean the same field.
names = st.sampled_from(("a", "b", "c", "audio"))
plain = st.booleans() | st.integers(-3, 3) | st.text("xy", max_size=2)
leaves = plain | st.lists(plain | st.none(), max_size=2)


def objects(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    values = st.recursive(leaf, lambda below: st.dictionaries(names, below, max_size=3), max_leaves=8)
    return st.dictionaries(names, values, max_size=4)


bases = objects(leaves)
patches = objects(leaves | st.none())


def holds_null(value: Any) -> bool:
    return value is None or (isinstance(value, Mapping) and any(map(holds_null, value.values())))


def rfc_7396(target: Any, patch: Any) -> Any:
    """The algorithm of the RFC, section 2, as it is written there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = rfc_7396(result.get(name), value)
    return result


@given(bases, patches)
def test_a_merge_is_the_one_of_the_rfc(base: dict[str, Any], patch: dict[str, Any]) -> None:
    assert merge(base, patch) == rfc_7396(base, patch)


@given(bases)
def test_nothing_changes_nothing(base: dict[str, Any]) -> None:
    assert merge(base, {}) == base


@given(bases, patches)
def test_the_same_patch_twice_is_the_same_as_once(base: dict[str, Any], patch: dict[str, Any]) -> None:
    once = merge(base, patch)
    assert merge(once, patch) == once


@given(bases)
def test_a_patch_over_nothing_is_itself(patch: dict[str, Any]) -> None:
    assert merge({}, patch) == patch


@given(bases, patches)
def test_no_null_is_left(base: dict[str, Any], patch: dict[str, Any]) -> None:
    assert not any(map(holds_null, merge(base, patch).values()))


@given(bases, patches)
def test_neither_side_is_changed(base: dict[str, Any], patch: dict[str, Any]) -> None:
    before = copy.deepcopy((base, patch))
    merge(base, patch)
    configuration(Template("t", LINE, base), patch)
    assert (base, patch) == before


@given(bases, patches)
def test_what_the_patch_does_not_name_stays(base: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge(base, patch)
    assert {name: merged[name] for name in base.keys() - patch.keys()} == {
        name: base[name] for name in base.keys() - patch.keys()
    }


def named(patch: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether the result says, field by field, what the patch said, nulls included."""
    return all(
        name in result and (named(value, result[name]) if isinstance(value, Mapping) else result[name] == value)
        for name, value in patch.items()
    )


@given(bases, patches)
def test_a_configuration_says_all_that_the_caller_said(base: dict[str, Any], patch: dict[str, Any]) -> None:
    assert named(patch, configuration(Template("t", LINE, base), patch))


@given(bases, patches)
def test_a_configuration_is_the_merge_where_nulls_are_absences(base: dict[str, Any], patch: dict[str, Any]) -> None:
    def without_nulls(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: without_nulls(each) for name, each in value.items() if each is not None}

    told = configuration(Template("t", LINE, base), patch)
    assert without_nulls(told) == {**merge(base, patch), "type": "realtime"}
