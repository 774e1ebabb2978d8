"""What the documents say is so: their examples run, their names exist, their tables are the code's."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from enum import Enum
from functools import cache
from http.client import HTTPConnection
from importlib import import_module
from pathlib import Path
from typing import Any, Final, get_args

import grpc
import pytest
import typer
import yaml
from google.protobuf.descriptor import FileDescriptor
from pydantic import BaseModel
from trunkline.v1 import admin_pb2, errors_pb2, lease_pb2, session_pb2, speech_pb2
from trunkline_client import ConnectionOptions

from gateway.cli.children import free_port
from gateway.cli.main import app
from gateway.cli.stack import environment
from gateway.core import (
    backoff,
    breaker,
    connection,
    demand,
    events,
    lease,
    pace,
    policy,
    reservation,
    session,
    share,
    snapshot,
)
from gateway.core.errors import Reason
from gateway.core.pool import RECALL_PAUSE_SECONDS
from gateway.rpc.requests import METADATA_MAX, SAFETY_IDENTIFIER_MAX
from gateway.rpc.server import ServerOptions
from gateway.rpc.services import SERVED
from gateway.runtime.greeting import GUARD_MAX_SECONDS, GUARD_MS
from gateway.runtime.lane_parts import LaneOptions
from gateway.runtime.ports import SlotKind
from gateway.runtime.pulse import PulseOptions
from gateway.runtime.relay import SAMPLE_EVERY
from gateway.runtime.session_options import SessionOptions
from gateway.runtime.trunk_group import PROOF_SECONDS
from gateway.settings import Settings, SettingsError, load
from gateway.store.dial_rate import BURST_RATIOS
from gateway.store.keys import RECORD_LIFE_SECONDS
from gateway.store.options import (
    GATEWAYS_ASSUMED,
    SPARE_FROM_CONNECTIONS,
    SPARE_MIN,
    SPARE_RATIO,
    AccountSlots,
    RedisOptions,
    SlotsOptions,
)
from gateway.telemetry import families

ROOT: Final = Path(__file__).parents[1]
NAMES: Final = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS, SIMULATOR_PORT = "127.0.0.1:50051", "9180"
START_SECONDS: Final = 20.0
RUN_SECONDS: Final = 30.0


# Reading a page.


@cache
def page(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(name: str, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page(name)) if kind == language]


def prose(name: str) -> str:
    return FENCE.sub("", page(name))


def flat(name: str) -> str:
    return " ".join(prose(name).split())


def spans(name: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(name))


def section(name: str, title: str) -> str:
    """Return what stands under a heading, up to the next one."""
    _, _, below = page(name).partition(f"# {title}\n")
    assert below, f"{name} has no section {title!r}"
    return re.split(r"^#+ ", below, maxsplit=1, flags=re.MULTILINE)[0]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def rows(text: str) -> list[list[str]]:
    """Return the rows of the tables in `text`, heads included, rulers not."""
    lines = [cells(line) for line in text.splitlines() if line.startswith("|")]
    return [line for line in lines if not set("".join(line)) <= set("-: ")]


def commands(name: str) -> list[list[str]]:
    """Return every command line of the page: in shell blocks, and in the text."""
    lines = [line for block in blocks(name, "sh") for line in block.splitlines()]
    lines += [span for span in spans(name) if span.startswith(("make ", "trunkline "))]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


# The machines and the rooms.


def machine(title: str) -> dict[tuple[str, str], str]:
    head, *states = rows(section("ARCHITECTURE.md", title))
    return {
        (state, event): after
        for state, *afters in states
        for event, after in zip(head[1:], afters, strict=True)
        if after
    }


MACHINES: Final[Mapping[str, tuple[Any, type[Enum], type[Enum]]]] = {
    "Connection": (connection.TABLE, connection.ConnectionState, connection.ConnectionEvent),
    "Lease": (lease.TABLE, lease.LeaseState, lease.LeaseEvent),
    "Reservation": (reservation.TABLE, reservation.ReservationState, reservation.ReservationEvent),
    "Breaker": (breaker.TABLE, breaker.BreakerState, breaker.BreakerEvent),
    "Session": (session.TABLE, session.SessionState, session.SessionEvent),
}


@pytest.mark.parametrize("title", MACHINES)
def test_a_state_table_is_the_table_of_the_code(title: str) -> None:
    table, states, happenings = MACHINES[title]
    assert machine(title) == {(before.name, event.name): after.name for (before, event), after in table.items()}

    head, *shown = rows(section("ARCHITECTURE.md", title))
    assert head[1:] == [each.name for each in happenings]
    assert [state for state, *_ in shown] == [each.name for each in states]


@pytest.mark.parametrize("title", MACHINES)
def test_a_drawing_names_every_state_and_event(title: str) -> None:
    _, states, happenings = MACHINES[title]
    drawing = "".join(body for _, body in FENCE.findall(section("ARCHITECTURE.md", title)))
    assert {each.name for each in (*states, *happenings)} - set(re.findall(r"\w+", drawing)) == set()


def contracts() -> list[dict[str, Any]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    found: list[dict[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return found


def layers() -> str:
    (rooms,) = [each for each in contracts() if each["type"] == "layers"]
    return "\n".join(["```", *(f"   {layer}" for layer in rooms["layers"]), "```"])


def import_rules() -> str:
    """Return the table of the contracts as it is to stand in ARCHITECTURE.md."""
    lines = ["| rule | modules | never import |", "|---|---|---|"]
    for each in contracts():
        if each["type"] != "layers":
            columns = (", ".join(f"`{module}`" for module in each[f"{of}_modules"]) for of in ("source", "forbidden"))
            lines.append(f"| {each['name']} | {' | '.join(columns)} |")
    return "\n".join(lines)


def test_the_import_rules_are_those_of_pyproject() -> None:
    assert layers() in page("ARCHITECTURE.md"), f"put this in:\n{layers()}"
    assert import_rules() in page("ARCHITECTURE.md"), f"put this in:\n{import_rules()}"


@cache
def definitions(file: Path) -> frozenset[str]:
    """Return the functions and classes of a file, and the methods as `Class.method`."""
    found: set[str] = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
            found |= {f"{node.name}.{each.name}" for each in methods}
    return frozenset(found)


def test_what_the_walks_name_is_where_they_say() -> None:
    pairs = re.findall(r"`(gateway/[\w/]+\.py)`\s+`([\w.]+)`", page("ARCHITECTURE.md"))
    assert len(pairs) > 20
    assert [(file, name) for file, name in pairs if name not in definitions(ROOT / file)] == []


def test_methods_that_are_named_exist() -> None:
    known = {name for file in (ROOT / "gateway").rglob("*.py") for name in definitions(file)}
    named = {span for name in NAMES for span in spans(name) if re.fullmatch(r"[A-Z][a-z]\w+\.[a-z_]+", span)}
    assert named - known == set()


# Files, targets, verbs.


def test_files_that_are_named_exist() -> None:
    missing = []
    for name in NAMES:
        links = re.findall(r"\]\(([^)#]+)\)", prose(name))
        paths = [span for span in spans(name) if re.fullmatch(r"(?:gateway|proto|clients|tests|docs)/[\w./*-]*", span)]
        roots = [span for span in spans(name) if re.fullmatch(r"[A-Z]\w+\.md|Makefile|pyproject\.toml", span)]
        named = (*paths, *roots, *(link for link in links if "://" not in link))
        missing += [f"{name}: {path}" for path in named if not any(ROOT.glob(path.rstrip("/")))]
    assert missing == []


def test_addresses_are_few() -> None:
    allowed = (
        "wss://api.openai.com/",
        "ws://127.0.0.1:9180/",
        "https://keepachangelog.com/",
        "ws://`",
        "wss://`",
        # A form, of nobody's address.
        "http://HOST:PORT`",
        "https://HOST:PORT`",
    )
    found = [url for name in NAMES for url in re.findall(r"\b(?:https?|wss?)://\S*", page(name))]
    assert [url for url in found if not url.startswith(allowed)] == []


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, re.MULTILINE))
    for name in NAMES:
        for words in commands(name):
            if words[0] == "make":
                assigned = {word.partition("=")[0] for word in words[1:] if "=" in word}
                assert {word for word in words[1:] if "=" not in word} <= targets, words
                assert assigned <= variables, words


@cache
def verbs() -> dict[str, set[str]]:
    command: Any = typer.main.get_command(app)
    return {
        name: {option for each in verb.params for option in (*each.opts, *each.secondary_opts)}
        for name, verb in command.commands.items()
    }


def test_verbs_and_options_that_are_named_exist() -> None:
    seen = 0
    for name in NAMES:
        for program, *words in commands(name):
            if program == "trunkline":
                seen += 1
                assert words[0] in verbs(), words
                assert {word for word in words if word.startswith("--")} <= verbs()[words[0]], words
        alone = {span for span in spans(name) if re.fullmatch(r"--[a-z-]+", span)}
        assert alone <= {option for options in verbs().values() for option in options}, name
    assert seen > 8


def test_the_table_of_verbs_is_not_behind() -> None:
    named = {words[1] for name in NAMES for words in commands(name) if words[0] == "trunkline"}
    # Reached by `make demo` and `make dev`; `version` explains itself.
    assert set(verbs()) - named <= {"demo", "dev", "version"}


# Settings.


def leaves(model: type[BaseModel] = Settings, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every setting as `(path, default)`; `<>` stands for a name."""
    for name, field in model.model_fields.items():
        below = [each for each in (field.annotation, *get_args(field.annotation)) if _is_model(each)]
        kind = str(field.annotation)
        if not below or kind.startswith("list"):
            yield path + name, field.get_default(call_default_factory=True)
        else:
            named = ".<>" if kind.startswith("dict") else ""
            yield from leaves(below[0], f"{path}{name}{named}.")


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def setting(span: str) -> str:
    return re.sub(r"<\w+>", "<>", span)


