"""Templates have versions of their content; a caller's overrides merge over them within the line class."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.core.errors import CallerError, Reason
from gateway.core.template import SAFETY_CLASSES, LineClass, Template, check_patch, configuration, merge

LINE = LineClass("openai", "openai", "wss://host/v1/realtime", "gpt-realtime", "realtime", "main")
SESSION: dict[str, Any] = {
    "type": "realtime",
    "instructions": "Be brief.",
    "audio": {"input": {"turn_detection": {"type": "server_vad"}}, "output": {"voice": "alloy"}},
}
TEMPLATE = Template("default", LINE, SESSION)


def test_equal_content_has_equal_versions() -> None:
    turned = dict(reversed(SESSION.items()))
    assert Template("other", LINE, turned).version == TEMPLATE.version


def test_other_content_has_another_version() -> None:
    changed = Template("default", LINE, {**SESSION, "instructions": "Be long."})
    other_model = Template("default", replace(LINE, model="gpt-realtime-2.1"), SESSION)
    assert len({TEMPLATE.version, changed.version, other_model.version}) == 3


def test_a_line_is_tied_to_nobody_unless_told() -> None:
    assert LINE.safety == SAFETY_CLASSES[0] == "none"


def test_without_overrides_the_configuration_is_the_templates() -> None:
    assert configuration(TEMPLATE, {}) == SESSION


def test_an_override_changes_what_it_names_and_nothing_else() -> None:
    merged = configuration(TEMPLATE, {"audio": {"output": {"voice": "marin"}}})
    assert merged["audio"]["output"] == {"voice": "marin"}
    assert merged["audio"]["input"] == {"turn_detection": {"type": "server_vad"}}
    assert merged["instructions"] == "Be brief."


def test_a_null_stays_a_null_for_absence_would_leave_the_lines_own_value() -> None:
    merged = configuration(TEMPLATE, {"audio": {"input": {"turn_detection": None}}})
    assert merged["audio"]["input"] == {"turn_detection": None}


def test_a_null_may_stand_below_a_field_that_the_template_does_not_have() -> None:
    merged = configuration(TEMPLATE, {"tracing": {"group_id": None, "workflow_name": "w"}})
    assert merged["tracing"] == {"group_id": None, "workflow_name": "w"}


def test_an_object_replaces_a_value_that_is_none() -> None:
    assert configuration(TEMPLATE, {"instructions": {"a": {"b": None}}})["instructions"] == {"a": {"b": None}}


@pytest.mark.parametrize(
    "overrides", [{"model": "gpt-other"}, {"type": "transcription"}, {"model": None}, {"type": ""}]
)
def test_the_line_class_cannot_be_overridden(overrides: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match="use another template") as caught:
        configuration(TEMPLATE, overrides)
    assert caught.value.reason is Reason.OVERRIDE_REFUSED


@pytest.mark.parametrize(
    "patch", [{"model": "gpt-other"}, {"type": "transcription"}, {"model": None}, {"type": None}, {"model": ["x"]}]
)
def test_a_change_of_a_running_session_is_held_to_what_an_open_may_change(patch: dict[str, Any]) -> None:
    with pytest.raises(CallerError, match="template default") as caught:
        check_patch(TEMPLATE, {"instructions": "x", **patch})
    assert caught.value.reason is Reason.OVERRIDE_REFUSED


@pytest.mark.parametrize(
    "patch", [{}, {"instructions": "x"}, {"audio": None}, {"model": "gpt-realtime", "type": "realtime"}]
)
def test_a_change_within_the_line_class_is_let_through(patch: dict[str, Any]) -> None:
    check_patch(TEMPLATE, patch)


def test_naming_the_line_class_as_it_is_changes_nothing() -> None:
    assert configuration(TEMPLATE, {"model": "gpt-realtime", "type": "realtime"})["model"] == "gpt-realtime"


def test_the_type_is_always_named() -> None:
    assert configuration(Template("bare", LINE, {}), {}) == {"type": "realtime"}


def test_the_template_is_not_changed_by_a_merge() -> None:
    before = repr(SESSION)
    merged = configuration(TEMPLATE, {"audio": {"input": {"turn_detection": None}}, "instructions": None})
    merged["audio"]["input"]["more"] = 1
    assert repr(SESSION) == before


# The examples of RFC 7396, appendix A, as far as they merge objects.
@pytest.mark.parametrize(
    ("base", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_is_the_one_of_rfc_7396(base: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]) -> None:
    assert merge(base, patch) == result
