"""The chart's own test in the cluster. Another test runs it against a real gateway."""

import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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


@contextmanager
def answers(status: int, body: bytes) -> Iterator[int]:
    """Serve one answer on a port of this machine, whatever is asked."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Answer) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "code", "told"),
    [
        (200, b'{"ready": true}', 0, '127.0.0.1: ready: {"ready": true}'),
        (503, b'{"obstacles": ["draining"]}', 1, '127.0.0.1: not ready: {"obstacles": ["draining"]}'),
        (200, b"<html>", 1, "127.0.0.1: not ready: Expecting value"),
    ],
)
def test_only_a_gateway_that_says_so_is_ready(
    status: int, body: bytes, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answers(status, body) as port:
        assert asked(port)("127.0.0.1") == code
    assert told in capsys.readouterr().out


def test_it_fails_where_nobody_listens_or_a_name_is_unknown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main = asked(free_port())
    assert main("127.0.0.1") == 1
    assert "Connection refused" in capsys.readouterr().out
    assert main("no-such-name.invalid") == 1