def test_settings_of_the_table_have_the_defaults_that_it_gives() -> None:
    known = dict(leaves())
    table = [row for row in rows(section("README.md", "Configuration"))[1:] if len(row) == 3]
    assert len(table) > 30
    for name, default, _ in table:
        path = setting(name.strip("`"))
        assert path in known, name
        if default.startswith("`"):
            assert yaml.safe_load(default.strip("`")) == json.loads(json.dumps(known[path])), name


def test_settings_without_effect_are_those_that_nobody_reads() -> None:
    _, _, rest = page("README.md").partition("These settings are accepted and have no effect yet:")
    listed = [setting(span) for span in re.findall(r"`([^`]+)`", rest.partition("\n\n")[0])]
    sources = [*(ROOT / "gateway/app").rglob("*.py"), *(ROOT / "gateway/settings").rglob("*.py")]
    code = "\n".join(file.read_text("utf-8") for file in sources)
    unread = {path for path, _ in leaves() if not re.search(rf"\.{path.rpartition('.')[2]}\b", code)}

    covered = {path for path in dict(leaves()) if any(path == each or path.startswith(f"{each}.") for each in listed)}
    assert unread - covered == set(), "read by nobody, and not in the list"
    # The first has a name that others have too; the second is told to callers, and nothing else.
    assert covered - unread <= {"door.address", "limits.heartbeat_ms"}, "in the list, and read"


