"""What the pages name is there: settings, metrics, commands, reasons, events of the log. And nothing is left out."""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import yaml
from google.protobuf.descriptor import FileDescriptor

from gateway.core.errors import Reason
from gateway.settings import Settings
from tests.support.redis_access import GATEWAY_RULES
from tests.support.redis_cluster import CLUSTER_RULES
from tests.support.redis_sentinel import SENTINEL_RULES
from tests.support.reference_blocks import blocks, commands
from tests.support.reference_commands import verbs
from tests.support.reference_metrics import every
from tests.support.reference_settings import settings

ROOT: Final = Path(__file__).parents[1]
# Generated pages are compared as a whole; the simulator's page has a test of its own.
PAGES: Final = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "docs").rglob("*.md")
    if "reference" not in path.parts and path.name != "simulator.md"
)
TROUBLESHOOTING: Final = "docs/troubleshooting.md"
STEMS: Final = ("admin", "control", "errors", "event", "lease", "session", "speech", "types")
# gRPC's own.
OTHER_SPANS: Final = {"grpc.health.v1.Health", "grpc.enable_retries"}
# Read by the commands, not by the gateway.
OTHER_VARIABLES: Final = {"TRUNKLINE_TOKEN", "TRUNKLINE_"}
_LEVELS: Final = {"info", "warning", "error", "exception"}


@cache
def text(page: str) -> str:
    return (ROOT / page).read_text("utf-8")


def spans(page: str) -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def first_cells(page: str, title: str = "") -> list[str]:
    """Return what stands in the first column of the tables, below a heading where one is given."""
    below = text(page).partition(f"\n## {title}\n")[2].partition("\n## ")[0] if title else text(page)
    assert below, f"{page} has no section {title!r}"
    return [
        span for line in re.findall(r"^\| ([^|]*)\|", below, re.MULTILINE) for span in re.findall(r"`([^`]+)`", line)
    ]


# Names.


@cache
def contract() -> list[FileDescriptor]:
    return [import_module(f"trunkline.v1.{stem}_pb2").DESCRIPTOR for stem in STEMS]


@pytest.mark.parametrize("page", PAGES)
def test_words_in_capitals_are_words_of_the_code(page: str) -> None:
    known = {"OPENAI_API_KEY", *Reason.__members__, *grpc.StatusCode.__members__}
    known |= {each.name for file in contract() for enum in file.enum_types_by_name.values() for each in enum.values}
    said = {span for span in spans(page) if re.fullmatch(r"[A-Z][A-Z_]{3,}", span)}
    said |= set(
        re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL))
    )
    arguments = {"SESSION_ID"}
    assert {word for word in said if not word.startswith("TRUNKLINE")} - known - arguments == set()


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_are_named_exist(page: str) -> None:
    known = {re.sub(r"<\w+>", "<>", each.path) for each in settings()}
    known |= {path.rpartition(".")[0] for path in known} | {path.replace("[]", "") for path in known}
    sections = "|".join(Settings.model_fields)
    named = {
        span for span in spans(page) if re.fullmatch(rf"(?:{sections})(?:\[\])?\.[\w.<>\[\]]+", span)
    } - OTHER_SPANS
    assert {span for span in named if re.sub(r"<\w+>", "<>", span) not in known} == set()


