"""What the chart writes is what the gateway reads, and both have the same rules."""

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.settings import Settings, SettingsError, load, needs_restart
from gateway.settings.parts import accounts, authenticator, sealing_keys, tls_files
from gateway.settings.sections import LimitSettings
from tests.deploy.chart.rendered import CASES, changed, configuration, environment, gateway, manifests, values
from tests.support.helm import HelmError, Object, of_kind, only, render, render_files

pytestmark = pytest.mark.deploy

Change = dict[str, Any]
MOUNTED: Final = "/etc/trunkline/secrets/"


def read(objects: list[Object], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings as the gateway in the pod would have them."""
    file = folder / "trunkline.yaml"
    file.write_text(yaml.safe_dump(configuration(objects)), "utf-8")
    return _loaded(file, objects, monkeypatch)


def _loaded(file: Path, objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> Settings:
    with monkeypatch.context() as patch:
        for name, value in environment(objects).items():
            patch.setenv(name, value)
        return load(file)


@pytest.mark.parametrize("case", CASES)
def test_the_gateway_takes_the_configuration(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(manifests(case), tmp_path, monkeypatch)
    assert settings.profile == values(case).get("profile", "production")
    assert settings.grpc.advertise == ("[10.1.2.3]:50051" if case == "full" else "10.1.2.3:50051")
    assert settings.callers


@pytest.mark.parametrize("case", CASES)
def test_every_secret_is_read_where_it_is_mounted(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = yaml.safe_dump(configuration(manifests(case)))
    for name in re.findall(rf"{MOUNTED}(\S+)", text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(hashlib.sha256(name.encode()).hexdigest(), "utf-8")
    assert {each.name for each in tmp_path.iterdir()} == mounted(manifests(case))
    file = tmp_path / "trunkline.yaml"
    file.write_text(text.replace(MOUNTED, f"{tmp_path}/"), "utf-8")
    settings = _loaded(file, manifests(case), monkeypatch)
    assert authenticator(settings, insecure_dev=False)
    assert set(accounts(settings)) == ({"main", "batch"} if case == "full" else {"main"})
    assert [key.key_id for key in sealing_keys(settings)] == (["k2", "k1"] if case == "full" else ["k1"])
    files = tls_files(settings)
    assert (files is None) == (case == "evaluation")
    assert files is None or (files.client_ca_file is not None) == (case == "tls")


def test_a_caller_has_the_rights_that_it_is_given_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = {case: read(manifests(case), tmp_path, monkeypatch).callers for case in CASES}
    given = {case: {each.name: [str(right) for right in each.rights] for each in callers[case]} for case in CASES}
    assert given == {
        "evaluation": {"tester": ["converse", "read", "admin"]},
        "full": {"billing-bot": ["converse"], "operator": ["read", "admin"]},
        "minimal": {"billing-bot": ["converse"]},
        "tls": {"billing-bot": ["converse", "read"]},
    }


def mounted(objects: list[Object]) -> set[str]:
    """Return the Secrets that are where the configuration looks for them."""
    spec = gateway(objects)["spec"]["template"]["spec"]
    places = {each["name"]: each["mountPath"] for each in spec["containers"][0]["volumeMounts"]}
    secrets = {each["name"]: each["secret"]["secretName"] for each in spec["volumes"] if "secret" in each}
    return {name for volume, name in secrets.items() if places[volume] == f"{MOUNTED}{name}"}


def test_ports_are_the_same_everywhere() -> None:
    for case in CASES:
        objects = manifests(case)
        config = configuration(objects)
        box = gateway(objects)["spec"]["template"]["spec"]["containers"][0]
        assert {each["name"]: each["containerPort"] for each in box["ports"]} == {
            name: int(config[name]["address"].rpartition(":")[2]) for name in ("grpc", "ops")
        }
    # And they are the gateway's own.
    assert Settings().grpc.address.endswith(":50051")
    assert Settings().ops.address.endswith(":9464")


def test_variables_that_the_chart_sets_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {name for name in environment(manifests("full")) if name.startswith("TRUNKLINE")}
    assert ours == {"TRUNKLINE_GRPC__ADVERTISE"}
    monkeypatch.setenv("TRUNKLINE_GRPC__ADVERTISED", "x")  # so that the check is known to look
    with pytest.raises(SettingsError, match="names no setting"):
        read(manifests("full"), tmp_path, monkeypatch)


def test_the_grace_begins_with_the_gateways_own_drain() -> None:
    spec = gateway(manifests("minimal"))["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 5 + LimitSettings().drain_seconds + 10


# What restarts the pods.

FOLLOWED: Final[dict[str, Change]] = {
    "pools": {"config": {"pools": {"default": {"floor": 3}}}},
    "templates": {"config": {"templates": {"default": {"model": "gpt-realtime-mini"}}}},
    "targets": {"config": {"targets": {"openai": {"url": "wss://eu.api.openai.com/v1/realtime"}}}},
    "callers": {
        "callers": [{"name": "x", "tenant": "y", "tokenSha256": {"existingSecret": "trunkline-callers", "key": "z"}}]
    },
    "store.sealing_keys": {"sealingKeys": {"ids": ["k2", "k1"]}},
    "accounts.key_file": {"providerKeys": {"main": {"key": "other"}}},
}
RESTARTED: Final[dict[str, Change]] = {
    "profile": {"profile": "development"},
    "grpc": {"tls": {"certKey": "chain.pem"}},
    "ops": {"ipFamily": "IPv6"},
    "redis": {"redis": {"url": "rediss://trunkline@other.example:6379/0"}},
    "rotate": {"config": {"rotate": {"before_seconds": 60}}},
    "tracing": {"config": {"tracing": {"endpoint": "http://collector:4317"}}},
    "limits": {"config": {"limits": {"sessions_max": 10}}},
    "store": {"config": {"store": {"retention_seconds": 60}}},
    "accounts": {"config": {"accounts": {"main": {"connections_max": 50}}}},
}


@pytest.mark.parametrize("what", [*FOLLOWED, *RESTARTED])
def test_pods_restart_for_what_a_running_gateway_does_not_follow(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = manifests("minimal")
    after = render(changed(values("minimal"), {**FOLLOWED, **RESTARTED}[what]))
    old, new = (read(each, tmp_path, monkeypatch) for each in (before, after))
    assert old != new
    restarts = gateway(before)["spec"]["template"] != gateway(after)["spec"]["template"]
    assert restarts == bool(needs_restart(old, new)) == (what in RESTARTED)


def test_each_section_is_either_followed_or_restarts() -> None:
    known = {each.partition(".")[0] for each in (*FOLLOWED, *RESTARTED)}
    # What is not served has nothing to follow.
    assert set(Settings.model_fields) - known == {"door"}


# The same rules.

POOL: Final = {"floor": 4, "ceiling": 40}
RULES: Final[list[Change]] = [
    {},
    {"pools": {"default": POOL}},
    {"pools": {"default": {"floor": 14}}},
    {"pools": {"default": {"floor": 15}}},
    {"pools": {"default": {"floor": 0, "ceiling": 1, "reserve": 1}}},
    {"pools": {"default": {"floor": 0, "ceiling": 1}}},
    {"pools": {"default": {"ceiling": 100}}},
    {"pools": {"default": {"ceiling": 101}}},
    {"accounts": {"main": {"connections_max": 15}}},
    {"accounts": {"main": {"connections_max": 16}}},
    {"accounts": {"main": {"connections_max": 31, "safety": "tenant"}}},
    {"accounts": {"main": {"connections_max": 32, "safety": "tenant"}}},
    {"accounts": {"main": {"safety": "end_user"}}},
    {"accounts": {"main": {"safety": "everybody"}}},
    {"accounts": {"main": {"organization": "two words"}}},
    {"templates": {"sales": {}}},
    {"templates": {"sales": {}}, "pools": {"sales": {}}},
    {"templates": {"sales": {}, "default": {}}},
    {"templates": {"sales": {"target": "azure"}, "default": {}}},
    {"targets": {"azure": {"url": "wss://azure.example/openai"}}},
    {"targets": {"azure": {}}, "templates": {"default": {"target": "azure"}}},
    {"targets": {"openai": {"accounts": ["other"]}}},
    {"targets": {"openai": {"accounts": []}}},
    {"targets": {"openai": {"url": "ws://127.0.0.1:9180/v1/realtime"}}},
    {"targets": {"openai": {"url": "ws://10.0.0.1/"}}},
    {"targets": {"openai": {"url": "wss://user@azure.example/"}}},
    {"targets": {"openai": {"url": "wss://azure.example/?model=x"}}},
    {"templates": {"default": {"session": {}}}},
    {"templates": {"default": {"session": {}, "recovery": {"user_turns": "none"}}}},
    {"templates": {"default": {"session": {"audio": {"input": {"transcription": {"model": "x"}}}}}}},
    {"templates": {"default": {"recovery": {"user_turns": "audio"}}}},
    {"templates": {"default": {"durability": "strict"}}},
    {"templates": {"default": {"session": {"type": 7}, "recovery": {"user_turns": "none"}}}},
    {"templates": {"default": {"session": {"audio": []}, "recovery": {"user_turns": "none"}}}},
    {"templates": {"default": {"session": {"audio": [1]}}}},
    {"templates": {"default": {"session": {"audio": {"input": [1]}}, "recovery": {"user_turns": "none"}}}},
    {"templates": {"default": {"session": {"audio": None}, "recovery": {"user_turns": "none"}}}},
    {"targets": {"openai": {"url": "wss://azure.example:0/"}}},
    {"targets": {"openai": {"url": "wss://azure.example:70000/"}}},
    {"targets": {"openai": {"url": "wss://[fd00::1]:443/v1"}}},
    {"targets": {"openai": {"url": "wss://[fd00::1]/v1"}}},
    {"targets": {"openai": {"url": "ws://localhost"}}},
    {"store": {"opens_without_redis": False}},
    {"store": {"replicas_wait": -1}},
    {"limits": {"message_max_bytes": 4 << 20}},
    {"limits": {"message_max_bytes": (4 << 20) + 1}},
    {"limits": {"drain_seconds": 0.5}},
    {"rotate": {"before_seconds": 0}},
    {"tracing": {"endpoint": "http://collector:4317"}},
    {"tracing": {"endpoint": "https://collector:4317/"}},
    {"tracing": {"endpoint": None}},
    {"tracing": {"endpoint": "http://collector"}},
    {"tracing": {"endpoint": "http://user@collector:4317"}},
    {"tracing": {"endpoint": "collector:4317"}},
    {"tracing": {"endpoint": "HTTPS://collector:4317"}},
    {"tracing": {"endpoint": "http://[fd00::1]:4317"}},
    {"tracing": {"endpoint": "http://:4317"}},
    {"tracing": {"endpoint": "http://two words:4317"}},
    {"tracing": {"endpoint": "http://collector:0"}},
    {"tracing": {"endpoint": "http://collector:65535"}},
    {"tracing": {"endpoint": "http://collector:65536"}},
    {"tracing": {"sample_ratio": 2}},
    {"pools": {"default": {"celing": 1}}},
]  # fmt: skip


@cache
def two_tenants() -> tuple[Change, Change]:
    """Return values with callers of two tenants, and what the gateway reads then."""
    second = {"name": "other", "tenant": "other", "tokenSha256": {"existingSecret": "openai", "key": "other"}}
    base = changed(values("minimal"), {"callers": [*values("minimal")["callers"], second]})
    return base, configuration(render(base))


@pytest.mark.parametrize("config", RULES, ids=str)
def test_the_chart_refuses_what_the_gateway_refuses(
    config: Change, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, written = two_tenants()
    file = tmp_path / "trunkline.yaml"
    file.write_text(yaml.safe_dump(changed(written, config)), "utf-8")
    try:
        _loaded(file, manifests("minimal"), monkeypatch)
    except SettingsError:
        with pytest.raises(HelmError):
            render_files(changed(base, {"config": config}))
    else:
        render_files(changed(base, {"config": config}))


def test_the_configuration_can_change_under_a_running_gateway() -> None:
    spec = gateway(manifests("minimal"))["spec"]["template"]["spec"]
    (volume,) = [each for each in spec["volumes"] if "configMap" in each]
    found = only(manifests("minimal"), "ConfigMap", "gateway")
    assert volume["configMap"] == {"name": found["metadata"]["name"]}
    assert not found.get("immutable")


def test_no_secret_stands_in_a_manifest() -> None:
    for case in CASES:
        assert of_kind(manifests(case), "Secret") == []
        config = only(manifests(case), "ConfigMap", "gateway")["data"]["trunkline.yaml"]
        named = re.findall(r"(?:key|token_sha256|password|cert|ca)_file: (\S+)", config)
        assert all(path.startswith(MOUNTED) for path in named)