def test_every_setting_that_works_is_in_the_table() -> None:
    text = section("README.md", "Configuration")
    named = {setting(span) for span in re.findall(r"`([a-z_<>.]+)`", text)}
    parents = {path.rpartition(".")[0] for path in dict(leaves())}
    missing = {
        path
        for path in dict(leaves())
        if path not in named and not any(path.startswith(f"{n}.") for n in named & parents)
    }
    # Explained by `trunkline config --example`.
    assert missing <= {
        "accounts.<>.organization",
        "accounts.<>.project",
        "targets.<>.provider",
        "targets.<>.accounts",
        "templates.<>.durability",
    }


def test_variables_that_are_named_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {v for name in NAMES for v in re.findall(r"\bTRUNKLINE_[A-Z_]+\b", page(name))}
    assert named >= {"TRUNKLINE_TOKEN", "TRUNKLINE_GRPC__ADDRESS"}
    for variable in named - {"TRUNKLINE_"}:
        monkeypatch.setenv(variable, "3")
    try:
        load(None)
    except SettingsError as error:
        assert "names no setting" not in str(error)  # noqa: PT017 a value that does not fit is no matter here


# Words.


def test_words_in_capitals_are_words_of_the_code() -> None:
    known = {"OPENAI_API_KEY", *Reason.__members__, *grpc.StatusCode.__members__}
    kinds = [each for entry in MACHINES.values() for each in entry[1:]]
    kinds += [each for each in vars(events).values() if isinstance(each, type) and issubclass(each, Enum)]
    known |= {member for kind in kinds for member in kind.__members__}
    for stem in ("admin", "control", "errors", "event", "lease", "session", "speech", "types"):
        file: FileDescriptor = import_module(f"trunkline.v1.{stem}_pb2").DESCRIPTOR
        known |= {value.name for enum in file.enum_types_by_name.values() for value in enum.values}
    for name in NAMES:
        said = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", prose(name)))
        said |= {span for span in spans(name) if re.fullmatch(r"[A-Z][A-Z_]+", span)}
        unknown = {word for word in said if not word.startswith("TRUNKLINE")} - known
        assert unknown == set(), name


