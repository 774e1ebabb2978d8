"""The Pod Security Standard "restricted", as a cluster that enforces it would judge a pod.

Written from the standard's own list, baseline included. Windows and host-specific exemptions are left out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.deploy.chart.rendered import containers

ADDED_ALLOWED: Final = {"NET_BIND_SERVICE"}
SECCOMP_ALLOWED: Final = {"RuntimeDefault", "Localhost"}
VOLUMES_ALLOWED: Final = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
SYSCTLS_ALLOWED: Final = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_syncookies",
}  # fmt: skip
SELINUX_ALLOWED: Final = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}


def findings(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """Return why the pod would be refused; empty = it would not."""
    found = [*_of_pod(metadata, spec)]
    for each in containers(spec):
        found += [f"{each['name']}: {why}" for why in _of_container(each, spec.get("securityContext") or {})]
    return found


def _of_pod(metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield key
    if spec.get("hostUsers") is True and spec.get("hostNetwork"):
        yield "hostUsers"
    for volume in spec.get("volumes", []):
        if not (set(volume) - {"name"}) <= VOLUMES_ALLOWED:
            yield f"volume {volume['name']}"
    context = spec.get("securityContext") or {}
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS_ALLOWED:
            yield f"sysctl {sysctl['name']}"
    yield from _of_context(context)
    for name, value in (metadata.get("annotations") or {}).items():
        if name.startswith("container.apparmor.security.beta.kubernetes.io/") and value == "unconfined":
            yield "AppArmor annotation"


def _of_context(context: Mapping[str, Any]) -> Iterator[str]:
    """What may stand in a pod's context, or in a container's."""
    if (context.get("seLinuxOptions") or {}).get("type", "") not in SELINUX_ALLOWED:
        yield "seLinuxOptions.type"
    if {"user", "role"} & set(context.get("seLinuxOptions") or {}):
        yield "seLinuxOptions.user or role"
    if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") == "Unconfined":
        yield "appArmorProfile"
    if context.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if (context.get("windowsOptions") or {}).get("hostProcess"):
        yield "hostProcess"


def _of_container(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    context = container.get("securityContext") or {}
    yield from _of_context(context)
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not dropped"
    if not set(capabilities.get("add", [])) <= ADDED_ALLOWED:
        yield "capabilities are added"
    seccomp = (context.get("seccompProfile") or pod.get("seccompProfile") or {}).get("type")
    if seccomp not in SECCOMP_ALLOWED:
        yield f"seccompProfile is {seccomp}"
    if context.get("procMount", "Default") != "Default":
        yield "procMount"
    yield from _of_places(container)


def _of_places(container: Mapping[str, Any]) -> Iterator[str]:
    """Where a container listens on its node, or sends the kubelet."""
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"
    asked = {name: container.get(name) or {} for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    for name, each in {**asked, **(container.get("lifecycle") or {})}.items():
        if (each.get("httpGet") or each.get("tcpSocket") or {}).get("host"):
            yield f"{name}.host"
