"""What schemas do not catch: that the objects mean the right thing, and fit each other."""

import re
from typing import Any, Final

import pytest
import yaml

from gateway.settings.sections import LimitSettings
from tests.deploy.chart.rendered import (
    CASES,
    changed,
    configuration,
    containers,
    gateway,
    manifests,
    pod_templates,
    values,
)
from tests.support.helm import CHART, Object, of_kind, only, render

pytestmark = pytest.mark.deploy

ALLOWED_IN_SELECTORS: Final = {
    "app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component",
}  # fmt: skip


def pod(objects: list[Object]) -> dict[str, Any]:
    return dict(gateway(objects)["spec"]["template"]["spec"])


def labels(objects: list[Object], component: str) -> dict[str, str]:
    return dict(only(objects, "Deployment", component)["spec"]["template"]["metadata"]["labels"])


# Selectors.


@pytest.mark.parametrize("case", CASES)
def test_selectors_never_change_with_a_version(case: str) -> None:
    for each in of_kind(manifests(case), "Deployment"):
        assert set(each["spec"]["selector"]["matchLabels"]) == ALLOWED_IN_SELECTORS
    for each in of_kind(manifests(case), "Service"):
        assert set(each["spec"]["selector"]) == ALLOWED_IN_SELECTORS


def test_a_new_chart_alone_restarts_nobody() -> None:
    said = gateway(manifests("full"))["spec"]["template"]["metadata"]["labels"]
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(said)


@pytest.mark.parametrize("case", CASES)
def test_everything_that_selects_pods_selects_ours(case: str) -> None:
    objects = manifests(case)
    for component in {"gateway", "valkey"} & {each["metadata"]["name"].rpartition("-")[2] for each in objects} | {
        "gateway"
    }:
        selector = only(objects, "Deployment", component)["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels(objects, component).items()
    ours = gateway(objects)["spec"]["selector"]["matchLabels"]
    for each in of_kind(objects, "Service"):
        expected = labels(objects, "valkey" if each["metadata"]["name"].endswith("valkey") else "gateway")
        assert each["spec"]["selector"].items() <= expected.items()
    assert only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == ours
    assert only(objects, "NetworkPolicy", "gateway")["spec"]["podSelector"]["matchLabels"] == ours
    for each in pod(objects)["topologySpreadConstraints"]:
        assert each["labelSelector"]["matchLabels"] == ours


@pytest.mark.parametrize("names", [("one", "two"), ("trunkline", "trunkline-test")])
def test_two_releases_in_one_namespace_do_not_meet(names: tuple[str, str]) -> None:
    one, two = (render(values("evaluation"), name=name) for name in names)
    assert not {(each["kind"], each["metadata"]["name"]) for each in one} & {
        (each["kind"], each["metadata"]["name"]) for each in two
    }
    assert gateway(one)["spec"]["selector"] != gateway(two)["spec"]["selector"]


# Where pods go.


def test_every_pod_goes_where_the_gateways_may() -> None:
    places = {
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "speech", "operator": "Exists", "effect": "NoSchedule"}],
    }
    objects = render(changed(values("evaluation"), places))
    found = [each["spec"]["template"]["spec"] for each in of_kind(objects, "Deployment")]
    found.append(only(objects, "Pod")["spec"])
    assert len(found) == 3
    for each in found:
        assert {name: each.get(name) for name in places} == places


@pytest.mark.parametrize("case", CASES)
def test_a_node_that_takes_no_gateway_is_none_to_spread_over(case: str) -> None:
    spread = pod(manifests(case))["topologySpreadConstraints"]
    assert [each["nodeTaintsPolicy"] for each in spread] == ["Honor", "Honor"]


# Roll-out and end.


@pytest.mark.parametrize("case", CASES)
def test_a_gateway_is_replaced_before_it_goes(case: str) -> None:
    spec = gateway(manifests(case))["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["minReadySeconds"] == 10


@pytest.mark.parametrize(
    ("change", "grace"),
    [
        ({}, 60),
        ({"preStopSeconds": 20}, 75),
        ({"config": {"limits": {"drain_seconds": 600}}}, 615),
        ({"config": {"limits": {"drain_seconds": 0.5}}}, 16),
        ({"terminationGracePeriodSeconds": 60}, 60),
        ({"terminationGracePeriodSeconds": 900}, 900),
    ],
)
def test_the_pod_has_time_to_drain(change: dict[str, Any], grace: int) -> None:
    objects = render(changed(values("minimal"), change))
    spec = pod(objects)
    assert spec["terminationGracePeriodSeconds"] == grace
    before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = configuration(objects).get("limits", {}).get("drain_seconds", LimitSettings().drain_seconds)
    assert grace >= before + drain + 10


@pytest.mark.parametrize("case", CASES)
def test_one_gateway_at_a_time_may_be_taken_by_a_node(case: str) -> None:
    spec = only(manifests(case), "PodDisruptionBudget")["spec"]
    assert spec["maxUnavailable"] == 1
    assert "minAvailable" not in spec


def test_probes_ask_what_they_are_for() -> None:
    box = pod(manifests("minimal"))["containers"][0]
    asked = {name: box[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {
        "startupProbe": {"path": "/livez", "port": "ops"},
        "livenessProbe": {"path": "/livez", "port": "ops"},
        "readinessProbe": {"path": "/readyz", "port": "ops"},
    }
    # The loop may be silent for 5 s before /livez fails; only then the count begins.
    assert box["livenessProbe"]["periodSeconds"] * box["livenessProbe"]["failureThreshold"] >= 15
    assert box["readinessProbe"]["periodSeconds"] <= 5


def test_the_simulator_begins_before_the_gateway_and_ends_after_it() -> None:
    (simulator,) = pod(manifests("evaluation"))["initContainers"]
    assert simulator["restartPolicy"] == "Always"
    assert "initContainers" not in pod(manifests("minimal"))


def test_the_valkey_refuses_before_it_is_killed() -> None:
    (box,) = only(manifests("evaluation"), "Deployment", "valkey")["spec"]["template"]["spec"]["containers"]
    told = dict(zip(box["command"], box["command"][1:], strict=False))
    limit = int(box["resources"]["limits"]["memory"].removesuffix("Mi"))
    # A quarter for itself: its own code, and the buffers of its connections.
    assert int(told["--maxmemory"].removesuffix("mb")) <= 0.75 * limit
    assert told["--maxmemory-policy"] == "noeviction"


# Scaling.


def test_scaling_follows_leased_lines_and_goes_down_slowly() -> None:
    scaler = only(manifests("full"), "HorizontalPodAutoscaler")["spec"]
    target = gateway(manifests("full"))
    assert scaler["scaleTargetRef"] == {
        "apiVersion": target["apiVersion"], "kind": target["kind"], "name": target["metadata"]["name"],
    }  # fmt: skip
    assert scaler["metrics"] == [
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "trunkline:leased_ratio"},
                "target": {"type": "AverageValue", "averageValue": "600m"},
            },
        }
    ]
    down = scaler["behavior"]["scaleDown"]
    assert down["stabilizationWindowSeconds"] == 600
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 300}]


