"""kvmsve: the register interface that KVM/arm64 gives userspace for SVE and SME, as an executable model."""

from .abi import (
    MAINLINE_6_1,
    MAINLINE_6_12,
    MAINLINE_7_3,
    NEXT,
    REVISIONS,
    RFC_V2,
    RFC_V2_POSTED,
    RFC_V2_R1,
    RFC_V2_R123,
    V3,
    V4,
    V5,
    V6,
    V7,
    V8,
    V9,
    V10,
    V11,
    V12,
    Abi,
    abi,
)
from .errors import GuestUndefined, HostOops, KvmError
from .features import Feature
from .guest import Guest
from .migration import SavedVcpu, restore, save
from .ownership import FpState
from .recorder import record
from .regfile import rewrite
from .vcpu import Host, Vcpu, Vm

__all__ = [
    "MAINLINE_6_1",
    "MAINLINE_6_12",
    "MAINLINE_7_3",
    "NEXT",
    "REVISIONS",
    "RFC_V2",
    "RFC_V2_POSTED",
    "RFC_V2_R1",
    "RFC_V2_R123",
    "V3",
    "V4",
    "V5",
    "V6",
    "V7",
    "V8",
    "V9",
    "V10",
    "V11",
    "V12",
    "Abi",
    "Feature",
    "FpState",
    "Guest",
    "GuestUndefined",
    "Host",
    "HostOops",
    "KvmError",
    "SavedVcpu",
    "Vcpu",
    "Vm",
    "abi",
    "record",
    "restore",
    "rewrite",
    "save",
]
