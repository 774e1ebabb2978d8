"""What callers have named is shown to operators as it is, and does nothing to their terminal."""

import pytest
from trunkline.v1 import admin_pb2

from gateway.cli import admin


@pytest.mark.parametrize(
    ("named", "shown"),
    [("[red]x", "[red]x"), ("[/red]", "[/red]"), ("\x1b[2Jx", "?[2Jx"), ("a\nb", "a?b"), ("Zürich", "Zürich")],
)
def test_names_cannot_write_into_the_terminal(named: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    admin._show(admin_pb2.ListLeasesResponse(), "lease", [(named,)], as_json=False)
    printed = capsys.readouterr().out
    assert shown in printed
    assert "\x1b" not in printed
