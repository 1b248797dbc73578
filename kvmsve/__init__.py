"""kvmsve: the register interface that KVM/arm64 gives userspace for SVE and SME, as an executable model."""

from .abi import (
    MAINLINE_6_1,
    MAINLINE_6_12,
    MAINLINE_7_3,
    RFC_V2,
    RFC_V2_POSTED,
    RFC_V2_R1,
    RFC_V2_R123,
    Abi,
    abi,
)
from .errors import GuestUndefined, HostOops, KvmError
from .guest import Guest
from .ownership import FpState
from .recorder import record
from .regfile import rewrite
from .vcpu import Feature, Host, Vcpu, Vm

__all__ = [
    "MAINLINE_6_1",
    "MAINLINE_6_12",
    "MAINLINE_7_3",
    "RFC_V2",
    "RFC_V2_POSTED",
    "RFC_V2_R1",
    "RFC_V2_R123",
    "Abi",
    "Feature",
    "FpState",
    "Guest",
    "GuestUndefined",
    "Host",
    "HostOops",
    "KvmError",
    "Vcpu",
    "Vm",
    "abi",
    "record",
    "rewrite",
]
