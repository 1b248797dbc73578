"""Rules: pure functions over facts. An ID is a region or an errno; which format, which length, which registers.

Nothing here holds or moves a byte."""

from . import idregs, onereg, reglist, sysreg
from .idregs import checked_values, host_id_regs
from .onereg import Reach, Region, RegionTable, Store, fault
from .sysreg import ALL_BITS, Gate, open_gates
from .views import FPSIMD, VectorLengths, View, guest_vq, user_format_needed, view

__all__ = [
    "ALL_BITS",
    "FPSIMD",
    "Gate",
    "Reach",
    "Region",
    "RegionTable",
    "Store",
    "VectorLengths",
    "View",
    "checked_values",
    "fault",
    "guest_vq",
    "host_id_regs",
    "idregs",
    "onereg",
    "open_gates",
    "reglist",
    "sysreg",
    "user_format_needed",
    "view",
]
