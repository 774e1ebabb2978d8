"""The chart's own test in the cluster. Another test runs it against a real gateway."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.chart.rendered import manifests
from tests.support.helm import CHART, only
from tests.support.ports import free_port

pytestmark = pytest.mark.deploy


def asked(port: int) -> Callable[[str], int]:
    """Return the script's `main`, for another port than the chart's."""
    script = runpy.run_path(str(CHART / "files" / "ready.py"))
    main: Callable[[str], int] = script["main"]
    main.__globals__["PORT"] = port
    return main


def test_the_test_in_the_cluster_runs_the_script_that_is_tested_here() -> None:
    (box,) = only(manifests("minimal"), "Pod")["spec"]["containers"]
    assert box["args"][0].strip() == (CHART / "files" / "ready.py").read_text("utf-8").strip()
    assert box["args"][1] == "trunkline-headless"
    assert "$(" not in box["args"][0], "kubelet would put a variable there"
    compile(box["args"][0], "ready.py", "exec")


def test_it_fails_where_nobody_listens_or_a_name_is_unknown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main = asked(free_port())
    assert main("127.0.0.1") == 1
    assert "Connection refused" in capsys.readouterr().out
    assert main("no-such-name.invalid") == 1
