"""docs/simulator.md says what the code does: every fault with its keys, every option, every shape."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import typer.main

from gateway.cli.main import app
from gateway.simulator import FAULTS, Fault, Simulator, SimulatorOptions, fault_from_object, fault_from_text, keys_of
from gateway.simulator.faults.distorting import WrongOrder
from gateway.simulator.faults.points import POINT
from tests.support.ports import free_port

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")
COMMON = [each.name for each in dataclasses.fields(Fault)]
DEADLINE_SECONDS = 30


def rows(head: str) -> list[list[str]]:
    """The rows of the table whose first column is called so."""
    lines = PAGE[PAGE.index(f"\n| {head} |") + 1 :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def shown(value: object) -> str:
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def keys_shown(kind: type[Fault]) -> str:
    """The cell of a fault's own keys, as it is to stand in the table."""
    fields = {each.name: each for each in dataclasses.fields(kind)}
    own = [fields[name] for name in keys_of(kind) if name not in COMMON]
    given = [
        f"`{each.name}`" + ("" if each.default is dataclasses.MISSING else f" ({shown(each.default)})") for each in own
    ]
    return ", ".join(given)


def test_the_table_has_every_fault_with_its_keys_and_defaults() -> None:
    assert [(row[0], row[1]) for row in rows("fault")] == [
        (f"`{kind}`", keys_shown(FAULTS[kind])) for kind in sorted(FAULTS)
    ]


def test_every_example_of_a_fault_is_one() -> None:
    for fault, _, what, example in rows("fault"):
        assert f"`{fault_from_text(example.strip('`')).kind}`" == fault
        assert what
    for text in re.findall(r"--fault ([^\s`|]+)", PAGE) + re.findall(r'fault_from_text\("([^"]+)"\)', PAGE):
        fault_from_text(text)


def test_the_keys_of_all_faults_and_the_moments_are_listed() -> None:
    assert [row[0].strip("`") for row in rows("key")] == COMMON
    moments = POINT.expected.removeprefix("one of ").split(", ")
    assert sorted(row[0].strip("`") for row in rows("moment")) == sorted(moments)
    variants = re.search(r"`variant` is one of (.*?)\.\n", PAGE, re.DOTALL)
    assert variants is not None
    reader = next(each for each in dataclasses.fields(WrongOrder) if each.name == "variant").metadata["reader"]
    assert re.findall(r"`([\w-]+)`", variants[1]) == reader.expected.removeprefix("one of ").split(", ")


def test_faults_of_the_opening_are_named() -> None:
    opening = sorted(kind for kind, made in FAULTS.items() if not made.reaches_open)
    assert ", ".join(f"`{kind}`" for kind in opening) in " ".join(PAGE.split())


def test_every_option_is_listed() -> None:
    listed = rows("option")
    assert {row[1].strip("`") for row in listed} == {each.name for each in dataclasses.fields(SimulatorOptions)}
    command: Any = typer.main.get_command(app)
    options = {each.opts[0] for each in command.commands["simulator"].params}
    assert {row[0].strip("`") for row in listed if row[0]} == options
    defaults = {each.name: each.default for each in dataclasses.fields(SimulatorOptions)}
    for _, name, default, _ in listed:
        value = defaults[name.strip("`")]
        if type(value) in (int, float):
            assert default == str(value), name


async def test_the_shapes_are_the_ones_that_are_sent() -> None:
    def keys(value: object) -> object:
        if isinstance(value, dict):
            return {name: keys(each) for name, each in value.items()}
        return [keys(each) for each in value[:1]] if isinstance(value, list) else None

    (connections,) = [json.loads(block) for block in blocks("json") if '"connections"' in block]
    (wanted, active) = [json.loads(block) for block in blocks("json") if '"scope"' in block]
    (close,) = [json.loads(block) for block in blocks("json") if '"restart"' in block]
    async with Simulator(SimulatorOptions(port=free_port())) as running, aiohttp.ClientSession() as http:
        base, headers = running.control_url, {"Authorization": "Bearer any"}
        async with http.post(f"{base}/faults", json=wanted) as answer:
            assert await answer.json() == active
        slow = fault_from_object({"kind": "slow-deltas", "ms": 1})
        running.set_faults([slow])
        async with http.ws_connect(f"{running.url}?model=gpt-realtime", headers=headers) as peer:
            await peer.receive_json(timeout=DEADLINE_SECONDS)
            async with http.get(f"{base}/connections") as answer:
                assert keys(await answer.json()) == keys(connections)
            async with http.post(f"{base}/close", json=close) as answer:
                assert await answer.json() == {"closed": 1}


def test_the_python_block_runs() -> None:
    program = blocks("python")[0].replace("9180", str(free_port()))
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=DEADLINE_SECONDS, check=True)
    assert ran.stdout.startswith(b"ws://127.0.0.1:")


def test_the_fixture_works(tmp_path: Path) -> None:
    recipe = tmp_path / "test_recipe.py"
    recipe.write_text(blocks("python")[1].replace("9180", str(free_port())), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    ini = ["-o", "asyncio_mode=auto", "-c", "/dev/null"]
    ran = subprocess.run(
        [*command, *ini, str(recipe)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
        cwd=tmp_path,
    )
    assert "1 passed" in ran.stdout, ran.stdout


@pytest.mark.parametrize("block", blocks("sh"))
def test_the_shell_blocks_are_shell(block: str) -> None:
    checked = subprocess.run(["sh", "-n"], input=block.encode(), capture_output=True, timeout=5, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")
