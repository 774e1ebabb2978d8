"""A Realtime API to develop and test against: real speech in and out, no account, no network, no cost.

Speaks the protocol over a plain WebSocket as recorded from the service, and imports nothing of the gateway but the
audio formats, so a mistake in the gateway cannot hide behind the same mistake here.
"""

from gateway.simulator.command import run
from gateway.simulator.faults import FAULTS, Fault, FaultError, Scope, fault_from_object, fault_from_text, keys_of
from gateway.simulator.options import CONVERSATION_MODELS, SimulatorOptions
from gateway.simulator.server import Simulator

__all__ = [
    "CONVERSATION_MODELS",
    "FAULTS",
    "Fault",
    "FaultError",
    "Scope",
    "Simulator",
    "SimulatorOptions",
    "fault_from_object",
    "fault_from_text",
    "keys_of",
    "run",
]
