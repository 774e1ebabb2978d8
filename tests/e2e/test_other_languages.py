"""A caller that shares no code with us: `buf curl`, written in Go, with no more than reflection to go by."""

import base64
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import ROOT, ProcessStack, on_linux, process_stack
from tests.support.stack import caller_settings
from tests.support.tools import venv_script

pytestmark = on_linux
SERVICE = "trunkline.v1.SessionService/Converse"
MESSAGES: tuple[dict[str, Any], ...] = (
    {"open": {"correlationId": "from-buf"}},
    {"control": {"text": {"text": "Hello there"}}},
    {"control": {"createResponse": {}}},
)
TOKEN = "token-of-another-language"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessStack]:
    callers = [caller_settings(tmp_path_factory.mktemp("callers"), TOKEN, "converse")]
    with process_stack(insecure_dev=False, callers=callers) as running:
        yield running


REFLECT = ("--reflect", "--reflect-header", "*")
SCHEMA = ("--schema", str(ROOT / "proto"))


def curl(
    stack: ProcessStack,
    headers: Path,
    messages: Sequence[Any] = MESSAGES,
    schema: Sequence[str] = REFLECT,
) -> "subprocess.CompletedProcess[str]":
    """Send the messages, half-close, and read to the end."""
    command = [
        venv_script("buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge",
        *schema, "--header", f"@{headers}", "--data", "@-",
        f"http://{stack.address}/{SERVICE}",
    ]  # fmt: skip
    return subprocess.run(
        command,
        input="\n".join(map(json.dumps, messages)),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def documents(text: str) -> list[dict[str, Any]]:
    decoder, found, at = json.JSONDecoder(), [], 0
    while (at := len(text) - len(text[at:].lstrip())) < len(text):
        document, at = decoder.raw_decode(text, at)
        found.append(document)
    return found


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    file = tmp_path / "headers"
    file.write_text(f"authorization: Bearer {TOKEN}\n", "ascii")
    return file


def test_a_stranger_holds_a_plain_session_by_reflection_alone(stack: ProcessStack, headers: Path) -> None:
    done = curl(stack, headers)
    assert done.returncode == 0, done.stderr
    answers = documents(done.stdout)
    assert answers[0]["opened"]["correlationId"] == "from-buf"
    audio = b"".join(base64.b64decode(each["audio"]["data"]) for each in answers if "audio" in each)
    assert len(audio) > 24_000
    (finished,) = [each["responseDone"] for each in answers if "responseDone" in each]
    assert finished["status"] == "RESPONSE_STATUS_COMPLETED"
    assert answers[-1]["closed"]["reason"] == "CLOSED_REASON_BYE"


def test_a_stranger_is_told_why_it_is_refused(stack: ProcessStack, headers: Path) -> None:
    done = curl(stack, headers, [{"open": {"template": "nonesuch"}}])
    assert done.returncode == 5 << 3
    assert "not_found" in done.stderr
    assert "no template 'nonesuch'" in done.stderr


def test_a_stranger_without_its_token_gets_nowhere(stack: ProcessStack, tmp_path: Path) -> None:
    headers = tmp_path / "none"
    headers.write_text("x-nothing: 1\n", "ascii")
    done = curl(stack, headers)
    assert (done.returncode != 0, done.stdout) == (True, "")
    done = curl(stack, headers, schema=SCHEMA)
    assert (done.returncode, done.stdout) == (16 << 3, "")
    assert "unauthenticated" in done.stderr
