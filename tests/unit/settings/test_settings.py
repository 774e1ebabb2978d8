"""What a configuration may not say, each with a sentence that names the place and shows no secret."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import Settings, SettingsError, load
from gateway.settings.parts import authenticator


def refused(tmp_path: Path, content: dict[str, Any]) -> str:
    file = tmp_path / "trunkline.yaml"
    file.write_text(yaml.safe_dump(content), "utf-8")
    with pytest.raises(SettingsError) as told:
        load(file)
    return str(told.value)


@pytest.mark.parametrize(
    "url",
    [
        "wss://user:s3cret@example.com/v1/realtime",
        "wss://:s3cret@example.com/v1/realtime",
        "wss://example.com:99999/v1/realtime",
        "wss://example.com/v1/realtime?key=s3cret",
        "wss://example.com/v1/realtime#s3cret",
        "https://example.com/v1/realtime",
        "ws://example.com/v1/realtime",
        "wss:///v1/realtime",
    ],
)
def test_an_address_that_is_more_or_less_than_one_is_refused_unseen(url: str, tmp_path: Path) -> None:
    words = refused(tmp_path, {"targets": {"openai": {"url": url}}})
    assert "targets.openai" in words
    assert "s3cret" not in words


@pytest.mark.parametrize("field", ["organization", "project"])
@pytest.mark.parametrize("value", ["org\r\nX-Evil: 1", "org 1", ""])
def test_what_cannot_stand_in_a_header_is_refused(field: str, value: str, tmp_path: Path) -> None:
    assert f"accounts.main.{field}" in refused(tmp_path, {"accounts": {"main": {field: value}}})


@pytest.mark.parametrize("name", ["session_life_max_seconds", "session_idle_max_seconds", "heartbeat_ms"])
def test_a_limit_that_the_contract_cannot_carry_is_refused(name: str, tmp_path: Path) -> None:
    assert f"limits.{name}" in refused(tmp_path, {"limits": {name: 10**10}})


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRUNKLINE_PROFILE__X", "production"), ("TRUNKLINE_CALLERS", "[{"), ("TRUNKLINE_NONESUCH", "1")],
)
def test_a_variable_that_would_do_nothing_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError):
        load(None)


def test_a_caller_without_a_token_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "hash"
    file.write_text(hashlib.sha256(b"").hexdigest(), "ascii")
    settings = Settings(callers=[{"name": "n", "tenant": "t", "token_sha256_file": str(file)}])
    with pytest.raises(SettingsError, match="empty token"):
        authenticator(settings, insecure_dev=False)


@pytest.mark.parametrize("endpoint", ["http://collector:4317", "https://collector.example:4317/", "http://[::1]:4317"])
def test_a_collector_has_a_scheme_a_host_and_a_port(endpoint: str) -> None:
    assert Settings(tracing={"endpoint": endpoint}).tracing.endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "collector:4317", "grpc://collector:4317", "HTTPS://collector:4317", "http://collector", "http://:4317",
        "http://a b:4317", "http://a\tb:4317", "http://collector:99999", "http://me:pw@collector:4317", "http://collector:4317/v1/traces",
        "http://collector:4317?x=1",
    ],
)  # fmt: skip
def test_what_is_no_place_of_a_collector_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint must be http://HOST:PORT or https://HOST:PORT"):
        Settings(tracing={"endpoint": endpoint})


def test_an_authority_goes_with_a_collector_that_shows_a_certificate() -> None:
    with pytest.raises(ValueError, match="ca_file needs an endpoint that begins with https"):
        Settings(tracing={"endpoint": "http://c:4317", "ca_file": "/ca.pem"})
