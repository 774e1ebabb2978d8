"""Run every scenario, print the figures, write them and one picture each: `python -m tests.bench.simulate_pool`."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tests.bench.pool_figures import Figures, figures
from tests.bench.pool_scenarios import BY_NAME, SCENARIOS, shortened
from tests.bench.pool_simulation import simulate
from tests.bench.pool_table import table, trouble_lines
from tests.bench.pool_world import Scenario

OUTPUT: Final = Path("output/pool")
# How much of a steady scenario is left with --quick.
QUICK_PART: Final = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    chosen = _parser().parse_args(arguments)
    output: Path = chosen.output
    output.mkdir(parents=True, exist_ok=True)
    scenarios = [BY_NAME[name] for name in chosen.only] if chosen.only else list(SCENARIOS)
    if chosen.quick:
        scenarios = [shortened(each, QUICK_PART) for each in scenarios]
    rows = list(_runs(scenarios, chosen.seed, output))
    written = json.dumps([asdict(each) for each in rows], indent=1, sort_keys=True)
    (output / "results.json").write_text(f"{written}\n", encoding="utf-8")
    sys.stdout.write(f"\n{table(rows)}\n\n{trouble_lines(rows)}\n\nFigures and pictures: {output}\n")
    return 0


def _runs(scenarios: Sequence[Scenario], seed: int, output: Path) -> Iterator[Figures]:
    # Imported here: the tests that draw nothing need no plotting library, and it takes a second to load.
    from tests.bench.pool_plot import plot  # noqa: PLC0415

    for scenario in scenarios:
        sys.stderr.write(f"{scenario.name} …\n")
        record = simulate(scenario, seed)
        plot(scenario, record, output / f"{_file_name(scenario.name)}.png")
        yield figures(scenario, record, seed)


def _file_name(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.simulate_pool", description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the figures go (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the time of the steady scenarios")
    parser.add_argument("--seed", type=int, default=1, help="another course of chance (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(BY_NAME), help="these scenarios alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
