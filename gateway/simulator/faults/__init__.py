"""What goes wrong on request: faults as values, drawn for each socket, at work between its session and the wire."""

from gateway.simulator.faults.active import ActiveFaults, Drawn, Scope
from gateway.simulator.faults.fault import Fault, HandshakeRefusal
from gateway.simulator.faults.keys import FaultError
from gateway.simulator.faults.strikes import Strikes
from gateway.simulator.faults.table import FAULTS, fault_from_object, fault_from_text, keys_of

__all__ = [
    "FAULTS",
    "ActiveFaults",
    "Drawn",
    "Fault",
    "FaultError",
    "HandshakeRefusal",
    "Scope",
    "Strikes",
    "fault_from_object",
    "fault_from_text",
    "keys_of",
]
