"""Checks of what a client sends, composed like the objects they check. A check raises `Refusal` or returns nothing."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from gateway.simulator.events import Code, Refusal

Check = Callable[[str, Any], None]

_NAMES: Final = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def refuse_type(path: str, expected: str, value: object) -> Refusal:
    """Return the refusal of a value of the wrong JSON type."""
    found = _NAMES.get(type(value), "something else")
    return Refusal(Code.INVALID_TYPE, f"Invalid type for '{path}': expected {expected}, but got {found} instead.", path)


def _of_type(kind: type, expected: str) -> Check:
    def check(path: str, value: object) -> None:
        if type(value) is not kind:
            raise refuse_type(path, expected, value)

    return check


text: Final = _of_type(str, "a string")
flag: Final = _of_type(bool, "a boolean")
anything_in_object: Final = _of_type(dict, "an object")


def number(low: float, high: float) -> Check:
    """Accept a number from `low` to `high`."""

    def check(path: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refuse_type(path, "a number", value)
        if not low <= value <= high:
            message = f"Invalid '{path}': expected a value from {low} to {high}, but got {value} instead."
            raise Refusal(Code.INVALID_VALUE, message, path)

    return check


def integer(low: int, high: int) -> Check:
    """Accept a whole number from `low` to `high`."""
    in_range = number(low, high)

    def check(path: str, value: object) -> None:
        if type(value) is not int:
            raise refuse_type(path, "an integer", value)
        in_range(path, value)

    return check


def one_of(allowed: Collection[str]) -> Check:
    """One of these strings."""

    def check(path: str, value: object) -> None:
        text(path, value)
        if value not in allowed:
            supported = ", ".join(f"'{each}'" for each in allowed)
            raise Refusal(Code.INVALID_VALUE, f"Invalid value: '{value}'. Supported values are: {supported}.", path)

    return check


def nullable(check: Check) -> Check:
    """Null, or what `check` accepts."""

    def check_unless_null(path: str, value: object) -> None:
        if value is not None:
            check(path, value)

    return check_unless_null


def list_of(check: Check, *, at_most: int) -> Check:
    """Accept an array of what `check` accepts."""

    def check_each(path: str, value: object) -> None:
        if not isinstance(value, list):
            raise refuse_type(path, "an array", value)
        if len(value) > at_most:
            message = f"Invalid '{path}': array too long. Expected at most {at_most} elements, but got {len(value)}."
            raise Refusal(Code.ARRAY_ABOVE_MAX_LENGTH, message, path)
        for index, each in enumerate(value):
            check(f"{path}[{index}]", each)

    return check_each


def group(fields: Mapping[str, Check], required: Collection[str] = ()) -> Check:
    """Accept an object with these fields and no others."""

    def check(path: str, value: object) -> None:
        if not isinstance(value, dict):
            raise refuse_type(path, "an object", value)
        for name in required:
            if name not in value:
                missing = f"{path}.{name}"
                raise Refusal(Code.MISSING_REQUIRED_PARAMETER, f"Missing required parameter: '{missing}'.", missing)
        for name, each in value.items():
            if name not in fields:
                unknown = f"{path}.{name}"
                raise Refusal(Code.UNKNOWN_PARAMETER, f"Unknown parameter: '{unknown}'.", unknown)
            fields[name](f"{path}.{name}", each)

    return check


def by_type(shapes: Mapping[str, Check]) -> Check:
    """Accept an object whose `type` says which of these checks it must pass."""
    known_type = one_of(shapes)

    def check(path: str, value: object) -> None:
        if not isinstance(value, dict):
            raise refuse_type(path, "an object", value)
        if "type" not in value:
            raise Refusal(
                Code.MISSING_REQUIRED_PARAMETER, f"Missing required parameter: '{path}.type'.", f"{path}.type"
            )
        known_type(f"{path}.type", value["type"])
        shapes[value["type"]](path, value)

    return check


def string_or(word_check: Check, object_check: Check) -> Check:
    """Accept a string that passes the first check, or anything else that passes the second."""

    def check(path: str, value: object) -> None:
        (word_check if isinstance(value, str) else object_check)(path, value)

    return check
