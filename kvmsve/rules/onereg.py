"""Rules: a register ID is a region of bytes, or an errno.

Pure functions over the ID and what the vCPU is made of; nothing here holds or moves a byte. The order of the checks is
ABI. Source: arch/arm64/kvm/guest.c; rfc-v2.md section 3.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import NamedTuple, NoReturn

from ..errors import KvmError
from ..facts import Abi, ZaGate, layout, regid
from .views import VectorLengths, View


class Store(Enum):
    """Which of the kernel's buffers a region lies in."""

    SVE_STATE = "sve_state"
    SME_STATE = "sme_state"
    KVM_REGS = "kvm_regs"


class Region(NamedTuple):
    """Where a register's bytes are: `klen` bytes at `koffset`; a read goes on with `upad` zeroes."""

    store: Store
    koffset: int
    klen: int
    upad: int


class Reach(NamedTuple):
    """What decides which registers a vCPU has, and where they are."""

    abi: Abi
    lengths: VectorLengths
    view: View
    has_sme2: bool
    za_is_on: bool
    finalized: bool


def region_of(reg_id: int, reach: Reach) -> Region | None:
    """The region of a register that the kernel copies, None for one that it computes (VLS, system registers).

    Errors in order: EINVAL for an ID that is not arm64's, then those of the register's kind. Source: kvm_arm_get_reg().
    """
    check_arm64(reg_id)
    coproc = reg_id & regid.COPROC_MASK
    if coproc == regid.SVE and reg_id != regid.SVE_VLS:
        return sve_reg_to_region(reg_id, reach.view, reach.finalized)
    if coproc == regid.SME and reach.abi.has_sme and reg_id != reach.abi.sme_vls:
        return sme_reg_to_region(reg_id, reach)
    return core_reg_to_region(reg_id, reach.view.has_v) if coproc == regid.CORE else None


def check_arm64(reg_id: int) -> None:
    """The ID is one of arm64: EINVAL for another architecture or a bit set in 51:32 (kvm_arm_get_reg())."""
    if (reg_id & ~regid.SIZE_MASK) >> 32 != regid.ARM64 >> 32:
        raise KvmError(errno.EINVAL, "0x{:016x} is no arm64 register ID: bits 63:56 not 0x60 or 51:32 not 0", reg_id)


def sve_reg_to_region(reg_id: int, view: View, finalized: bool) -> Region:
    """Z, P or FFR at the length of the view.

    Errors in order: EINVAL outside the Z and P windows (so for any other size), ENOENT for what the view lacks or with
    a slice, EINVAL where the state's size cannot be told, EPERM before FINALIZE. Source: sve_reg_to_region(),
    get_sve_reg(); rfc-v2.md 3.1, abi-revisions.md 6.5.
    """
    is_zreg = regid.ZREG_BASE <= reg_id <= regid.ZREG_MAX
    if not is_zreg and not regid.PREG_BASE <= reg_id <= regid.PREG_MAX:
        raise KvmError(errno.EINVAL, "{}: no Z, P or FFR has this number and size", regid.Name(reg_id))
    if not view.has_zp:
        raise KvmError(
            errno.ENOENT,
            "{}: the vCPU has no Z, P and FFR (without SVE, or outside streaming mode)",
            regid.Name(reg_id),
        )
    if regid.slice_of(reg_id):
        raise KvmError(errno.ENOENT, "{}: only slice 0 exists", regid.Name(reg_id))
    if reg_id >= regid.FFR_ID and not is_zreg and not view.has_ffr:
        raise KvmError(errno.ENOENT, "{}: there is no FFR in this mode", regid.Name(reg_id))
    if not view.has_valid_size:
        raise KvmError(errno.EINVAL, "{}: the state is sized by the SVE length, which is not valid", regid.Name(reg_id))
    if not finalized:
        raise KvmError(errno.EPERM, "{}: the vCPU's vectors are not finalized", regid.Name(reg_id))
    vq, number = view.vq, regid.number_of(reg_id)
    if is_zreg:
        return _padded(reg_id, Store.SVE_STATE, layout.zreg_offset(vq, number), layout.zreg_bytes(vq))
    return _padded(reg_id, Store.SVE_STATE, layout.preg_offset(vq, number), layout.preg_bytes(vq))


def sme_reg_to_region(reg_id: int, reach: Reach) -> Region:
    """A row of ZA, or ZT0.

    Errors in order: EINVAL outside the window of ZA rows and ZT0, ENOENT without SME (for ZT0 SME2) or with a slice,
    EINVAL where a revision cannot reach ZA, EPERM before FINALIZE; with SVCR.ZA off EBUSY before EPERM or EINVAL after
    it, as the revision has it. Source: sme_reg_to_region(); rfc-v2.md 3.4 and R5.
    """
    abi, lengths = reach.abi, reach.lengths
    if reg_id != abi.zt0 and not regid.ZA_BASE <= reg_id <= za_id_max(abi, lengths.sme_vq):
        raise KvmError(errno.EINVAL, "{}: no ZA row nor ZT0 of this vCPU has this number and size", regid.Name(reg_id))
    if not lengths.sme_vq:
        raise KvmError(errno.ENOENT, "{}: the vCPU has no SME", regid.Name(reg_id))
    if reg_id == abi.zt0 and not reach.has_sme2:
        raise KvmError(errno.ENOENT, "{}: there is no SME2, on the host or in ID_AA64PFR1_EL1", regid.Name(reg_id))
    if reg_id != abi.zt0 and regid.slice_of(reg_id):
        raise KvmError(errno.ENOENT, "{}: only slice 0 exists", regid.Name(reg_id))
    if abi.za is None or abi.za.gate is ZaGate.UNREACHABLE:
        raise KvmError(errno.EINVAL, "{}: {} refuses every ZA row (rfc-v2.md Q23)", regid.Name(reg_id), abi.name)
    if abi.za.gate is ZaGate.EBUSY_FIRST and not reach.za_is_on:
        raise KvmError(errno.EBUSY, "{}: SVCR.ZA is 0", regid.Name(reg_id))
    if not reach.finalized:
        raise KvmError(errno.EPERM, "{}: the vCPU's vectors are not finalized", regid.Name(reg_id))
    if abi.za.gate is ZaGate.EINVAL_LAST and not reach.za_is_on:
        raise KvmError(errno.EINVAL, "{}: SVCR.ZA is 0", regid.Name(reg_id))
    if reg_id == abi.zt0:
        return Region(Store.SME_STATE, layout.za_bytes(lengths.sme_vq), layout.ZT0_BYTES, 0)
    row_vq = lengths.sme_vq + abi.za.vq_bias
    row = regid.za_row_of(reg_id) % abi.za.row_modulus
    return _padded(reg_id, Store.SME_STATE, layout.za_row_offset(row_vq, row), layout.zreg_bytes(row_vq))


