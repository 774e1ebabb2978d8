import json
import subprocess
from pathlib import Path
from typing import Any, Final

import kubernetes_validate  # type: ignore[import-untyped, import-not-found, unused-ignore] # no types are published
import pytest
import yaml
from yamllint import linter  # type: ignore[import-untyped, import-not-found, unused-ignore] # the same
from yamllint.config import YamlLintConfig  # type: ignore[import-untyped, import-not-found, unused-ignore] # the same

from tests.deploy.chart.rendered import CASES, manifests, values
from tests.deploy.chart.tools import checkov
from tests.support.helm import CHART, render_files

pytestmark = pytest.mark.deploy

VERSIONS: Final = ("1.30", "1.33", "1.37")
# Of Prometheus' operator: no schemas of Kubernetes' own. A test of their own looks at them.
CUSTOM: Final = ("PrometheusRule", "ServiceMonitor")
RULES: Final = """
extends: default
rules:
  document-start: disable
  line-length: {max: 120}
  braces: {max-spaces-inside: 0}
  comments: {min-spaces-from-content: 2}
"""
# Lines of the dashboard and the rules are as long as their expressions; Helm's toYaml does not indent lists.
RENDERED_RULES: Final = f"{RULES}  indentation: {{indent-sequences: whatever}}\n"
LONG: Final = ("templates/dashboard.yaml", "templates/prometheusrule.yaml", "templates/tests/ready.yaml")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_kubernetes_knows(version: str) -> None:
    seen = set()
    for case in CASES:
        for each in manifests(case):
            same = json.dumps(each, sort_keys=True)
            if each["kind"] not in CUSTOM and same not in seen:
                kubernetes_validate.validate(each, version, strict=True)
                seen.add(same)
    assert len(seen) > 20


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    broken = next(each for each in manifests("minimal") if each["kind"] == "Deployment")
    broken["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"] = {"secs": 5}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[0], strict=True)


def problems(text: str, rules: str, *, without: str = "") -> list[str]:
    config = YamlLintConfig(rules)
    return [f"{each.line}: {each.desc}" for each in linter.run(text, config) if each.rule != without]


@pytest.mark.parametrize("file", [*CHART.glob("*.yaml"), *CHART.glob("ci/*.yaml")], ids=lambda file: str(file.name))
def test_files_are_tidy(file: Path) -> None:
    assert problems(file.read_text("utf-8"), RULES) == []


@pytest.mark.parametrize("case", CASES)
def test_what_is_rendered_is_tidy(case: str) -> None:
    for path, text in render_files(values(case)).items():
        if path.endswith(".yaml") and text.strip():
            assert problems(text, RENDERED_RULES, without="line-length" if path in LONG else "") == [], path


def test_what_is_not_tidy_is_found() -> None:
    assert problems("a: 1\na: 2\n", RENDERED_RULES) == ['2: duplication of key "a" in mapping']


# checkov.


def waivers() -> list[dict[str, Any]]:
    return list(yaml.safe_load((CHART / "checkov-waivers.yaml").read_text("utf-8")))


@pytest.mark.timeout(240)
def test_checkov_finds_what_is_waived_and_nothing_else(tmp_path: Path) -> None:
    for case in CASES:
        (tmp_path / f"{case}.yaml").write_text(yaml.safe_dump_all(manifests(case)), "utf-8")
    # Its own eyes are tested, too: this one must be found.
    seeded = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "seeded", "namespace": "speech"}}
    container = {"name": "seeded", "image": "seeded", "securityContext": {"privileged": True}}
    (tmp_path / "seeded.yaml").write_text(yaml.safe_dump({**seeded, "spec": {"containers": [container]}}), "utf-8")
    found = _checkov(tmp_path)
    assert ("CKV_K8S_16", "Pod/seeded") in found
    waived = {(each["check"], name) for each in waivers() for name in each["objects"]}
    assert {each for each in found if each[1] != "Pod/seeded"} == waived


def _checkov(folder: Path) -> set[tuple[str, str]]:
    """Return each finding: the check, and the object's kind and name."""
    arguments = [
        checkov(),
        "--directory",
        str(folder),
        "--framework",
        "kubernetes",
        "--output",
        "json",
        "--skip-download",
    ]
    done = subprocess.run(arguments, capture_output=True, cwd=folder, timeout=200, check=False)
    assert done.returncode in (0, 1), done.stderr.decode()
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 500
    assert report["summary"]["parsing_errors"] == 0
    failed = [(each["check_id"], each["resource"].split(".")) for each in report["results"]["failed_checks"]]
    return {(check, f"{parts[0]}/{parts[-1]}") for check, parts in failed}


def test_every_waiver_says_why() -> None:
    assert all(len(each["reason"]) > 20 for each in waivers())