def test_metrics_that_are_named_exist() -> None:
    known = {each.name for each in vars(families).values() if isinstance(each, families.Family)}
    named = {span for name in NAMES for span in spans(name) if re.fullmatch(r"trunkline_[a-z_]+", span)}
    assert named - known <= {"trunkline_client"}


def test_figures_of_the_promise_are_those_of_the_code() -> None:
    limits, server, client, record = (
        SessionOptions(),
        ServerOptions("", 1),
        ConnectionOptions(),
        RedisOptions(url="unix:///s"),
    )
    pings = (server.keepalive_ms + server.keepalive_timeout_ms) // 1000
    assert pings == (client.keepalive_time_ms + client.ping_timeout_ms) // 1000
    said = {
        "README.md": [
            f"what is due is finished (for at most {limits.finish_max_seconds:.0f} s)",
            f"noticed by pings within {pings} s",
            f"Our client notices within {pings} s",
            f"takes nothing for {limits.send_max_seconds:.0f} s",
            f"under way for {limits.send_max_seconds:.0f} s",
            f"when {limits.outbox.audio_max_bytes >> 20} MiB wait for it",
            f"Up to {LaneOptions().backlog_max_bytes >> 20} MiB per session",
        ],
        "ARCHITECTURE.md": [
            f"within {limits.first_message_seconds:.0f} s",
            f"One frame in {SAMPLE_EVERY} is timed",
            f"at most {record.session_max_entries:,} entries and {record.session_max_bytes >> 20} MiB",
            f"It lives for {RECORD_LIFE_SECONDS} s",
            f"noticed within {pings} s",
        ],
    }
    for name, sentences in said.items():
        assert [each for each in sentences if each not in flat(name)] == [], name


