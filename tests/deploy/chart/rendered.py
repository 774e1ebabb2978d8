"""The manifests of each file of values in the chart's ci folder, rendered once, and their common parts."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any, Final

import yaml

from tests.support.helm import CHART, Object, ci_values, of_kind, only, read, render

CASES: Final = tuple(path.name.removesuffix("-values.yaml") for path in ci_values())
POD_KINDS: Final = ("Deployment", "Pod")


def values(case: str) -> dict[str, Any]:
    return read(CHART / "ci" / f"{case}-values.yaml")


@cache
def _once(case: str) -> list[Object]:
    return render(CHART / "ci" / f"{case}-values.yaml")


def manifests(case: str) -> list[Object]:
    """Return the objects of one case; a copy, so that a test may break it."""
    return deepcopy(_once(case))


def changed(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with a change, as Helm lays one file of values over another."""
    out = dict(base)
    for key, each in change.items():
        below = out.get(key)
        out[key] = changed(below, each) if isinstance(each, Mapping) and isinstance(below, Mapping) else each
    return out


def gateway(objects: list[Object]) -> Object:
    return only(objects, "Deployment", "gateway")


def pod_templates(objects: list[Object]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield each pod that would run: its name, metadata and spec."""
    for each in objects:
        if each["kind"] in POD_KINDS:
            pod = each if each["kind"] == "Pod" else each["spec"]["template"]
            yield f"{each['kind']}/{each['metadata']['name']}", pod["metadata"], pod["spec"]


def containers(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*spec["containers"], *spec.get("initContainers", [])]


def configuration(objects: list[Object]) -> dict[str, Any]:
    """Return what the gateway reads."""
    found = [each for each in of_kind(objects, "ConfigMap") if "trunkline.yaml" in each["data"]]
    assert len(found) == 1
    return dict(yaml.safe_load(found[0]["data"]["trunkline.yaml"]))


def environment(objects: list[Object], pod_ip: str = "10.1.2.3") -> dict[str, str]:
    """Return the gateway's variables as kubelet would set them."""
    known: dict[str, str] = {}
    for each in gateway(objects)["spec"]["template"]["spec"]["containers"][0]["env"]:
        if "valueFrom" in each:
            assert each["valueFrom"] == {"fieldRef": {"fieldPath": "status.podIP"}}
            known[each["name"]] = pod_ip
        else:
            text = str(each["value"])
            for name, value in known.items():
                text = text.replace(f"$({name})", value)
            known[each["name"]] = text
    return known
