"""What is shown to a gateway, and what cannot be."""

import re
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.cli import access as access_module
from gateway.cli.access import Access
from gateway.cli.failure import CommandError

HERE = "127.0.0.1:50051"


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRUNKLINE_TOKEN", raising=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"address": "example.com:50051"}, "--ca-file"),
        ({"address": f"{HERE},example.com:50051"}, "example.com:50051"),
        ({"ca_file": Path("/nonesuch/ca")}, "--ca-file /nonesuch/ca cannot be read: No such file"),
        ({"ca_file": Path(__file__), "cert_file": Path("/x")}, "--key-file"),
        ({"ca_file": Path(__file__), "key_file": Path("/x")}, "--cert-file"),
        ({"cert_file": Path(__file__), "key_file": Path(__file__)}, "--ca-file"),
        ({"server_name": "gateway"}, "--ca-file"),
        ({"token_file": Path("/nonesuch/token")}, "--token-file /nonesuch/token cannot be read"),
    ],
)
def test_what_cannot_be_used_is_told_before_anybody_is_asked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(CommandError) as raised:
        Access(**{"address": HERE, **options}).check()
    assert words in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("token", ["canary\ntoken", "canary token", "canary\N{EURO SIGN}", "\x00canary"])
def test_a_token_that_is_none_is_not_shown(token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text(token, "utf-8")
    refusals = [Access(HERE, token_file=file)]
    if "\x00" not in token:
        monkeypatch.setenv("TRUNKLINE_TOKEN", token)
        refusals.append(Access(HERE))
    for access in refusals:
        with pytest.raises(CommandError) as raised:
            access.check()
        assert "canary" not in str(raised.value)


def test_a_token_file_may_end_with_a_line_end(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("token\n", "ascii")
    Access(HERE, token_file=file).check()


def test_a_token_file_that_holds_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CommandError):
        Access(HERE, token_file=file).check()


def test_calls_go_to_one_gateway() -> None:
    with pytest.raises(CommandError, match="name one"):
        Access(f"{HERE},127.0.0.1:50052").client()


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """Leave an authority, a certificate and its key, another key, and what is none."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    ours, other = authority.issue_cert("client"), authority.issue_cert("client")
    ours.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    ours.private_key_pem.write_to_path(tmp_path / "key")
    other.private_key_pem.write_to_path(tmp_path / "other")
    (tmp_path / "garbage").write_text("garbage", "ascii")
    return tmp_path


def tls(pem: Path, ca: str, cert: str, key: str) -> Access:
    return Access("10.0.0.1:50051", ca_file=pem / ca, cert_file=pem / cert, key_file=pem / key)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("garbage", "cert", "key"), "--ca-file"),
        (("ca", "garbage", "key"), "garbage and"),
        (("ca", "cert", "garbage"), "and its key"),
        (("ca", "cert", "other"), "and its key"),
    ],
)
def test_files_that_are_no_certificates_are_told(files: tuple[str, str, str], words: str, pem: Path) -> None:
    tls(pem, "ca", "cert", "key").check()
    with pytest.raises(CommandError, match=words):
        tls(pem, *files).check()


def test_one_file_of_the_command_speaks_grpc() -> None:
    folder = Path(access_module.__file__).parent
    speaking = [
        file.name
        for file in folder.glob("*.py")
        if re.search(r"^\s*(from|import) grpc\b", file.read_text(), re.MULTILINE)
    ]
    assert speaking == ["access.py"]