def test_figures_of_sessions_are_those_of_the_code() -> None:
    pulse = PulseOptions()
    idle, busy = (quiet + pulse.answer_seconds for quiet in (pulse.idle_seconds, pulse.busy_seconds))
    speech_seconds = pace.SPEECH_BURST_SECONDS * pace.SPEECH_TIMES_MAX
    messages_at_once = pace.MESSAGES_BURST_SECONDS * pace.MESSAGES_PER_SECOND
    assert pace.SPEECH_TIMES_MAX == 2  # "twice the pace of speech"
    said = {
        "README.md": [
            f"within {idle:.0f} s, and within {busy:.0f} s while an answer is due",
            f"(1 to {reservation.TTL_MAX_SECONDS}; 0 is {reservation.TTL_SECONDS})",
            f"before {GUARD_MS / 1000} s of it were heard (`guard_ms`), or it has ended;",
            f"; for {GUARD_MAX_SECONDS:.0f} s at most",
            f"up to {SAFETY_IDENTIFIER_MAX} printable characters",
            f"up to {METADATA_MAX} marks",
            f"twice the pace of speech, and {speech_seconds:.0f} s of it at once",
            f"send {pace.MESSAGES_PER_SECOND:.0f} a second, and {messages_at_once:.0f} at once",
            f"{snapshot.RETRY_AFTER_MIN_SECONDS} s at least",
        ],
        "CHANGELOG.md": [
            f"within {idle:.0f} s, and within {busy:.0f} s while an answer is due",
            f"after {speech_seconds:.0f} s at once, {pace.MESSAGES_PER_SECOND:.0f} other messages a second",
        ],
        "SECURITY.md": [
            f"up to {SAFETY_IDENTIFIER_MAX} characters",
            f"twice the pace of speech and {pace.MESSAGES_PER_SECOND:.0f} other messages a second",
        ],
    }
    for name, sentences in said.items():
        assert [each for each in sentences if each not in flat(name)] == [], name


def test_figures_of_lines_are_those_of_the_code() -> None:
    delays, stop = backoff.BackoffOptions(), breaker.BreakerOptions()
    patience = (share.PATIENCE_MIN_SECONDS, share.PATIENCE_MAX_SECONDS)
    patience_leads: float = share.PATIENCE_LEADS
    patience_rounds: int = share.PATIENCE_ROUNDS
    assert (patience_leads, patience_rounds, backoff.WIDTH_FIRST) == (3, 3, 4)
    assert backoff.STUBBORN_AFTER == 3
    assert stop.failures_per_success == 2
    assert stop.key_probe_seconds == stop.open_seconds == delays.stubborn_seconds
    memories = (demand.RUSH_SECONDS, demand.FAST_SECONDS, demand.SLOW_SECONDS)
    proof_seconds = dict(leaves())["pools.<>.proof_max_seconds"] / 2
    said = {
        "README.md": [
            "about {:.0f}, {:.0f} and {:.0f} s)".format(*memories),
            f"every {proof_seconds:.0f} s (half of `proof_max_seconds`)",
            f"closed when it gives none within {PROOF_SECONDS:.0f} s",
            f"up to {delays.first_seconds} s, then up to twice as long, at most {delays.max_seconds:.0f} s",
            f"three times the usual time, {patience[0]:.0f} s at least",
            f"from the fourth try in vain on, {patience[1]:.0f} s at most",
            f"lines die within {policy.STANDING_SECONDS:.0f} s, three times",
            f"for {delays.stubborn_seconds:.0f} s only callers who wait cause dials",
            f"{stop.failures} dials in {stop.window_seconds:.0f} s fail, and more than two for each that succeeds",
            f"for {stop.open_seconds:.0f} s, then {2 * stop.open_seconds:.0f} s, up to {stop.open_max_seconds:.0f} s",
            f"one probe goes out every {stop.key_probe_seconds:.0f} s",
        ],
        "ARCHITECTURE.md": [
            f"forgives only when the line has stood for {policy.STANDING_SECONDS:.0f} s",
            f"before {stop.open_seconds:.0f} s · n (at most {stop.open_max_seconds:.0f} s)",
            f"back-off ({delays.max_seconds:.0f} s at most, or the",
            f"with a memory of {demand.SLOW_SECONDS:.0f} s,",
            f"of {demand.FAST_SECONDS:.0f} s; and of {demand.RUSH_SECONDS:.0f} s, which",
            f"counts from {demand.RUSH_CALLERS:.0f} callers on",
            f"takes three times as long as usual, {patience[0]:.0f} s at least",
            f"doubles, up to {share.PATIENCE_MAX_SECONDS:.0f} s",
            f"does not replace it for {RECALL_PAUSE_SECONDS:.0f} s",
        ],
    }
    for name, sentences in said.items():
        assert [each for each in sentences if each not in flat(name)] == [], name


