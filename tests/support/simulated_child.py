"""A simulator as a process, with all the options that the command line does not have.

python -m tests.support.simulated_child '{"port": 21000, "speed": "inf", "faults": ["handshake-hang"]}'
"""

import json
import sys
from typing import Any

from gateway.simulator import SimulatorOptions, fault_from_text
from gateway.simulator.command import run

if __name__ == "__main__":
    options: dict[str, Any] = json.loads(sys.argv[1])
    options["speed"] = float(options.get("speed", "inf"))
    options["faults"] = tuple(fault_from_text(each) for each in options.get("faults", ()))
    run(SimulatorOptions(**options))
