"""Who may reach whom: nobody and nowhere but what is named."""

from typing import Any

import pytest

from tests.deploy.chart.rendered import CASES, changed, configuration, gateway, manifests, values
from tests.support.helm import Object, of_kind, only, render

pytestmark = pytest.mark.deploy


def policy(objects: list[Object]) -> dict[str, Any]:
    return dict(only(objects, "NetworkPolicy", "gateway")["spec"])


def ports(rules: list[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(each["protocol"], each["port"]) for rule in rules for each in rule["ports"]}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_named_is_denied_both_ways(case: str) -> None:
    for each in of_kind(manifests(case), "NetworkPolicy"):
        assert each["spec"]["policyTypes"] == ["Ingress", "Egress"]
        for rule, peers in [
            *((rule, rule.get("from")) for rule in each["spec"]["ingress"]),
            *((rule, rule.get("to")) for rule in each["spec"]["egress"]),
        ]:
            assert peers, "no peers mean everybody"
            assert rule["ports"], "no ports mean all of them"


@pytest.mark.parametrize("case", CASES)
def test_the_ports_that_are_open_are_those_that_are_served(case: str) -> None:
    config = configuration(manifests(case))
    served = {("TCP", int(config[name]["address"].rpartition(":")[2])) for name in ("grpc", "ops")}
    assert ports(policy(manifests(case))["ingress"]) == served
    box = gateway(manifests(case))["spec"]["template"]["spec"]["containers"][0]
    assert {(each["protocol"], each["containerPort"]) for each in box["ports"]} == served


def test_callers_and_monitoring_reach_their_own_port_alone() -> None:
    calls, ops = policy(manifests("minimal"))["ingress"]
    assert calls["from"] == [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"trunkline-caller": "true"}}}]
    assert [each["port"] for each in calls["ports"]] == [50051]
    assert [each["port"] for each in ops["ports"]] == [9464]
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}} in ops["from"]


def test_with_no_callers_named_nobody_can_call() -> None:
    objects = render(changed(values("minimal"), {"networkPolicy": {"callers": [], "monitoring": []}}))
    assert ports(policy(objects)["ingress"]) == {("TCP", 9464)}


DNS = {("UDP", 53), ("TCP", 53)}
PROVIDER = ("TCP", 443)


@pytest.mark.parametrize(
    ("change", "reached"),
    [
        ({}, {6379}),
        ({"redis": {"url": "rediss://trunkline@redis.example"}}, {6379}),
        ({"redis": {"url": "rediss://trunkline@redis.example:6380/3"}}, {6380}),
        ({"redis": {"url": "rediss://trunkline@[fd00::1]:6381/3"}}, {6381}),
        ({"redis": {"url": "rediss+sentinel://trunkline@one,two:26380/main/0"}}, {26379, 26380, 6379}),
        ({"redis": {"url": "rediss+cluster://trunkline@one,two:7000"}}, {6379, 7000}),
        ({"networkPolicy": {"redisPorts": [7001, 7002]}}, {7001, 7002}),
        ({"networkPolicy": {"redis": []}}, set()),
        ({"replicas": 1, "redis": {"url": "embedded", "password": {"existingSecret": ""}}}, set()),
    ],
)
def test_redis_is_reached_on_the_ports_of_its_url(change: dict[str, Any], reached: set[int]) -> None:
    egress = policy(render(changed(values("minimal"), change)))["egress"]
    assert ports(egress) == DNS | {PROVIDER} | {("TCP", port) for port in reached}


@pytest.mark.parametrize(
    ("url", "port"),
    [("wss://api.example/v1", 443), ("wss://api.example:8443/v1", 8443), ("wss://api.example:9443", 9443)],
)
def test_the_provider_is_reached_on_the_port_of_its_url(url: str, port: int) -> None:
    change = {"config": {"targets": {"openai": {"url": url}}}}
    egress = policy(render(changed(values("minimal"), change)))["egress"]
    assert ports(egress) == DNS | {("TCP", 6379), ("TCP", port)}


def test_dns_is_reached_where_its_pods_listen() -> None:
    egress = policy(render(changed(values("minimal"), {"networkPolicy": {"dnsPorts": [53, 5353]}})))["egress"]
    assert ports(egress) >= {*DNS, ("UDP", 5353), ("TCP", 5353)}


def test_a_collector_is_reached_on_the_port_of_its_endpoint() -> None:
    change = {"config": {"tracing": {"endpoint": "http://collector.observability:4318/"}}}
    egress = policy(render(changed(values("minimal"), change)))["egress"]
    assert ports(egress) == DNS | {PROVIDER, ("TCP", 6379), ("TCP", 4318)}


def test_the_provider_is_not_looked_for_in_private_networks() -> None:
    (rule,) = [each for each in policy(manifests("minimal"))["egress"] if ports([each]) == {PROVIDER}]
    four, six = (each["ipBlock"] for each in rule["to"])
    assert {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"} <= set(four["except"])
    assert "fc00::/7" in six["except"]


def test_the_evaluation_stays_in_the_cluster() -> None:
    objects = manifests("evaluation")
    assert ports(policy(objects)["egress"]) == DNS | {("TCP", 6379)}
    valkey = only(objects, "NetworkPolicy", "valkey")["spec"]
    assert valkey["egress"] == []
    (rule,) = valkey["ingress"]
    assert rule["from"] == [{"podSelector": gateway(objects)["spec"]["selector"]}]


@pytest.mark.parametrize("case", CASES)
def test_the_test_in_the_cluster_can_reach_the_gateways(case: str) -> None:
    objects = manifests(case)
    said = only(objects, "Pod")["metadata"]["labels"]
    ops = policy(objects)["ingress"][1]
    assert any(each.get("podSelector", {}).get("matchLabels", {"": ""}).items() <= said.items() for each in ops["from"])
    own = only(objects, "NetworkPolicy", "test")["spec"]
    assert own["podSelector"]["matchLabels"].items() <= said.items()
    assert own["egress"][-1]["to"] == [{"podSelector": gateway(objects)["spec"]["selector"]}]
    assert ports(own["egress"]) == DNS | {("TCP", 9464)}


def test_it_can_be_left_out() -> None:
    assert of_kind(render(changed(values("evaluation"), {"networkPolicy": {"enabled": False}})), "NetworkPolicy") == []
