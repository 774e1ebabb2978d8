from pathlib import Path
from typing import Final

import pytest
import yaml

from gateway import __version__
from tests.deploy.chart.rendered import CASES, changed, configuration, gateway, manifests, values
from tests.support import chart as generated
from tests.support.helm import CHART, Chart, lint, notes, of_kind, package, render

pytestmark = pytest.mark.deploy


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_nothing_to_say(case: str) -> None:
    assert lint(values(case)) == []


def test_helm_finds_a_fault_that_is_there() -> None:
    assert any("typo" in each for each in lint(changed(values("minimal"), {"typo": 1})))


def test_each_case_makes_what_it_asks_for() -> None:
    always = {"ConfigMap", "Deployment", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Service", "ServiceAccount"}
    kinds = {case: {each["kind"] for each in manifests(case)} for case in CASES}
    monitoring = {"PrometheusRule", "ServiceMonitor"}
    assert kinds == {
        "evaluation": always,
        "full": always | monitoring | {"HorizontalPodAutoscaler"},
        "minimal": always,
        "tls": always,
    }
    names = [each["metadata"]["name"] for each in of_kind(manifests("evaluation"), "Deployment")]
    assert sorted(names) == ["trunkline", "trunkline-valkey"]


def test_the_chart_is_of_this_version() -> None:
    described = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert described["appVersion"] == __version__
    image = gateway(manifests("minimal"))["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"registry.example/trunkline:{__version__}"


@pytest.mark.parametrize("name", generated.fresh())
def test_generated_files_are_fresh(name: str) -> None:
    stale = f"run `python -m tests.support.chart --write`: {name}"
    assert (CHART / name).read_text("utf-8") == generated.fresh()[name], stale


def test_every_value_is_explained() -> None:
    def leaves(tree: object, path: str) -> set[str]:
        if path in explained or not isinstance(tree, dict):
            return {path}
        return {leaf for key, below in tree.items() for leaf in leaves(below, f"{path}.{key}".lstrip("."))}

    explained = {each.path for each in generated.values()}
    assert len(explained) > 50
    assert leaves(yaml.safe_load((CHART / "values.yaml").read_text("utf-8")), "") == explained


def test_a_package_renders_as_the_folder_does(tmp_path: Path) -> None:
    archive = Path(package(CHART, destination=tmp_path))
    with Chart.load(archive) as loaded:
        held = {each["name"] for each in loaded.files}
    assert {"files/rules.yaml", "files/dashboard.json", "files/ready.py", "README.md"} <= held
    assert not any(name.startswith("ci/") or "waivers" in name for name in held)
    assert render(values("full"), chart=archive) == manifests("full")


@pytest.mark.parametrize("case", CASES)
def test_objects_are_named_after_the_release_and_stay_in_its_namespace(case: str) -> None:
    for each in render(values(case), name="north", namespace="calls"):
        assert each["metadata"]["name"].startswith(("north-trunkline", "speech-gateway")), each["kind"]
        assert each["metadata"]["namespace"] == "calls"


def test_the_longest_name_is_a_name() -> None:
    for each in render(values("full"), name="n" * 53):
        assert len(each["metadata"]["name"]) <= 63


def test_large_numbers_stay_numbers() -> None:
    limits = configuration(manifests("full"))["limits"]
    assert limits == {"message_max_bytes": 4 << 20, "drain_seconds": 300, "sessions_max": 500}


# The notes.


def test_notes_name_what_was_made() -> None:
    told = notes(values("full"), name="north", namespace="calls")
    for words in (
        "deployment/north-trunkline",
        "dns:///north-trunkline-headless.calls.svc:50051",
        "collector-ca, openai, trunkline-callers, trunkline-redis, ",
        "315 s to let its calls finish",
    ):
        assert words in told
    assert "WARNING" not in told


def test_notes_warn_of_what_is_for_evaluation() -> None:
    told = notes(values("evaluation"))
    for words in ("in the clear", "no TLS, no password", "answered by a simulator", "reflection is on"):
        assert words in told


def test_notes_warn_when_all_gateways_want_more_lines_than_the_account_has() -> None:
    warned = notes(changed(values("minimal"), {"replicas": 7}))
    assert (
        "WARNING: 7 gateways may want 112 lines of the account main together, and its connections_max is 100" in warned
    )
    assert "may want" not in notes(changed(values("minimal"), {"replicas": 6}))
    exactly = {"replicas": 5, "config": {"pools": {"default": {"ceiling": 20}}}}
    assert "may want" not in notes(changed(values("minimal"), exactly))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"networkPolicy": {"enabled": False}}, "every pod of the cluster can reach them"),
        ({"networkPolicy": {"callers": []}}, "nobody can reach them"),
        ({"replicas": 1}, "one gateway alone"),
    ],
)
def test_notes_warn_of(change: dict[str, object], words: str) -> None:
    assert words in notes(changed(values("minimal"), change))


SPANS: Final = {"config": {"tracing": {"endpoint": "http://collector.example:4317"}}}
OUTSIDE: Final = {"ipBlock": {"cidr": "192.0.2.10/32"}}


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({}, "The NetworkPolicy lets them out to pods of this cluster alone"),
        ({"tracing": []}, "WARNING: networkPolicy.tracing is empty"),
        ({"tracing": [OUTSIDE]}, None),
        ({"enabled": False}, None),
    ],
)
def test_notes_say_where_spans_can_go(policy: dict[str, object], words: str | None) -> None:
    told = notes(changed(values("minimal"), {**SPANS, "networkPolicy": policy}))
    assert (words is None) == ("collector.example" not in told)
    assert words is None or words in told
    assert "192.0.2.10" not in notes(values("minimal")), "without an endpoint there is nothing to say"
