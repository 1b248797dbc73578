"""What is asked: operations and guest steps, how they are done on a vCPU, and how outcomes are compared.

How they are written to a file is in recording."""

from .listing import summarize
from .outcome import Difference, Observation, Op, compare_number, describe
from .play import CRASH, UNTOUCHED, Machine, Misuse, attempt
from .steps import CONTROL_REGS, READ_ONLY_REGS, observe_step

__all__ = [
    "CONTROL_REGS",
    "CRASH",
    "READ_ONLY_REGS",
    "UNTOUCHED",
    "Difference",
    "Machine",
    "Misuse",
    "Observation",
    "Op",
    "attempt",
    "compare_number",
    "describe",
    "observe_step",
    "summarize",
]
