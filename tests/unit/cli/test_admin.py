"""What callers have named is shown to operators as it is, and does nothing to their terminal."""

import json

import pytest
from trunkline.v1 import admin_pb2
from trunkline.v1.types_pb2 import SESSION_STATE_ACTIVE

from gateway.cli import admin
from gateway.cli.failure import RefusedError, UnfulfilledError
from gateway.cli.gateways import Answer, complain

HERE, THERE = "127.0.0.1:1", "127.0.0.1:2"
SILENT: Answer[admin_pb2.ListPoolsResponse] = Answer(THERE, failure=RefusedError("CONNECTION_LOST", "no\x1bbody"))


def named(name: str, address: str = HERE) -> Answer[admin_pb2.ListPoolsResponse]:
    return Answer(address, admin_pb2.ListPoolsResponse(pools=[admin_pb2.Pool(name=name)]))


@pytest.mark.parametrize(
    ("name", "shown"),
    [("[red]x", "[red]x"), ("[/red]", "[/red]"), ("\x1b[2Jx", "?[2Jx"), ("a\nb", "a?b"), ("Zürich", "Zürich")],
)
def test_names_cannot_write_into_the_terminal(name: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    admin._print_rows("lease", [(HERE, (name,))], [named(name)])
    printed = capsys.readouterr().out
    assert shown in printed
    assert "\x1b" not in printed


def test_json_escapes_them(capsys: pytest.CaptureFixture[str]) -> None:
    admin._print_merged([named("\x1b[2Jx")], admin_pb2.ListPoolsResponse())
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert json.loads(printed)["pools"][0]["name"] == "\x1b[2Jx"


def test_a_pipe_gets_long_names_whole(capsys: pytest.CaptureFixture[str]) -> None:
    admin._print_rows("lease", [(HERE, ("x" * 1000,))], [named("x")])
    assert "x" * 1000 in capsys.readouterr().out


def test_answers_are_merged_and_a_failure_stands_beside_them(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [named("a"), SILENT, named("b", "127.0.0.1:3")]
    admin._print_merged(answers, admin_pb2.ListPoolsResponse())
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["pools"]] == ["a", "b"]
    with pytest.raises(UnfulfilledError) as raised:
        complain(answers)
    assert raised.value.exit_code == 1
    (sentence,) = raised.value.args
    assert sentence.startswith(f"{THERE}: CONNECTION_LOST: no?body; ")


def test_whose_row_it_is_stands_there_only_where_several_were_asked(capsys: pytest.CaptureFixture[str]) -> None:
    admin._print_rows("lease", [(HERE, ("x",))], [named("x")])
    assert HERE not in capsys.readouterr().out
    admin._print_rows("lease", [(HERE, ("x",))], [named("x"), SILENT])
    assert HERE in capsys.readouterr().out


def test_nothing_is_printed_for_programs_when_nobody_has_answered(capsys: pytest.CaptureFixture[str]) -> None:
    admin._print_merged([SILENT], admin_pb2.ListPoolsResponse())
    admin._print_rows("lease", [], [SILENT])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "serving"),
        ({"paused": True}, "paused"),
        ({"paused": True, "is_draining": True}, "draining"),
        ({"breaker_open": True}, "serving, the breaker is open"),
        ({"key_refused": True, "breaker_open": True}, "serving, the key is refused"),
        ({"last_dial_failure": "UPSTREAM_UNREACHABLE"}, "serving, dialling fails: UPSTREAM_UNREACHABLE"),
    ],
)
def test_a_pools_state_says_what_an_operator_must_know(fields: dict[str, bool], said: str) -> None:
    assert admin.pool_state(admin_pb2.Pool(**fields)) == said  # type: ignore[arg-type]


def test_a_state_of_a_newer_gateway_is_shown_by_its_number() -> None:
    assert admin.session_state(admin_pb2.Session(state=SESSION_STATE_ACTIVE)) == "active"
    assert admin.session_state(admin_pb2.Session(state=99)) == "99"  # type: ignore[arg-type]
