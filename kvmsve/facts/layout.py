"""Facts: vector lengths, and where registers lie in the kernel's buffers.

`vq` is a length in 128-bit quadwords, `vl` the same in bytes. Source: arch/arm64/include/uapi/asm/sigcontext.h
(SVE_SIG_* without the header) and asm/kvm.h; rfc-v2.md sections 1.5 to 1.7.
"""

from __future__ import annotations

VQ_BYTES = 16
VQ_MAX = 16  # KVM clamps every vector length to 256 bytes
VQ_ABI_MAX = 512  # the VLS bitmaps have room for this many

NUM_ZREGS = 32
NUM_PREGS = 16
FFR = NUM_PREGS  # FFR is stored as one more predicate, P16

VREG_BYTES = 16
VREGS_BYTES = NUM_ZREGS * VREG_BYTES
ZT0_BYTES = 64
FPSR_AFTER_MODE_SWITCH = 0x0800009F

# struct kvm_regs, which core register IDs index in 32-bit slots
KVM_REGS_BYTES = 864
PSTATE_OFFSET = 0x42 * 4
VREGS_OFFSET = 0x54 * 4
FPSR_OFFSET = 0xD4 * 4
FPCR_OFFSET = 0xD5 * 4

SVCR_SM = 1
SVCR_ZA = 2
ZCR_LEN = 0xF
SMCR_LEN = 0xF
SMCR_EZT0 = 1 << 30
SMCR_FA64 = 1 << 31


def zreg_bytes(vq: int) -> int:
    return VQ_BYTES * vq


def preg_bytes(vq: int) -> int:
    return 2 * vq


def zreg_offset(vq: int, n: int) -> int:
    return zreg_bytes(vq) * n


def preg_offset(vq: int, n: int) -> int:
    """Where P[n] starts; n = 16 is FFR."""
    return NUM_ZREGS * zreg_bytes(vq) + preg_bytes(vq) * n


def sve_state_bytes(vq: int) -> int:
    return preg_offset(vq, NUM_PREGS + 1)


def za_row_offset(sme_vq: int, row: int) -> int:
    return VQ_BYTES * sme_vq * row


def za_bytes(sme_vq: int) -> int:
    """The size of ZA, which is where ZT0 starts in sme_state."""
    return (VQ_BYTES * sme_vq) ** 2
