"""The simulator shares nothing with the service but the audio formats."""

import ast
import json
from pathlib import Path

import gateway.simulator

ROOM = Path(gateway.simulator.__file__).parent
ALLOWED = ("gateway.simulator", "gateway.core.audio")


def imported(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.append(node.module or "")
        elif isinstance(node, ast.Import):
            found.extend(each.name for each in node.names)
    return found


def test_nothing_of_the_service_is_imported() -> None:
    for path in ROOM.rglob("*.py"):
        own = [name for name in imported(path.read_text()) if name.split(".")[0] == "gateway"]
        assert all(name.startswith(ALLOWED) for name in own), path.name


def test_every_recording_in_the_index_is_shipped_and_none_besides() -> None:
    index = json.loads((ROOM / "speech" / "index.json").read_text())
    listed = {entry["file"] for entries in index.values() for entry in entries}
    assert listed == {path.name for path in (ROOM / "speech").glob("*.wav")}
