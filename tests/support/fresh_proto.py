"""Generates the Python copy of the contract, or (without --write) says where the committed one is stale."""

import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

PROTO = Path(__file__).parents[2] / "proto"
PACKAGE = Path("trunkline/v1")


def generate(target: Path) -> None:
    """Run the generators of the dev lock into `target`."""
    sources = sorted(str(path.relative_to(PROTO)) for path in (PROTO / PACKAGE).glob("*.proto"))
    services = [name for name in sources if "\nservice " in (PROTO / name).read_text("utf-8")]
    includes = [f"-I{PROTO}", f"-I{files('grpc_tools') / '_proto'}"]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", *includes]
    for flags, names in (
        ([f"--python_out={target}", f"--mypy_out=quiet:{target}"], sources),
        ([f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"], services),
    ):
        subprocess.run([*protoc, *flags, *names], check=True, timeout=120)


def stale() -> list[str]:
    """Return the files that differ from what the generators make."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = {path.name: path.read_bytes() for path in (Path(folder) / PACKAGE).glob("*_pb2*")}
    there = {path.name: path.read_bytes() for path in (PROTO / PACKAGE).glob("*_pb2*")}
    return sorted(name for name in fresh.keys() | there.keys() if fresh.get(name) != there.get(name))


def main() -> int:
    """Write, or compare."""
    if "--write" in sys.argv:
        generate(PROTO)
        return 0
    if names := stale():
        print(f"the generated contract is stale, run `make proto`: {', '.join(names)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