def test_the_scalers_metric_is_recorded() -> None:
    metric = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["autoscaling"]["metric"]
    groups = yaml.safe_load((CHART / "files" / "rules.yaml").read_text("utf-8"))["groups"]
    (expression,) = [each["expr"] for group in groups for each in group["rules"] if each.get("record") == metric]
    # By these labels the adapter finds the pod.
    assert {"namespace", "pod"} <= set(re.findall(r"\w+", expression))


def test_only_one_of_both_says_how_many_gateways() -> None:
    assert gateway(manifests("minimal"))["spec"]["replicas"] == 2
    assert of_kind(manifests("minimal"), "HorizontalPodAutoscaler") == []
    assert "replicas" not in gateway(manifests("full"))["spec"]


# Names.


@pytest.mark.parametrize("case", CASES)
def test_callers_can_find_each_gateway(case: str) -> None:
    headless = only(manifests(case), "Service", "headless")["spec"]
    assert headless["clusterIP"] == "None"
    assert headless["publishNotReadyAddresses"] is False
    assert [each["port"] for each in headless["ports"]] == [50051, 9464]
    plain = only(manifests(case), "Service", "gateway")["spec"]
    assert "clusterIP" not in plain
    assert [each["port"] for each in plain["ports"]] == [50051]
    named = {each["name"] for each in pod(manifests(case))["containers"][0]["ports"]}
    assert {each["targetPort"] for each in [*headless["ports"], *plain["ports"]]} == named


def test_ipv6_is_told_with_brackets() -> None:
    box = pod(manifests("full"))["containers"][0]
    assert {each["name"]: each.get("value") for each in box["env"]}["TRUNKLINE_GRPC__ADVERTISE"] == "[$(POD_IP)]:50051"
    assert configuration(manifests("full"))["grpc"]["address"] == "[::]:50051"


# Secrets.


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_folders_and_nothing_else(case: str) -> None:
    for name, _, spec in pod_templates(manifests(case)):
        for each in containers(spec):
            assert not any("subPath" in mount or "subPathExpr" in mount for mount in each.get("volumeMounts", [])), name
            assert "envFrom" not in each
            assert not any("secretKeyRef" in variable.get("valueFrom", {}) for variable in each.get("env", []))
        for volume in spec.get("volumes", []):
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440
                assert "items" not in volume["secret"]


def test_a_secret_that_serves_twice_is_mounted_once() -> None:
    mounts = [each["mountPath"] for each in pod(manifests("full"))["containers"][0]["volumeMounts"]]
    assert len(mounts) == len(set(mounts))
    assert "/etc/trunkline/secrets/trunkline-redis" in mounts


# Monitoring.


def test_each_gateway_is_scraped_once() -> None:
    monitor = only(manifests("full"), "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    selected = [each for each in of_kind(manifests("full"), "Service") if wanted <= each["metadata"]["labels"].items()]
    assert len(selected) == 1
    (endpoint,) = monitor["endpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("ops", "/metrics")
    assert endpoint["port"] in {each["name"] for each in selected[0]["spec"]["ports"]}
    assert monitor["namespaceSelector"] == {"matchNames": ["speech"]}


def test_the_rules_are_the_one_file_and_each_alert_leads_to_its_page() -> None:
    written = yaml.safe_load((CHART / "files" / "rules.yaml").read_text("utf-8"))
    rendered = only(manifests("full"), "PrometheusRule")["spec"]
    for group in rendered["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                url = rule["annotations"].pop("runbook_url")
                assert url == f"https://docs.example/trunkline/{rule['annotations']['runbook']}"
    assert rendered == written


def test_the_dashboard_is_the_one_file() -> None:
    shown = only([each for each in manifests("full") if "trunkline.json" in each.get("data", {})], "ConfigMap")
    assert shown["data"]["trunkline.json"].strip() == (CHART / "files" / "dashboard.json").read_text("utf-8").strip()
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert len(shown["data"]["trunkline.json"]) < 1_000_000
