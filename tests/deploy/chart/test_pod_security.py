from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.chart.pod_security import findings
from tests.deploy.chart.rendered import CASES, changed, containers, manifests, pod_templates, values
from tests.support.helm import render

pytestmark = pytest.mark.deploy

Pod = tuple[dict[str, Any], dict[str, Any]]


def _gateway_pod() -> Pod:
    _, metadata, spec = next(each for each in pod_templates(manifests("full")) if each[0] == "Deployment/trunkline")
    return metadata, spec


@pytest.mark.parametrize("case", CASES)
def test_every_pod_may_run_where_restricted_is_enforced(case: str) -> None:
    pods = list(pod_templates(manifests(case)))
    assert len(pods) >= 2
    assert {name: findings(metadata, spec) for name, metadata, spec in pods if findings(metadata, spec)} == {}


@pytest.mark.parametrize("case", CASES)
def test_every_pod_is_stricter_than_restricted(case: str) -> None:
    for name, _, spec in pod_templates(manifests(case)):
        context = spec["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (65532, 65532, 65532), name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        for each in containers(spec):
            assert each["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert set(each["resources"]["requests"]) == {"cpu", "memory"}, name
            # An evicted gateway loses its calls: it never uses more than what was kept for it.
            assert each["resources"]["limits"] == {"memory": each["resources"]["requests"]["memory"]}, name


def test_the_cluster_may_choose_the_user() -> None:
    for name, metadata, spec in pod_templates(render(changed(values("evaluation"), {"runAsId": None}))):
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(spec["securityContext"]), name
        assert findings(metadata, spec) == []


@pytest.mark.parametrize("case", CASES)
def test_nothing_can_be_written_but_bounded_memory(case: str) -> None:
    for name, _, spec in pod_templates(manifests(case)):
        volumes = {each["name"]: each for each in spec.get("volumes", [])}
        for each in containers(spec):
            for mount in each.get("volumeMounts", []):
                volume = volumes[mount["name"]]
                if not mount.get("readOnly"):
                    assert volume["emptyDir"]["medium"] == "Memory", name
                    assert volume["emptyDir"]["sizeLimit"], name


SEEDED: dict[str, Callable[[dict[str, Any], dict[str, Any]], object]] = {
    "hostNetwork": lambda pod, box: pod.update(hostNetwork=True),
    "hostPID": lambda pod, box: pod.update(hostPID=True),
    "volume host": lambda pod, box: pod["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    "sysctl": lambda pod, box: pod["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
    "runAsUser is 0": lambda pod, box: pod["securityContext"].update(runAsUser=0),
    "gateway: runAsUser is 0": lambda pod, box: box["securityContext"].update(runAsUser=0),
    "privileged": lambda pod, box: box["securityContext"].update(privileged=True),
    "allowPrivilegeEscalation": lambda pod, box: box["securityContext"].pop("allowPrivilegeEscalation"),
    "runAsNonRoot": lambda pod, box: box["securityContext"].update(runAsNonRoot=False),
    "capabilities are not dropped": lambda pod, box: box["securityContext"].pop("capabilities"),
    "capabilities are added": lambda pod, box: box["securityContext"]["capabilities"].update(add=["SYS_PTRACE"]),
    "seccompProfile is None": lambda pod, box: pod["securityContext"].pop("seccompProfile"),
    "seccompProfile is Unconfined": lambda pod, box: box["securityContext"].update(
        seccompProfile={"type": "Unconfined"}
    ),
    "appArmorProfile": lambda pod, box: box["securityContext"].update(appArmorProfile={"type": "Unconfined"}),
    "seLinuxOptions": lambda pod, box: box["securityContext"].update(seLinuxOptions={"type": "spc_t"}),
    "procMount": lambda pod, box: box["securityContext"].update(procMount="Unmasked"),
    "hostPort": lambda pod, box: box["ports"][0].update(hostPort=50051),
    "livenessProbe.host": lambda pod, box: box["livenessProbe"]["httpGet"].update(host="10.0.0.1"),
}


@pytest.mark.parametrize("fault", SEEDED)
def test_what_restricted_refuses_is_found(fault: str) -> None:
    metadata, spec = _gateway_pod()
    assert findings(metadata, spec) == []
    SEEDED[fault](spec, spec["containers"][0])
    assert any(fault in each for each in findings(metadata, spec)), findings(metadata, spec)
