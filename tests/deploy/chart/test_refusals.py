"""Wrong values are refused before anything is installed, in words that say what would be right."""

import re
from typing import Any, Final

import pytest

from tests.deploy.chart.rendered import changed, values
from tests.support.helm import CHART, RELEASE, HelmError, render

pytestmark = pytest.mark.deploy

Change = dict[str, Any]
NO_REDIS: Final = {"redis": {"url": "", "password": {"existingSecret": ""}}}
EMBEDDED: Final = {"redis": {"url": "embedded", "password": {"existingSecret": ""}}}


def refusal(case: str, change: Change, name: str = RELEASE) -> str:
    with pytest.raises(HelmError) as caught:
        render(changed(values(case), change), name=name)
    return str(caught.value)


# A case, what is changed in it, and words of the answer.
REFUSED: Final[list[tuple[str, Change, str]]] = [
    # What must be set.
    ("minimal", {"image": {"repository": ""}}, "image.repository: name the registry and repository that you have"),
    ("minimal", {"callers": []}, "callers: nobody may call. Name at least one caller: {name, tenant, tokenSha256"),
    ("minimal", {"providerKeys": {"main": None}}, "providerKeys"),
    ("minimal", {"config": {"accounts": {"second": {}}}}, "providerKeys.second: the account needs the provider's key"),
    ("minimal", NO_REDIS, "redis.url: name your Redis, as rediss://USER@HOST:6379/0"),
    ("minimal", {"sealingKeys": {"existingSecret": ""}}, "sealingKeys.existingSecret: what is stored outside"),
    ("evaluation", {"simulator": {"enabled": False}}, "providerKeys.main: the account needs the provider's key"),
    ("evaluation", {"valkey": {"enabled": False}}, "set profile: development and valkey.enabled"),
    # What production does not allow.
    ("minimal", {"tls": {"existingSecret": ""}}, "tls.existingSecret: in production the listener needs a certificate"),
    ("minimal", {"redis": {"url": "redis://trunkline@redis.example"}}, "reached by TLS alone; begin with rediss"),
    ("minimal", {"redis": {"url": "rediss://redis.example:6379/0"}}, "names a user of its own, not default"),
    ("minimal", {"redis": {"url": "rediss://default@redis.example"}}, "names a user of its own, not default"),
    ("minimal", {**NO_REDIS, "valkey": {"enabled": True}}, "no TLS, no password and no disk, and production refuses"),
    ("minimal", {"simulator": {"enabled": True}}, "answers calls in the provider's place. Leave it out"),
    # What does not go together.
    ("minimal", {"redis": {"url": "rediss://trunkline:hunter2@redis.example"}}, "would stand in a ConfigMap; put it"),
    ("minimal", {"redis": {"url": "http://redis.example"}}, "redis.url: must be one of rediss://USER@HOST:6379/0"),
    ("minimal", {"redis": {"url": "rediss+sentinel://trunkline@one,two"}}, "rediss+sentinel://USER@HOST:26379,HOST"),
    (
        "minimal",
        {"redis": {"url": "rediss+cluster://trunkline@one,two/0"}},
        "rediss+cluster://USER@HOST:6379,HOST:6379",
    ),
    ("minimal", EMBEDDED, "embedded serves one gateway alone"),
    (
        "minimal",
        {**EMBEDDED, "replicas": 1, "autoscaling": {"enabled": True}},
        "or set replicas: 1 without autoscaling",
    ),
    ("minimal", {"replicas": 1, "redis": {"url": "embedded"}}, "embedded takes no password"),
    ("evaluation", {"redis": {"url": "redis://redis.example"}}, "valkey.enabled: the gateways then use the Valkey"),
    ("evaluation", {"tls": {"clientCa": {"existingSecret": "ca"}}}, "tls.clientCa: callers can show a certificate"),
    (
        "evaluation",
        {"valkey": {"enabled": False}, "redis": {"url": "redis://one", "ca": {"existingSecret": "ca"}}},
        "redis.ca: is for TLS; begin redis.url with rediss",
    ),
    ("minimal", {"autoscaling": {"enabled": True, "minReplicas": 9}}, "6 is less than autoscaling.minReplicas, 9"),
    (
        "minimal",
        {"terminationGracePeriodSeconds": 59},
        "59 would cut calls off. It must be at least 60 = preStopSeconds 5 + config.limits.drain_seconds 45 + 10",
    ),
    (
        "full",
        {"terminationGracePeriodSeconds": 60},
        "at least 315 = preStopSeconds 5 + config.limits.drain_seconds 300",
    ),
    # What the chart sets itself.
    (
        "minimal",
        {"config": {"grpc": {"address": "0.0.0.0:1"}}},
        "config.grpc: the chart sets the listener; for TLS use",
    ),
    ("minimal", {"config": {"ops": {}}}, "config.ops: the chart sets the listener; leave it out"),
    ("minimal", {"config": {"redis": {}}}, "config.redis: use the chart's own value redis"),
    ("minimal", {"config": {"callers": []}}, "config.callers: use the chart's own value callers"),
    ("minimal", {"config": {"profile": "production"}}, "config.profile: use the chart's own value profile"),
    ("minimal", {"config": {"door": {}}}, "config.door: it is not served yet; leave it out"),
    ("minimal", {"config": {"store": {"sealing_keys": []}}}, "use the chart's own value sealingKeys"),
    ("minimal", {"config": {"tracing": {"ca_file": "ca"}}}, "use the chart's own value tracing.ca"),
    ("minimal", {"tracing": {"ca": {"existingSecret": "ca"}}}, "tracing.ca: is for TLS; begin config.tracing.endpoint"),
    (
        "minimal",
        {"config": {"tracing": {"endpoint": "collector:4317"}}},
        "must be http://HOST:PORT or https://HOST:PORT",
    ),
    *[
        ("minimal", {"config": {"tracing": {"endpoint": f"http://collector:{port}"}}}, f"endpoint: {port} is no port")
        for port in (0, 99999)
    ],
    *[
        ("minimal", {"config": {"tracing": {"endpoint": each}}}, "config.tracing.endpoint: must be http://HOST:PORT")
        for each in (
            "http://:4317",
            "http://two words:4317",
            "http://tab\t:4317",
            "http://[::1:4317",
            "http://a:b:4317",
        )
    ],
    ("minimal", {"config": {"accounts": {"main": {"key_file": "k"}}}}, "use the chart's own value providerKeys.main"),
    ("evaluation", {"config": {"targets": {"openai": {}}}}, "config.targets: with simulator.enabled the chart sets"),
    (
        "minimal",
        {"podLabels": {"app.kubernetes.io/name": "x"}},
        "podLabels: app.kubernetes.io/name is set by the chart",
    ),
    ("minimal", {"extraEnv": [{"name": "POD_IP", "value": "::"}]}, "extraEnv: POD_IP is set by the chart"),
    (
        "minimal",
        {"extraEnv": [{"name": "TRUNKLINE_LIMITS__DRAIN_SECONDS", "value": "9"}]},
        "TRUNKLINE_LIMITS__DRAIN_SECONDS would win over the configuration; write the setting into config",
    ),
    ("minimal", {"extraEnv": [{"name": "trunkline_grpc__address", "value": "x"}]}, "trunkline_grpc__address would win"),
    # Secrets.
    ("minimal", {"extraEnv": [{"name": "OPENAI_API_KEY", "value": "sk-1"}]}, "would put a secret into the environment"),
    (
        "minimal",
        {"extraEnv": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "openai", "key": "api-key"}}}]},
        "KEY would put a secret into the environment",
    ),
    # Names that must meet, and bounds.
    (
        "minimal",
        {"config": {"templates": {"sales": {"target": "azure"}}, "pools": {"sales": {}}}},
        'config.templates.sales.target: "azure" is not among the targets: openai',
    ),
    ("minimal", {"config": {"templates": {"sales": {}}}}, 'config.pools: "default" is not among the templates: sales'),
    ("minimal", {"config": {"pools": {"slaes": {}}}}, 'config.pools: "slaes" is not among the templates: default'),
    ("minimal", {"config": {"targets": {"openai": {"accounts": ["x"]}}}}, '"x" is not among the accounts: main'),
    ("minimal", {"config": {"targets": {"openai": {"url": "wss://u@h/"}}}}, "must be wss://HOST[:PORT]/PATH, without"),
    ("minimal", {"config": {"targets": {"openai": {"url": "ws://api.example/"}}}}, "must be wss://HOST[:PORT]/PATH"),
    ("minimal", {"config": {"pools": {"default": {"floor": 15}}}}, "floor 15 + reserve 2 is over ceiling 16"),
    (
        "minimal",
        {"config": {"pools": {"default": {"ceiling": 101}}}},
        "connections_max is 100, but the ceilings of its pools sum up to 101 in each gateway; lower the ceilings",
    ),
    ("minimal", {"config": {"targets": {"openai": {"url": "wss://api.example:0/"}}}}, "openai.url: 0 is no port"),
    ("minimal", {"config": {"store": {"opens_without_redis": False}}}, "opens_without_redis: false is not served yet"),
    (
        "minimal",
        {"config": {"templates": {"default": {"recovery": {"user_turns": "audio"}}}}},
        "audio is not served yet",
    ),
    ("minimal", {"config": {"templates": {"default": {"session": {"type": 7}}}}}, "session.type: must be a word"),
    ("minimal", {"config": {"templates": {"default": {"session": {"audio": [1]}}}}}, "audio.input must be mappings"),
    ("minimal", {"config": {"templates": {"default": {"session": {}}}}}, "audio.input.transcription must be set, or"),
    (
        "minimal",
        {"config": {"templates": {"default": {"durability": "strict"}}}},
        "durability: strict is not served yet",
    ),
    # What the schema knows.
    ("minimal", {"replica": 3}, "additional properties 'replica' not allowed"),
    ("minimal", {"config": {"pools": {"default": {"celing": 3}}}}, "at '/config/pools/default': additional properties"),
    (
        "minimal",
        {"config": {"limits": {"drain_seconds": "45"}}},
        "/config/limits/drain_seconds': got string, want number",
    ),
    ("minimal", {"config": None}, "missing property 'config'"),
    ("minimal", {"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
    ("minimal", {"replicas": "3"}, "at '/replicas': got string, want integer"),
    ("minimal", {"profile": "prod"}, "at '/profile': value must be one of 'development', 'production'"),
    ("minimal", {"preStopSeconds": 0}, "at '/preStopSeconds': minimum: got 0, want 1"),
    ("minimal", {"image": {"digest": "sha256:1"}}, "at '/image/digest': 'sha256:1' does not match pattern"),
    ("minimal", {"image": {"repository": "trunkline:1.0"}}, "at '/image/repository': 'trunkline:1.0' does not match"),
    ("minimal", {"sealingKeys": {"ids": ["k1", "k1"]}}, "at '/sealingKeys/ids': items at 0 and 1 are equal"),
    ("minimal", {"providerKeys": {"main": {"existingSecret": "Open_AI"}}}, "'Open_AI' does not match pattern"),
    ("minimal", {"callers": [{"name": "a", "tenant": "b"}]}, "at '/callers/0': missing property 'tokenSha256'"),
    ("minimal", {"networkPolicy": {"callers": [{}]}}, "at '/networkPolicy/callers/0': minProperties: got 0, want 1"),
    ("minimal", {"autoscaling": {"target": "60%"}}, "at '/autoscaling/target': '60%' does not match pattern"),
]


@pytest.mark.parametrize(("case", "change", "words"), REFUSED, ids=[each[2][:40] for each in REFUSED])
def test_wrong_values_are_refused_with_a_sentence(case: str, change: Change, words: str) -> None:
    told = refusal(case, change)
    assert words in told
    assert len(told.strip().splitlines()) <= 4, "a fault or two, and not a trace of templates"


@pytest.mark.parametrize("name", ["1trunkline", "trunkline.v2", "prod.eu"])
def test_a_release_whose_name_gives_no_service_is_refused(name: str) -> None:
    assert f"fullnameOverride: the release gives Services the name {name}" in refusal("minimal", {}, name)
    render(changed(values("minimal"), {"fullnameOverride": "gateway"}), name=name)


def test_all_faults_are_told_at_once() -> None:
    told = refusal("minimal", {**NO_REDIS, "callers": [], "tls": {"existingSecret": ""}})
    assert told.count("\n  - ") == 3


def test_with_nothing_set_it_is_told_what_must_be() -> None:
    with pytest.raises(HelmError) as caught:
        render({})
    for value in ("image.repository", "callers", "providerKeys.main", "tls.existingSecret", "redis.url"):
        assert f"  - {value}: " in str(caught.value)


def test_each_sentence_that_the_templates_have_is_tried() -> None:
    written = [
        sentence
        for file in (CHART / "templates").glob("_faults*.tpl")
        for sentence in re.findall(r'"trunkline\.fault" \(list [.$] (?:\(printf )?"([^"]+)"', file.read_text("utf-8"))
    ]
    assert len(written) > 35
    told = "".join(refusal(case, change) for case, change, _ in REFUSED) + refusal("minimal", {}, "trunkline.v2")
    patterns = {each: re.sub(r"%[sdq]", ".*", re.escape(each).replace("\\%", "%")) for each in written}
    assert [each for each, pattern in patterns.items() if not re.search(pattern, told)] == []


def test_no_answer_repeats_a_password() -> None:
    for url in ("rediss://trunkline:hunter2@redis.example", "http://trunkline:hunter2@redis.example", "hunter2"):
        assert "hunter2" not in refusal("minimal", {"redis": {"url": url}})
