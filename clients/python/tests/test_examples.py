"""The examples, run as a new user runs them: against a gateway and a simulator, and with everything wrong."""

import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway.simulator import speech
from tests.support.processes import on_linux, process_stack
from tests.support.waiting import eventually_sync

from trunkline_client import Client
from trunkline_client.audio import read_wav, write_wav

from . import scripts
from .programs import EXAMPLES, Outcome, example
from .scripted_gateway import free_port, serving

pytestmark = on_linux

# An example, what it is told besides the address, what it prints, and what it writes.
RUNS = {
    "talk_to_a_file": ("talk_to_a_file.py", ["question.wav", "one.wav"], "nice to meet you", "one.wav"),
    "talk_to_a_file_sync": ("talk_to_a_file_sync.py", ["telephone.wav", "two.wav"], "nice to meet you", "two.wav"),
    "stream_a_file": (
        "stream_a_file.py",
        ["question.wav", "three.wav"],
        "heard: Hello, my name is Alice.",
        "three.wav",
    ),
    "function_call": (
        "function_call.py",
        ["What is the weather in Lisbon?"],
        'get_weather({"city": "Lisbon"})\nIt is',
        "",
    ),
    "bare_stub": ("bare_stub.py", ["What are your opening hours?"], "We close at six", ""),
    # It rings for longer than the reservation lives by itself.
    "reserve": ("reserve_while_ringing.py", ["--rings", "4"], "waited 0 ms", ""),
    "reserve_sync": ("reserve_while_ringing_sync.py", ["--rings", "4"], "waited 0 ms", ""),
    "nobody": ("reserve_while_ringing.py", ["--rings", "0.1", "--nobody"], "the line was given back", ""),
    "nobody_sync": ("reserve_while_ringing_sync.py", ["--rings", "0.1", "--nobody"], "the line was given back", ""),
}
FILES = ["question.wav", "answer.wav"]
ARGUMENTS = {
    "talk_to_a_file.py": FILES,
    "talk_to_a_file_sync.py": FILES,
    "stream_a_file.py": FILES,
    "function_call.py": ["What is the weather in Lisbon?"],
    "bare_stub.py": ["What are your opening hours?"],
    "reserve_while_ringing.py": ["--rings", "30"],
    "reserve_while_ringing_sync.py": ["--rings", "30"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a question in it, and the same from a telephone."""
    made = tmp_path_factory.mktemp("examples")
    write_wav(made / "question.wav", speech.questions()[0].pcm)
    telephone = Path(speech.__file__).with_name("q01.wav")
    (made / "telephone.wav").write_bytes(telephone.read_bytes())
    return made


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with process_stack(pools={"default": {"floor": 2, "ceiling": 30, "reserve": 0}}) as stack:
        stack.until_warm(2)
        yield stack.address


def test_every_example_is_run() -> None:
    there = {path.name for path in EXAMPLES.glob("*.py")}
    assert {name for name, *_ in RUNS.values()} == set(ARGUMENTS) == there


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_an_example_fits_on_two_screens(name: str) -> None:
    assert len((EXAMPLES / name).read_text("utf-8").splitlines()) <= 80


def test_every_example_does_what_it_says(address: str, folder: Path) -> None:
    """All of them at once: most of the time they listen."""
    begun = {run: example(name, folder, address, *arguments) for run, (name, arguments, _, _) in RUNS.items()}
    outcomes = {run: program.outcome() for run, program in begun.items()}
    for run, (_, _, said, written) in RUNS.items():
        assert (outcomes[run].code, outcomes[run].err) == (0, ""), run
        assert said in outcomes[run].out, run
        if written:
            with wave.open(str(folder / written)) as file:
                assert file.getframerate() == 24_000, run
            assert any(read_wav(folder / written)), run


def test_the_bare_stub_needs_no_client_of_ours() -> None:
    assert "trunkline_client" not in (EXAMPLES / "bare_stub.py").read_text("utf-8")


# What a user sees who has something wrong.


def seen(outcome: Outcome) -> str:
    """Return what was printed, where the program has ended as one that fails in order."""
    assert outcome.code in {1, 130}
    assert "Traceback" not in outcome.err
    assert "never retrieved" not in outcome.err
    return outcome.err


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_without_a_gateway_it_says_so(folder: Path, name: str) -> None:
    told = seen(example(name, folder, f"127.0.0.1:{free_port()}", *ARGUMENTS[name]).outcome())
    assert "Connection refused" in told
    if name != "bare_stub.py":
        assert told.startswith("CONNECTION_LOST: ")
        assert "See that a gateway listens at the address" in told


@pytest.mark.parametrize("name", sorted(name for name in ARGUMENTS if not name.startswith("reserve")))
def test_a_refusal_is_told_with_what_to_do(folder: Path, name: str) -> None:
    with serving(scripts.refuses_at_once) as gateway:
        token = {"TRUNKLINE_TOKEN": "secret-4711"}
        told = seen(example(name, folder, gateway.address, *ARGUMENTS[name], env=token).outcome())
    assert "UNAUTHENTICATED" in told
    assert "4711" not in told
    if name != "bare_stub.py":
        assert "Send valid credentials" in told


def test_the_bare_stub_shows_every_detail_of_a_refusal(folder: Path) -> None:
    with serving(scripts.full) as gateway:
        told = seen(example("bare_stub.py", folder, gateway.address, "Hello?").outcome())
    assert told.startswith("RESOURCE_EXHAUSTED: a sentence\n")
    for detail in ('reason: "QUEUE_FULL"', "nanos: 250000000", "waiting: 50"):
        assert detail in told


@pytest.mark.parametrize("name", ["talk_to_a_file.py", "talk_to_a_file_sync.py", "stream_a_file.py"])
def test_a_file_that_is_none_is_named(address: str, folder: Path, name: str) -> None:
    (folder / "song.mp3").write_bytes(b"ID3 no wave at all")
    told = seen(example(name, folder, address, "song.mp3", "x.wav").outcome())
    assert told.startswith("song.mp3 cannot be used: it is no WAV file. Convert it: ffmpeg")
    told = seen(example(name, folder, address, "missing.wav", "x.wav").outcome())
    assert "No such file or directory: 'missing.wav'" in told


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_without_arguments_it_says_what_it_wants(folder: Path, name: str) -> None:
    outcome = example(name, folder).outcome()
    assert outcome.code in {1, 2}
    assert f"{name} " in outcome.err


# Ctrl-C.


def held(client: Client) -> bool:
    """Tell whether anybody holds a line or a reservation."""
    return bool(client.leases().leases)


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_ctrl_c_ends_it_at_once_and_leaves_nothing_at_the_gateway(address: str, folder: Path, name: str) -> None:
    with Client(address) as client:
        eventually_sync(lambda: not held(client), "the line of another has come back")
        program = example(name, folder, address, *ARGUMENTS[name])
        eventually_sync(lambda: held(client) or program.ended, "it has a line", 20)
        program.interrupt()
        outcome = program.outcome(10)
        eventually_sync(lambda: not held(client), "its line has come back", 5)
    # A short one may have ended by itself meanwhile.
    if outcome.code != 0:
        assert outcome.code == 130
        assert seen(outcome) == ""
