"""What is asked: operations and guest steps, how they are done on a vCPU, and how outcomes are compared.

How they are written to a file is in recording.
"""

from . import operations
from .act import CONTROL_REGS, READ_ONLY_REGS, observe_step
from .fields import Bit, Bits, Count, ErrorName, Flag, Hex, HexNumber, IdRegs, Lengths, Mode, RegId
from .guest_steps import STEPS, Mrs, Msr, Narrow, RdSvl, RdVl, Read, SmStart, SmStop, Step, Steps, Undef, Write
from .listing import summarize
from .operations import OPERATIONS, Call, Operation
from .outcome import Difference, Observation, compare_number
from .play import CRASH, UNTOUCHED, Machine, Misuse, attempt

__all__ = [
    "CONTROL_REGS",
    "CRASH",
    "OPERATIONS",
    "READ_ONLY_REGS",
    "STEPS",
    "UNTOUCHED",
    "Bit",
    "Bits",
    "Call",
    "Count",
    "Difference",
    "ErrorName",
    "Flag",
    "Hex",
    "HexNumber",
    "IdRegs",
    "Lengths",
    "Machine",
    "Misuse",
    "Mode",
    "Mrs",
    "Msr",
    "Narrow",
    "Observation",
    "Operation",
    "RdSvl",
    "RdVl",
    "Read",
    "RegId",
    "SmStart",
    "SmStop",
    "Step",
    "Steps",
    "Undef",
    "Write",
    "attempt",
    "compare_number",
    "observe_step",
    "operations",
    "summarize",
]
