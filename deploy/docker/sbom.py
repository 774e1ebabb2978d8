"""Writes the image's bill of materials (CycloneDX): its Python distributions and its Debian packages.

Runs in the build stage, on the environment that has cyclonedx-bom, after rootfs.py.
"""
# ruff: noqa: INP001 a script, no package

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

PLACE: Final = Path("usr/share/trunkline/sbom.cdx.json")
ENVIRONMENT: Final = "/opt/trunkline/bin/python"


def python_part() -> dict[str, Any]:
    """Return what cyclonedx-bom says of the service's environment."""
    command = str(Path(sys.executable).with_name("cyclonedx-py"))
    asked = [command, "environment", "--output-reproducible", ENVIRONMENT]
    said = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: S603 the image's own path
    part: dict[str, Any] = json.loads(said.stdout)
    return part


def debian_part(root: Path) -> list[dict[str, Any]]:
    """Return a component for each of Debian's packages that rootfs.py has recorded."""
    components: list[dict[str, Any]] = []
    for record in sorted((root / "var/lib/dpkg/status.d").iterdir()):
        lines = record.read_text("utf-8").splitlines()
        fields = dict(line.split(": ", 1) for line in lines if ": " in line and line[0] != " ")
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"
        components.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return components


def main(root: Path) -> None:
    """Write it, and refuse to write what the format's schema does not allow."""
    bill = python_part()
    service = next(each for each in bill["components"] if each["name"] == "trunkline")
    bill["metadata"]["component"] = {"type": "container", "name": "trunkline", "version": service["version"]}
    bill["components"].extend(debian_part(root))
    text = json.dumps(bill, indent=1, sort_keys=True) + "\n"
    fault = JsonStrictValidator(SchemaVersion.from_version(bill["specVersion"])).validate_str(text)
    if fault is not None:
        raise RuntimeError(f"the bill of materials breaks its schema: {fault}")
    file = root / PLACE
    file.parent.mkdir(parents=True)
    file.write_text(text, "utf-8")
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", "1"))
    for path in (file, file.parent, file.parent.parent):
        os.utime(path, (seconds, seconds))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
