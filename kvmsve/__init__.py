"""kvmsve: the register interface that KVM/arm64 gives userspace for SVE and SME, as an executable model.

A folder is imported when the first of its names is used: a command starts in the time that its own folders take.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .batch import rewrite
    from .errors import GuestUndefined, HostOops, KvmError
    from .facts import (
        MAINLINE_6_1,
        MAINLINE_6_12,
        MAINLINE_7_2,
        MAINLINE_7_3,
        MAINLINE_7_4,
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
        Feature,
        abi,
        layout,
        regid,
    )  # fmt: skip
    from .machine import FpState, Guest, Host, Vcpu, Vm
    from .recording import record
    from .state import SavedVcpu, restore, save

__all__ = [
    "MAINLINE_6_1",
    "MAINLINE_6_12",
    "MAINLINE_7_2",
    "MAINLINE_7_3",
    "MAINLINE_7_4",
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
    "layout",
    "record",
    "regid",
    "restore",
    "rewrite",
    "save",
]

_PLACES = {
    "batch": ("rewrite",),
    "errors": ("GuestUndefined", "HostOops", "KvmError"),
    "machine": ("FpState", "Guest", "Host", "Vcpu", "Vm"),
    "recording": ("record",),
    "state": ("SavedVcpu", "restore", "save"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A name of __all__, which is there from now on."""
    if name not in __all__:
        raise AttributeError(f"module 'kvmsve' has no attribute {name!r}")
    value = getattr(import_module(f".{_PLACE_OF.get(name, 'facts')}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