def za_id_max(abi: Abi, sme_vq: int) -> int:
    """The last ID of the window of ZA rows; without SME the row count wraps and nearly every ID is inside."""
    if abi.za is None:
        return regid.ZA_BASE - 1
    rows = layout.VQ_BYTES * (sme_vq + abi.za.vq_bias)
    return regid.ZA_BASE | (rows - 1) % abi.za.window_modulus << regid.NUM_SHIFT | regid.SLICE_MASK


def _padded(reg_id: int, store: Store, koffset: int, maxlen: int) -> Region:
    reqlen = regid.size_bytes(reg_id)
    klen = min(maxlen, reqlen)
    return Region(store, koffset, klen, reqlen - klen)


KVM_REGS_SLOTS = layout.KVM_REGS_BYTES // 4
_VREG_SLOTS = range(0x54, 0xD4)


def core_reg_to_region(reg_id: int, has_v: bool) -> Region:
    """A field of struct kvm_regs; V only where the view has it.

    Errors in order: ENOENT from the last slot on, EINVAL where no field starts, for V where Z is in its place, and for
    another size than the field's. Source: core_reg_offset_from_id(), core_reg_size_from_offset(); rfc-v2.md 3.2.
    """
    slot = reg_id & 0xFFFF_FFFF & ~regid.CORE
    if slot + regid.size_bytes(reg_id) // 4 >= KVM_REGS_SLOTS:
        raise KvmError(errno.ENOENT, "core slot 0x{:x}: past the end of struct kvm_regs", slot)
    size = core_reg_size(slot)
    if size is None:
        raise KvmError(errno.EINVAL, "core slot 0x{:x}: no register starts here", slot)
    if slot in _VREG_SLOTS and not has_v:
        raise KvmError(errno.EINVAL, "{}: V is reached through Z now", regid.Name(reg_id))
    if size != regid.size_bytes(reg_id):
        raise KvmError(errno.EINVAL, "core slot 0x{:x}: the register there has {} bytes", slot, size)
    return Region(Store.KVM_REGS, slot * 4, size, 0)


def core_reg_size(slot: int) -> int | None:
    """The size of the register that starts at a 32-bit slot of struct kvm_regs, None where none does."""
    if slot < 0x52:
        return 8 if slot % 2 == 0 else None
    if slot in _VREG_SLOTS:
        return 16 if slot % 4 == 0 else None
    return 4 if slot in (0xD4, 0xD5) else None


def check_vls(name: str, wanted: Iterable[int], host_vqs: frozenset[int]) -> int:
    """The maximum vq that a new VLS set stands for.

    EINVAL unless the set is all the host's lengths up to one of them. Source: set_sve_vls(); rfc-v2.md 2.3.
    """
    wanted = frozenset(wanted)
    if not wanted:
        raise KvmError(errno.EINVAL, f"{name}: the set of lengths is empty")
    max_vq = max(wanted)
    if max_vq > max(host_vqs, default=0):
        raise KvmError(errno.EINVAL, f"{name}: vq {max_vq} is more than the host has")
    if wanted != {vq for vq in host_vqs if vq <= max_vq}:
        raise KvmError(errno.EINVAL, f"{name}: not every length of the host up to vq {max_vq}, and no other")
    return max_vq


def fault(reg_id: int, needed: int, there: int) -> NoReturn:
    """EFAULT: the user's buffer ends before the kernel is done with it."""
    raise KvmError(
        errno.EFAULT, "{}: the kernel accesses {} bytes of a buffer of {}", regid.Name(reg_id), needed, there
    )


RegionTable = dict[int, tuple[slice, int, bytes]]  # by ID: place in sve_state, klen, the padding of a read


@lru_cache
def region_table(now: View, with_ffr: bool) -> RegionTable:
    """Z and P of a finalized vCPU's view; FFR where no ID register decides whether it is there."""
    zregs, pregs = map(regid.zreg_id, range(layout.NUM_ZREGS)), map(regid.preg_id, range(layout.NUM_PREGS + with_ffr))
    regions = {reg_id: sve_reg_to_region(reg_id, now, finalized=True) for reg_id in (*zregs, *pregs)}
    return {
        reg_id: (slice(region.koffset, region.koffset + region.klen), region.klen, bytes(region.upad))
        for reg_id, region in regions.items()
    }