def test_figures_of_shared_accounts_are_those_of_the_code() -> None:
    slots = SlotsOptions()
    account = AccountSlots(100, 5, 10)
    assert (BURST_RATIOS[SlotKind.LEASED], BURST_RATIOS[SlotKind.WARM]) == (4 / 5, 1 / 2)
    assert GATEWAYS_ASSUMED == 4  # "a quarter"
    said = {
        "README.md": [
            f"From {SPARE_FROM_CONNECTIONS} `connections_max` on, {SPARE_RATIO:.0%} of them".replace("%", " %"),
            f"({SPARE_MIN} at least)",
            f"of 100, {100 - account.spare_kept} are there for callers and warm lines",
            f"wait for its turn for {slots.delay_max_seconds:.0f} s",
            f"half of it and {slots.warm_delay_max_seconds:.0f} s",
            f"a heartbeat (about {slots.heartbeat_seconds:.0f} s)",
            f"For {slots.rejoin_seconds} s, until all were heard",
            f"free {slots.ttl_seconds:.0f} s after its last word",
            f"stands still for over {slots.frozen_seconds} s",
        ],
        "ARCHITECTURE.md": [
            f"after {slots.acquire_seconds * 1000:.0f} ms this gateway by itself",
            f"silent for {slots.ttl_seconds:.0f} s has lost its places",
            f"stood still for {slots.frozen_seconds} s",
            f"was heard of for {slots.rejoin_seconds} s, the next report opens a window of {slots.rejoin_seconds} s",
        ],
    }
    for name, sentences in said.items():
        assert [each for each in sentences if each not in flat(name)] == [], name


def test_what_operators_are_told_to_look_at_is_there() -> None:
    named = {
        word
        for first, *_ in rows(section("README.md", "Operations"))
        for word in re.findall(r"`([a-z]+_[a-z_]+)`", first)
    }
    assert len(named) > 8
    fields = {*admin_pb2.Pool.DESCRIPTOR.fields_by_name, *errors_pb2.PoolNumbers.DESCRIPTOR.fields_by_name}
    metrics = {each.name for each in vars(families).values() if isinstance(each, families.Family)}
    code = "\n".join(file.read_text("utf-8") for file in (ROOT / "gateway").rglob("*.py"))
    assert {word for word in named - fields - metrics if f'"{word}"' not in code} == set()


