"""The chart's own test in the cluster, run against real gateways on this machine."""

import runpy
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.chart.rendered import manifests
from tests.support.helm import CHART, only
from tests.support.ports import free_port
from tests.support.processes import process_stack
from tests.support.waiting import eventually_sync

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


def test_it_passes_when_the_gateway_is_ready_and_fails_while_it_drains(capsys: pytest.CaptureFixture[str]) -> None:
    with process_stack(limits={"drain_seconds": 20}) as stack:
        main = asked(int(stack.ops.rpartition(":")[2]))
        eventually_sync(lambda: main("127.0.0.1") == 0, "the gateway is ready", pause_seconds=0.2)
        assert "127.0.0.1: ready: {" in capsys.readouterr().out
        stack.gateway.send(signal.SIGTERM)
        eventually_sync(lambda: main("127.0.0.1") == 1, "it is not ready any more", pause_seconds=0.05)
    assert "127.0.0.1: not ready: " in capsys.readouterr().out


def test_it_fails_where_nobody_listens_or_a_name_is_unknown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main = asked(free_port())
    assert main("127.0.0.1") == 1
    assert "Connection refused" in capsys.readouterr().out
    assert main("no-such-name.invalid") == 1