@pytest.mark.parametrize("page", PAGES)
def test_variables_that_are_named_are_read(page: str) -> None:
    forms = {re.sub(r"<\w+>", r"[A-Z0-9_]+?", each.variable) for each in settings() if each.variable}
    named = set(re.findall(r"\bTRUNKLINE_[A-Z0-9_]*", text(page))) - OTHER_VARIABLES
    assert {each for each in named if not any(re.fullmatch(form, each) for form in forms)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_metrics_that_are_named_exist(page: str) -> None:
    known = {each.name for each in every()}
    known |= {f"{each.name}_{part}" for each in every() if each.buckets for part in ("bucket", "sum", "count")}
    named = set(re.findall(r"\btrunkline_[a-z_]+", text(page))) - {"trunkline_client"}
    assert named - known == set()


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_options_that_are_named_exist(page: str) -> None:
    lines = [each.text for each in commands(page)] + [span for span in spans(page) if span.startswith("trunkline ")]
    options = {name: {option for each in verb.params for option in each.opts} for name, verb in verbs().items()}
    for line in lines:
        for verb, rest in re.findall(r"\btrunkline ([a-z]+)\b([^|>$)]*)", line):
            assert verb in options, line
            assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= options[verb], line
    alone = {span for span in spans(page) if re.fullmatch(r"--[a-z-]+", span)}
    assert alone <= {option for each in options.values() for option in each}


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_that_are_named_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    named = {span.split()[1] for span in spans(page) if span.startswith("make ")}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_fields_of_messages_that_are_named_exist(page: str) -> None:
    messages = {m.name: m for file in contract() for m in file.message_types_by_name.values()}
    fields = {name: set(message.fields_by_name) for name, message in messages.items()}
    for span in spans(page):
        found = re.fullmatch(r"(open|opened|closed|control|response_done|PoolNumbers|Pool)\.(\w+)(?:\..*)?", span)
        if found:
            message = "".join(part.capitalize() for part in found[1].split("_")) if found[1][0].islower() else found[1]
            assert found[2] in fields[message], span


# What an operator is led through.


def test_every_reason_is_explained() -> None:
    shown = set(first_cells(TROUBLESHOOTING))
    assert {reason.value for reason in Reason} - shown == set()


@cache
def calls() -> list[tuple[str, str, str]]:
    """Return each call of the gateway whose first argument is a word: on what, which method, the word."""
    found = []
    for file in (ROOT / "gateway").rglob("*.py"):
        if "simulator" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                on, first = ast.unparse(node.func.value), node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.append((on, node.func.attr, first.value))
                elif isinstance(first, ast.JoinedStr) and isinstance(first.values[0], ast.Constant):
                    found.append((on, node.func.attr, str(first.values[0].value)))
    return found


def events(*levels: str) -> set[str]:
    return {word for on, method, word in calls() if on in ("log", "_log") and method in levels}


def test_every_event_that_tells_of_trouble_is_explained() -> None:
    shown = set(first_cells(TROUBLESHOOTING, "What the log says"))
    trouble = events("warning", "error", "exception") - {"library"}
    assert len(trouble) > 20
    assert trouble - shown == set(), "warned of, and not explained"
    assert shown - events(*_LEVELS) == set(), "explained, and never logged"


def test_every_component_of_the_health_report_is_explained() -> None:
    components = {word for on, method, word in calls() if on == "health" and method == "set"}
    shown = first_cells(TROUBLESHOOTING, "What `/readyz` shows")
    assert len(components) >= 3
    assert {word for word in components if not any(each.startswith(word) for each in shown)} == set()
    assert {"starting", "draining", "overloaded"} <= set(shown)


def test_the_rights_at_redis_are_those_that_a_gateway_needs() -> None:
    (line,) = [block.body for block in blocks("docs/operations/redis.md") if block.body.startswith("user ")]
    assert set(line.split()[4:]) == set(GATEWAY_RULES.split())
    more = {span for span in spans("docs/operations/redis.md") if span.startswith("+")}
    assert {rule for span in more for rule in span.split()} == {*SENTINEL_RULES.split(), *CLUSTER_RULES.split()}


# Examples.


@pytest.mark.parametrize("page", PAGES)
def test_configurations_that_are_shown_can_be_used(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks(page):
        if block.title == "trunkline.yaml":
            Settings(**yaml.safe_load(block.body))


@pytest.mark.heavy
def test_programs_that_are_shown_are_typed(tmp_path: Path) -> None:
    """They import what is there, and call it with what it takes."""
    files = []
    for page in PAGES:
        for number, block in enumerate(each for each in blocks(page) if each.language == "python"):
            files.append(tmp_path / f"{Path(page).stem.replace('-', '_')}_{number}.py")
            files[-1].write_text(block.body, "utf-8")
    assert len(files) > 5
    command: list[Any] = [sys.executable, "-m", "mypy", "--no-incremental", "--ignore-missing-imports", *files]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert checked.returncode == 0, checked.stdout
