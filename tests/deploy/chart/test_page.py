"""What the page on Kubernetes tells its reader to save and to type works, and is what the chart does."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from gateway.settings import load
from gateway.settings.sections import LimitSettings
from tests.deploy.chart.rendered import changed, configuration, environment, gateway
from tests.support.helm import CHART, only, render
from tests.support.reference_blocks import blocks, commands

pytestmark = pytest.mark.deploy

PAGE: Final = "docs/operations/kubernetes.md"


def saved(title: str) -> dict[str, Any]:
    (block,) = [each for each in blocks(PAGE) if each.title == title]
    return dict(yaml.safe_load(block.body))


def created() -> dict[str, set[str]]:
    """Return the Secrets that the page has its reader make, and their keys."""
    found: dict[str, set[str]] = {}
    for each in commands(PAGE):
        if made := re.search(r"create secret (generic|tls) (\S+) (.*)", each.text):
            sources = re.findall(r"--from-file=([\w-]+)", made[3])
            found[made[2]] = {"tls.crt", "tls.key"} if made[1] == "tls" else set(sources)
    return found


@pytest.mark.parametrize("title", ["my-values.yaml", "evaluation-values.yaml"])
def test_the_values_that_are_shown_are_all_that_is_needed(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = render(saved(title))
    file = tmp_path / "trunkline.yaml"
    file.write_text(yaml.safe_dump(configuration(objects)), "utf-8")
    for name, value in environment(objects).items():
        monkeypatch.setenv(name, value)
    assert load(file).callers
    wanted: dict[str, set[str]] = {}
    for secret, key in re.findall(r"/etc/trunkline/secrets/([^/\s]+)/(\S+)", file.read_text("utf-8")):
        wanted.setdefault(secret, set()).add(key)
    made = created()
    assert {secret: keys for secret, keys in made.items() if secret in wanted} == wanted
    assert title != "my-values.yaml" or made.keys() == wanted.keys()


def test_the_values_for_scaling_make_a_scaler_whose_metric_the_adapter_offers() -> None:
    scaler = only(render(changed(saved("my-values.yaml"), saved("scaling-values.yaml"))), "HorizontalPodAutoscaler")
    metric = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
    (rule,) = saved("adapter-values.yaml")["rules"]["custom"]
    assert f'__name__="{metric}"' in rule["seriesQuery"]
    assert rule["name"] == {"as": metric}
    assert any(each.text.endswith(f"/pods/*/{metric}'") for each in commands(PAGE))


def test_the_refusals_that_are_shown_are_those_of_the_chart() -> None:
    (shown,) = [each.body for each in blocks(PAGE) if each.body.startswith("these values cannot be used")]
    change = {"tls": {"existingSecret": ""}, "config": {"pools": {"default": {"floor": 40}}}}
    with pytest.raises(Exception, match="cannot be used") as caught:
        render(changed(saved("my-values.yaml"), change))
    assert shown.strip() in str(caught.value)


def test_the_times_of_a_roll_are_those_of_the_chart() -> None:
    spec = gateway(render(saved("my-values.yaml")))["spec"]
    before = spec["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    rows = [[cell.strip() for cell in each.strip("|").split("|")] for each in _lines("| ")]
    times = [first for first, *_ in rows if re.fullmatch(r"[\d s to]+", first)]
    drained = before + int(LimitSettings().drain_seconds)
    grace = spec["template"]["spec"]["terminationGracePeriodSeconds"]
    assert times == ["0 s", f"{before} s", f"{before} s to {drained} s", f"{drained} s", f"{grace} s"]
    assert f"ready for {spec['minReadySeconds']} s" in rows[[first for first, *_ in rows].index("when") + 2][0]


def _lines(begin: str) -> list[str]:
    text = (CHART.parents[2] / PAGE).read_text("utf-8")
    return [each for each in text.splitlines() if each.startswith((begin, "|-"))]


def test_the_commands_install_what_the_page_is_about() -> None:
    texts = [each.text for each in commands(PAGE)]
    assert any(each.startswith("helm install trunkline ") and each.endswith(" deploy/helm/trunkline") for each in texts)
    assert all("--namespace speech" in each for each in texts if each.startswith("helm "))
    name = only(render(saved("my-values.yaml")), "Service", "headless")["metadata"]["name"]
    assert any(f"--server-name {name}.speech.svc" in each for each in texts)
