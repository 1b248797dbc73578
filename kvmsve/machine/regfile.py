"""The bytes of one vCPU, and the moves between formats: what a move does, never when.

The only importer of the C module. Every buffer is allocated once; a conversion writes the spare one and swaps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._ffi import ffi, lib
from ..errors import HostOops
from ..facts import layout

if TYPE_CHECKING:
    pass


class Buffer:
    """Zeroed memory that C and Python share: `pointer` for the one, `view` for the other."""

    __slots__ = ("pointer", "size", "view")

    def __init__(self, size: int) -> None:
        self.size = size
        self.pointer: Any = ffi.new("uint8_t[]", size)
        self.view: Any = ffi.buffer(self.pointer)

    def clear(self) -> None:
        self.view[:] = bytes(self.size)


class RegFile:
    """What the kernel holds of one vCPU's registers, byte for byte.

    `kvm_regs` is struct kvm_regs with V, FPSR and FPCR in it; `sysregs` holds values by register ID. `sve_state` and
    `sme_state` are empty until `allocate`. On a big-endian host (`swap`) V lies byte-reversed beside Z.
    """

    __slots__ = (
        "_spare", "_vregs_pointer", "failing_allocations", "kvm_regs", "max_vq", "sme_state", "sve_state", "swap",
        "sysregs",
    )  # fmt: skip

    def __init__(self, swap: bool = False) -> None:
        self.swap = swap
        self.sysregs: dict[int, int] = {}
        self.kvm_regs = Buffer(layout.KVM_REGS_BYTES)
        self._vregs_pointer = self.kvm_regs.pointer + layout.VREGS_OFFSET
        self.max_vq = 0
        self.failing_allocations = 0
        self.sve_state = Buffer(0)
        self._spare = Buffer(0)
        self.sme_state = Buffer(0)

    def allocate(self, max_vq: int, sme_state_bytes: int) -> None:
        """sve_state and sme_state are there, all zero."""
        self.max_vq = max_vq
        self.sve_state = Buffer(layout.sve_state_bytes(max_vq))
        self._spare = Buffer(layout.sve_state_bytes(max_vq))
        self.sme_state = Buffer(sme_state_bytes)

    def allocation_fails(self) -> bool:
        """The kernel's next allocation is one that was made to fail; it is used up."""
        if not self.failing_allocations:
            return False
        self.failing_allocations -= 1
        return True

    def rewrite(self, dst_vq: int, src_vq: int) -> None:
        """sve_state is laid out for dst_vq instead of src_vq, and zero from 546 * dst_vq on.

        If the kernel's allocation fails, nothing happens, and nobody is told (rfc-v2.md Q13).
        Source: arch/arm64/kvm/fpsimd.c, vcpu_rewrite_sve().
        """
        if self.allocation_fails():
            return
        old, new = self.sve_state, self._spare
        lib.kvmsve_rewrite(new.pointer, dst_vq, old.pointer, src_vq)
        used = layout.sve_state_bytes(dst_vq)
        new.view[used:] = bytes(new.size - used)
        self.sve_state, self._spare = new, old

    def fpsimd_to_sve(self) -> None:
        """sve_state holds V in the low bytes of Z at max_vq, and zeroes elsewhere."""
        lib.kvmsve_fpsimd_to_sve(self.sve_state.pointer, self.max_vq, self._vregs_pointer, self.swap)

    def sve_to_fpsimd(self) -> None:
        """V holds the low bytes of Z at max_vq; sve_state keeps what it had.

        Without an sve_state the kernel follows a NULL pointer: HostOops.
        """
        if not self.sve_state.size:
            raise HostOops("KVM_RUN converts from an sve_state that was never allocated (rfc-v2.md Q6)")
        lib.kvmsve_sve_to_fpsimd(self._vregs_pointer, self.sve_state.pointer, self.max_vq, self.swap)

    def reset_kvm_regs(self, pstate: int) -> None:
        """struct kvm_regs is zero but for PSTATE."""
        self.kvm_regs.clear()
        self.kvm_regs.view[layout.PSTATE_OFFSET : layout.PSTATE_OFFSET + 8] = pstate.to_bytes(8, "little")

    def clear_vregs(self) -> None:
        """V holds zeroes."""
        self.kvm_regs.view[layout.VREGS_OFFSET : layout.FPSR_OFFSET] = bytes(layout.VREGS_BYTES)

    def load_vregs(self) -> bytearray:
        """The 512 bytes of V as a CPU would load them: little-endian registers."""
        return self._swapped(self.kvm_regs.view[layout.VREGS_OFFSET : layout.FPSR_OFFSET])

    def store_vregs(self, vregs: bytes | bytearray) -> None:
        """V in memory holds what a CPU would store for these little-endian registers."""
        self.kvm_regs.view[layout.VREGS_OFFSET : layout.FPSR_OFFSET] = bytes(self._swapped(vregs))

    def _swapped(self, vregs: bytes | bytearray) -> bytearray:
        if not self.swap:
            return bytearray(vregs)
        reversed_all = bytes(vregs)[::-1]
        starts = range(layout.VREGS_BYTES - layout.VREG_BYTES, -1, -layout.VREG_BYTES)
        return bytearray(b"".join(reversed_all[start : start + layout.VREG_BYTES] for start in starts))

    @property
    def fpsr(self) -> int:
        return self._u32(layout.FPSR_OFFSET)

    @fpsr.setter
    def fpsr(self, value: int) -> None:
        self.kvm_regs.view[layout.FPSR_OFFSET : layout.FPSR_OFFSET + 4] = value.to_bytes(4, "little")

    @property
    def fpcr(self) -> int:
        return self._u32(layout.FPCR_OFFSET)

    @fpcr.setter
    def fpcr(self, value: int) -> None:
        self.kvm_regs.view[layout.FPCR_OFFSET : layout.FPCR_OFFSET + 4] = value.to_bytes(4, "little")

    def _u32(self, offset: int) -> int:
        return int.from_bytes(self.kvm_regs.view[offset : offset + 4], "little")
