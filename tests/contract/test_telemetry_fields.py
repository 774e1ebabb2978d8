"""What the rooms log is what a log line may hold: an unlisted field would vanish unseen by its author."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.telemetry.redaction import FIELDS, REDACTED, word

GATEWAY: Final = Path(__file__).parents[2] / "gateway"
LEVELS: Final = {"debug", "info", "warning", "error", "exception", "critical"}
# structlog's own arguments.
NOT_FIELDS: Final = {"exc_info"}


def _log_calls() -> Iterator[tuple[str, ast.Call]]:
    for file in sorted(GATEWAY.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log"), attr=level)) if level in LEVELS:
                    yield f"{file.relative_to(GATEWAY)}:{node.lineno}", node


CALLS: Final = dict(_log_calls())


def test_the_search_finds_the_calls() -> None:
    assert any(place.startswith("runtime/") for place in CALLS)


@pytest.mark.parametrize("place", CALLS)
def test_every_logged_field_is_listed(place: str) -> None:
    named = {each.arg for each in CALLS[place].keywords if each.arg is not None}
    assert named - NOT_FIELDS <= FIELDS.keys(), "list it in gateway/telemetry/redaction.py, or leave it out"


@pytest.mark.parametrize("place", CALLS)
def test_every_event_is_one_constant_word(place: str) -> None:
    (event,) = CALLS[place].args
    assert isinstance(event, ast.Constant)
    assert word(event.value) != REDACTED