def test_methods_of_the_services_that_are_named_are_served_or_listed_as_not_yet() -> None:
    methods = {served.rpartition("/")[2] for served in SERVED}
    every = {
        method.name
        for file in (admin_pb2, lease_pb2, session_pb2, speech_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    not_yet = {span for span in re.findall(r"`(\w+)`", section("README.md", "Not yet")) if span in every}
    # A service that serves nothing is named as a whole.
    assert not_yet | {"Synthesize", "SynthesizeStream"} >= every - methods
    assert not_yet & methods == set()


def test_the_changelog_begins_with_what_is_not_released() -> None:
    assert re.findall(r"^## (.*)$", page("CHANGELOG.md"), re.MULTILINE)[0] == "[Unreleased]"


# The examples, against real processes.


@dataclass(frozen=True)
class Running:
    """A gateway as the README says to run one, on a simulator."""

    folder: Path
    address: str

    def start(self, arguments: list[str], **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**surroundings(), **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return exit code, output and complaints; no process is left behind."""
    with process:
        try:
            told, complained = process.communicate(timeout=RUN_SECONDS)
        finally:
            process.kill()
    return process.returncode, told, complained


def surroundings() -> dict[str, str]:
    """Return an environment without settings of ours, in which `python3` is this one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**environment(real=False), "PATH": path}


def started(stack: ExitStack, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    log = stack.enter_context((folder / f"{arguments[0]}.log").open("wb"))
    command = [sys.executable, "-m", "gateway.cli.child", str(os.getpid()), *arguments]
    process = subprocess.Popen(command, cwd=folder, env=surroundings(), stdout=log, stderr=log)
    stack.callback(process.wait, 20)
    stack.callback(process.terminate)
    return process


def until_it_answers(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    ends_at = time.monotonic() + START_SECONDS
    while not answers(port, path):
        assert process.poll() is None, f"what should answer {path} has ended"
        assert time.monotonic() < ends_at, f"nothing answers {path}"
        time.sleep(0.05)


def answers(port: int, path: str) -> bool:
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as asked:
        try:
            asked.request("GET", path)
            return asked.getresponse().status == 200
        except OSError:
            return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("gateway")
    (tokens,) = [block for block in blocks("README.md", "sh") if "token_urlsafe" in block]
    subprocess.run(["sh", "-e", "-c", tokens], cwd=folder, env=surroundings(), timeout=20, check=True)
    (folder / "openai.key").write_text("sk-of-the-simulator\n")
    (content,) = blocks("README.md", "yaml")
    chosen, simulator_port, grpc_port, ops_port = yaml.safe_load(content), *(free_port() for _ in range(3))
    chosen["grpc"]["address"] = f"127.0.0.1:{grpc_port}"
    chosen["ops"] = {"address": f"127.0.0.1:{ops_port}"}
    chosen["targets"] = {"openai": {"url": f"ws://127.0.0.1:{simulator_port}/v1/realtime"}}
    chosen["limits"] = {"drain_seconds": 0}
    (folder / "trunkline.yaml").write_text(yaml.safe_dump(chosen))
    with ExitStack() as stack:
        simulator = started(stack, folder, "simulator", "--port", str(simulator_port))
        # A gateway that comes first fails its first dials, and then takes its time.
        until_it_answers(simulator, simulator_port, "/_sim/connections")
        gateway = started(stack, folder, "serve", "--config", "trunkline.yaml")
        until_it_answers(gateway, ops_port, "/readyz")
        yield Running(folder, chosen["grpc"]["address"])


@pytest.mark.parametrize("number", range(len(blocks("README.md", "python"))))
def test_an_example_of_the_readme_runs(running: Running, number: int) -> None:
    code = blocks("README.md", "python")[number]
    assert ADDRESS in code or f"port={SIMULATOR_PORT}" in code
    code = code.replace(ADDRESS, running.address).replace(f"port={SIMULATOR_PORT}", f"port={free_port()}")
    name = "operator" if "AdminServiceStub" in code else "billing-bot"
    token = (running.folder / f"{name}.token").read_text().strip()

    exit_code, told, complained = ended(running.start(["-c", code], TRUNKLINE_TOKEN=token))

    assert (exit_code, complained) == (0, "")
    assert told.strip()
    if "answer.wav" in code:
        assert (running.folder / "answer.wav").stat().st_size > 10_000


def test_an_example_without_a_token_is_refused(running: Running) -> None:
    code = blocks("README.md", "python")[0].replace(ADDRESS, running.address)
    exit_code, _, complained = ended(running.start(["-c", code]))
    assert exit_code == 1
    assert "UNAUTHENTICATED" in complained


def test_the_operators_commands_of_the_readme_run(running: Running) -> None:
    verbs_shown = ("pools", "leases", "sessions", "probe")
    shown = [words[1:] for words in commands("README.md") if words[0] == "trunkline" and "--token-file" in words]
    assert [words[0] for words in shown] == [*verbs_shown]
    more = {"probe": ["--calls", "1"]}
    begun = [
        running.start(["-m", "gateway", *words, *more.get(words[0], []), "--address", running.address])
        for words in shown
    ]
    for exit_code, told, complained in [ended(process) for process in begun]:
        assert (exit_code, complained) == (0, "")
        assert told.strip()
