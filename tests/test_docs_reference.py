"""The generated pages are fresh, and what they are made from agrees with what runs."""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel

from gateway.settings import Settings, load
from gateway.telemetry.metrics import Metrics
from tests.support import reference, reference_contract, reference_errors, reference_metrics, reference_settings

ROOT: Final = Path(__file__).parents[1]
INTERFACES: Final = ROOT.parent / "shared" / "INTERFACES.md"


def test_the_generated_pages_are_fresh() -> None:
    assert reference.stale() == [], "run `make docs`"


def test_a_page_that_nobody_makes_or_that_was_changed_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    reference.write()
    assert reference.stale() == []
    (tmp_path / "old.md").write_text("# Old\n")
    (tmp_path / "metrics.md").write_text("# Metrics\n")
    assert reference.stale() == ["metrics.md", "old.md"]
    reference.write()
    assert reference.stale() == []


# Metrics.


def _shown() -> dict[str, tuple[str, set[str]]]:
    """Return type and labels of each metric of the committed page."""
    page = (reference.FOLDER / reference_metrics.NAME).read_text("utf-8").partition("## Buckets")[0]
    found = re.findall(r"^\| `(trunkline_\w+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in found}


def test_the_page_has_every_metric_of_the_code() -> None:
    families = {each.name: set(each.labels) for each in reference_metrics.every()}
    assert {name: labels for name, (_, labels) in _shown().items()} == families


def test_types_are_those_of_the_registry() -> None:
    kinds = {
        f"{each.name}_total" if each.type == "counter" else each.name: each.type
        for each in Metrics().registry.collect()
    }
    shown = {name: kind for name, (kind, _) in _shown().items() if name in kinds}
    assert len(shown) > 10
    assert shown == {name: kinds[name] for name in shown}


def test_every_metric_is_agreed() -> None:
    """Which of the agreed ones have no source yet is in tests/contract/test_telemetry_names.py."""
    if not INTERFACES.is_file():
        pytest.skip(f"{INTERFACES} is not here: names are compared where the contract lies")
    section = INTERFACES.read_text("utf-8").partition("## Metrics")[2].partition("\n## ")[0]
    agreed = {
        name: {label.partition("=")[0] for label in labels.split(",") if label}
        for name, labels in re.findall(r"`(trunkline_\w+)(?:\{([^}]*)\})?`", section)
    }
    agreed |= reference_metrics.BEYOND
    assert {name: labels for name, (_, labels) in _shown().items() if agreed.get(name) != labels} == {}


# Errors.


def test_the_comments_of_the_reasons_are_what_the_gateway_does() -> None:
    told = {each.reason: (each.status, each.retryable) for each in reference_errors.told()}
    assert told == reference_errors.in_the_code()


# Settings.

NAMES: Final = {"<NAME>": "MAIN", "<TEMPLATE>": "DEFAULT"}
# A section's own name, where it is not called main.
NAMED: Final = {"TARGETS": "OPENAI", "TEMPLATES": "DEFAULT"}


def _variable(form: str) -> str:
    section = form.removeprefix("TRUNKLINE_").partition("__")[0]
    return re.sub(r"<\w+>", lambda found: NAMED.get(section, NAMES[found[0]]), form)


def _value(settings: BaseModel, variable: str) -> Any:
    found: Any = settings
    for part in variable.removeprefix("TRUNKLINE_").lower().split("__"):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


SIMPLE: Final = [
    each
    for each in reference_settings.settings()
    if each.variable and isinstance(each.field.get_default(call_default_factory=True), str | int | float)
]


@pytest.mark.parametrize("setting", SIMPLE, ids=lambda setting: setting.path)
def test_each_variable_sets_its_setting(setting: reference_settings.Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, chosen = _variable(setting.variable), _another(setting.field.get_default(call_default_factory=True))
    for name in [name for name in os.environ if name.startswith("TRUNKLINE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(variable, json.dumps(chosen) if isinstance(chosen, bool) else str(chosen))
    assert _value(load(None), variable) == chosen


def _another(default: Any) -> Any:
    """Return another value where any will do; words and switches are checked, and some not served."""
    if isinstance(default, bool | str):
        return default
    return default + 1 if isinstance(default, int) else default / 2


def test_every_setting_is_on_the_page() -> None:
    page = (reference.FOLDER / reference_settings.NAME).read_text("utf-8")
    assert len(SIMPLE) > 40
    assert [each.path for each in reference_settings.settings() if f"| `{each.path}`" not in page] == []
    assert [name for name in Settings.model_fields if f"## {name}\n" not in page and f"`{name}`" not in page] == []


# The contract.


def test_every_message_field_and_method_is_on_a_page() -> None:
    pages = "\n".join(reference_contract.pages().values())
    for file in reference_contract.contract():
        for message in file.message_type:
            assert f"## {message.name}\n" in pages
            assert [each.name for each in message.field if f"| `{each.name}` |" not in pages] == []
        for enum in file.enum_type:
            assert [each.name for each in enum.value if f"| `{each.name}` |" not in pages] == []
        for service in file.service:
            assert [each.name for each in service.method if f"### {each.name}\n" not in pages] == []


def test_nothing_of_the_contract_is_without_a_comment() -> None:
    for file in reference_contract.contract():
        said = reference_contract.comments(file)
        for number, message in enumerate(file.message_type):
            for index, each in enumerate(message.field):
                path = (reference_contract.MESSAGES, number, reference_contract.BELOW, index)
                assert said[path].strip(), f"{message.name}.{each.name}"
