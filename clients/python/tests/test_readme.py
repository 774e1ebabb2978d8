"""What the README says is so: its programs run, its names exist, and no public name is missing."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway.simulator import speech
from tests.support.processes import on_linux, process_stack

import trunkline_client
from trunkline_client import (
    AsyncClient,
    AsyncLease,
    AsyncSession,
    ConnectionOptions,
    TlsOptions,
    TrunklineError,
    audio,
    errors,
    events,
    inputs,
)
from trunkline_client.audio import read_wav, write_wav

from .programs import EXAMPLES, README, Outcome, Program
from .scripted_gateway import free_port

PAGE = README.read_text("utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PROSE = re.sub(r"^```\w*\n.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
SPANS = re.findall(r"`([^`\n]+)`", PROSE)
NAMED = {word for span in SPANS for word in re.findall(r"\w+", span)}
KINDS = (AsyncClient, AsyncSession, AsyncLease, audio.Resampler, audio.WavWriter)


def public(kind: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind) if not name.startswith("_")}


def attributes() -> set[str]:
    return {name for name in vars(TrunklineError("R", "m")) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("trunkline_client", set(trunkline_client.__all__)),
        ("events", set(events.__all__)),
        ("inputs", set(inputs.__all__)),
        ("audio", set(audio.__all__)),
        ("errors", {"REASONS", "as_exception"} | attributes()),
        ("options", {field.name for kind in (ConnectionOptions, TlsOptions) for field in dataclasses.fields(kind)}),
        ("open", set(inspect.signature(AsyncClient.open).parameters) - {"self"}),
        *((kind.__name__, public(kind)) for kind in KINDS),
    ],
)
def test_no_public_name_is_missing(where: str, names: set[str]) -> None:
    assert names - NAMED == set(), where


def test_methods_that_are_named_exist_and_take_what_they_are_given() -> None:
    named = [(name, getattr(kind, name)) for kind in KINDS for name in public(kind)]
    named += [(name, getattr(audio, name)) for name in audio.__all__]
    named += [("AsyncClient", AsyncClient), ("TlsOptions", TlsOptions), ("as_exception", errors.as_exception)]
    called = [found for span in SPANS for found in re.findall(r"(\w+)\(([^)]*)\)$", span)]
    assert len(called) > 30
    for name, arguments in called:
        given = set(re.findall(r"\w+", arguments)) - {"event"}
        taken = [set(inspect.signature(each).parameters) for known, each in named if known == name and callable(each)]
        assert any(given <= parameters for parameters in taken), (name, given)


def rows(head: str) -> list[list[str]]:
    """Return the rows of the table whose first column is called `head`."""
    _, _, below = PAGE.partition(f"\n| {head} |")
    lines = below.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_options_have_the_defaults_that_it_gives() -> None:
    given = {}
    for names, default, _ in rows("option"):
        for name in re.findall(r"`(\w+)`", names):
            given[name] = default.strip("`")
    known = {field.name: str(field.default) for field in dataclasses.fields(ConnectionOptions)}
    assert given == {**known, "tls": "none"}


def test_each_reason_stands_with_its_class() -> None:
    given = {
        reason: family.partition("`:")[0].strip("`")
        for family, reasons in rows("class")
        for reason in reasons.split(", ")
    }
    assert given == {reason: entry.family.__name__ for reason, entry in errors.REASONS.items()}


def test_files_that_are_named_exist() -> None:
    linked = re.findall(r"\]\(([^)#]+)\)", PROSE)
    assert {Path(link).name for link in linked} == {path.name for path in EXAMPLES.glob("*.py")}
    assert [link for link in linked if not (README.parent / link).is_file()] == []


# Its programs.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("readme")
    write_wav(made / "question.wav", speech.questions()[0].pcm)
    return made


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> Iterator[list[Outcome]]:
    """Run all of them at once, as they stand, but for the gateway's address."""
    with process_stack(pools={"default": {"floor": 2, "ceiling": 20, "reserve": 0}}) as stack:
        stack.until_warm(2)
        texts = [text.replace("127.0.0.1:50051", stack.address) for text in PROGRAMS]
        begun = [Program(["-c", text], folder) for text in texts]
        yield [program.outcome() for program in begun]


@on_linux
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_readme_runs(outcomes: list[Outcome], folder: Path, number: int) -> None:
    outcome = outcomes[number]
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.strip()
    if "answer.wav" in PROGRAMS[number]:
        assert any(read_wav(folder / "answer.wav"))


def test_there_are_programs_and_each_has_the_address_of_a_new_gateway() -> None:
    assert len(PROGRAMS) == 4
    assert all("127.0.0.1:50051" in text for text in PROGRAMS)


def test_a_program_without_a_gateway_says_what_to_do(folder: Path) -> None:
    text = PROGRAMS[1].replace("127.0.0.1:50051", f"127.0.0.1:{free_port()}")
    outcome = Program(["-c", text], folder).outcome()
    assert (outcome.code, outcome.err) == (0, "")
    assert "CONNECTION_LOST" in outcome.out
    assert "See that a gateway listens at the address" in outcome.out
