"""Renders the chart as `helm template` does, with Helm's own code. Asks no cluster."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

# Typed, where it is installed: only the tests in deploy/ need it.
from helm_python import Chart, HelmError, package  # type: ignore[import-not-found, unused-ignore]
from helm_python import lint as helm_lint  # type: ignore[import-not-found, unused-ignore]

__all__ = [
    "CHART", "NAMESPACE", "RELEASE", "Chart", "HelmError", "ci_values", "lint", "notes", "of_kind", "only", "package",
    "read", "render", "render_files",
]  # fmt: skip

CHART: Final = Path(__file__).parents[2] / "deploy" / "helm" / "trunkline"
NAMESPACE: Final = "speech"
RELEASE: Final = "trunkline"

Object = dict[str, Any]
Values = Path | Mapping[str, Any]


def ci_values() -> list[Path]:
    """Return the files of values that must always render."""
    return sorted((CHART / "ci").glob("*-values.yaml"))


def read(values: Values) -> dict[str, Any]:
    """Return values, from a file or as they are."""
    if isinstance(values, Path):
        return dict(yaml.safe_load(values.read_text("utf-8")) or {})
    return dict(values)


def render_files(
    values: Values, *, name: str = RELEASE, namespace: str = NAMESPACE, chart: Path = CHART
) -> dict[str, str]:
    """Return what each template gives, by its path below the chart. Raises `HelmError`."""
    rendered = _loaded(chart).render(read(values), name=name, namespace=namespace)
    return {path.partition("/")[2]: text for path, text in rendered.items()}


def render(values: Values, *, name: str = RELEASE, namespace: str = NAMESPACE, chart: Path = CHART) -> list[Object]:
    """Return the objects that an install would make, hooks among them. Raises `HelmError`."""
    files = render_files(values, name=name, namespace=namespace, chart=chart)
    return [
        each
        for path, text in files.items()
        if path.endswith(".yaml")
        for each in yaml.load_all(text, yaml.CSafeLoader)
        if each
    ]


def notes(values: Values, *, name: str = RELEASE, namespace: str = NAMESPACE) -> str:
    """Return what `helm install` prints at its end."""
    return render_files(values, name=name, namespace=namespace)["templates/NOTES.txt"]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of one kind."""
    return [each for each in objects if each["kind"] == kind]


def only(objects: list[Object], kind: str, component: str | None = None) -> Object:
    """Return the one object of a kind, and of a component where it is named."""
    found = [
        each
        for each in of_kind(objects, kind)
        if component is None or each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    ]
    assert len(found) == 1, f"{len(found)} objects of the kind {kind}"
    return found[0]


def lint(values: Values, *, kube_version: str = "v1.30.0") -> list[str]:
    """Return what `helm lint --strict` finds."""
    report = helm_lint(CHART, read(values), strict=True, namespace=NAMESPACE, kube_version=kube_version)
    told = [f"{each['path']}: {each['error']}" for each in report["messages"] if each["severity"] > 1]
    return told + list(report["errors"])


@cache
def _loaded(chart: Path) -> Chart:
    return Chart.load(chart)
