"""The machine: one vCPU that lives. `regfile` knows what a move of bytes does, `ownership` knows when.

What is asked of it from outside is in ops, what is written of it in recording."""

from .guest import Guest
from .host import KVM_CAP_ARM_SVE, KVM_CAP_ONE_REG, Host, Vm
from .mutex import Mutex, serialised
from .ownership import FpState
from .vcpu import Run, Vcpu

__all__ = [
    "KVM_CAP_ARM_SVE",
    "KVM_CAP_ONE_REG",
    "FpState",
    "Guest",
    "Host",
    "Mutex",
    "Run",
    "Vcpu",
    "Vm",
    "serialised",
]
