"""What the kernel's memory holds of one vCPU, to look at: nothing is converted, and nobody's ownership changes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..facts import FPSR_OFFSET, VREGS_OFFSET, regid
from ..rules import VectorLengths
from .closed import Closed
from .ownership import FpState, Ownership
from .regfile import RegFile


class Contents(Closed):
    """The buffers, the owner and the lengths of one vCPU. A view is good until the next call on the vCPU."""

    __slots__ = ("_ownership", "_regs")

    def __init__(self, regs: RegFile, ownership: Ownership) -> None:
        self._regs = regs
        self._ownership = ownership

    @property
    def sve_state(self) -> memoryview:
        """The kernel's sve_state, 546 * max_vq bytes; empty before FINALIZE."""
        return memoryview(self._regs.sve_state.view).toreadonly()

    @property
    def sme_state(self) -> memoryview:
        """The kernel's sme_state: ZA, and with SME2 what it allocates for ZT0; empty before FINALIZE."""
        return memoryview(self._regs.sme_state.view).toreadonly()

    @property
    def vregs(self) -> memoryview:
        """The kernel's fp_regs.vregs, 512 bytes."""
        return memoryview(self._regs.kvm_regs.view)[VREGS_OFFSET:FPSR_OFFSET].toreadonly()

    @property
    def fp_state(self) -> FpState:
        return self._ownership.state

    @property
    def lengths(self) -> VectorLengths:
        """The vCPU's maximum lengths, SVE and streaming."""
        return self._ownership.lengths

    @property
    def max_vq(self) -> int:
        """The length of sve_state in user format, the larger of the two; 0 without vectors."""
        return self.lengths.max_vq

    @property
    def svcr(self) -> int:
        """SVCR as memory holds it."""
        return self._regs.sysregs[regid.SVCR]

    @property
    def fpsr(self) -> int:
        return self._regs.fpsr

    @property
    def fpcr(self) -> int:
        return self._regs.fpcr

    @property
    def sysregs(self) -> Mapping[int, int]:
        """The system registers that memory holds, by ID."""
        return MappingProxyType(self._regs.sysregs)
