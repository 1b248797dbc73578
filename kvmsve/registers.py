"""The registers of one vCPU as userspace reads and writes them: KVM_GET_ONE_REG and KVM_SET_ONE_REG.

Rules come from onereg and sysreg, moves from ownership, bytes from regfile; here a register's bytes are copied.
Source: arch/arm64/kvm/guest.c and sys_regs.c; rfc-v2.md section 3.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from . import onereg, regid, reglist, sysreg
from .abi import Abi
from .cpu import CpuFeatures
from .errors import HostOops, KvmError
from .layout import FPSR_OFFSET, VREGS_OFFSET
from .onereg import Region, Store, VectorLengths
from .ownership import FpState, Ownership
from .regfile import Buffer, RegFile
from .sysreg import IdRegs

_USER_OWNED = FpState.USER_OWNED


class Registers:
    """One vCPU's registers. Every ioctl raises KvmError, in the kernel's order of checks.

    Z, P and FFR of a finalized vCPU are found in one table; everything else goes through the rules each time.
    """

    def __init__(self, abi: Abi, cpu: CpuFeatures, id_regs: IdRegs, big_endian: bool) -> None:
        self.abi = abi
        self._cpu = cpu
        self._id_regs = id_regs
        self._regs = RegFile(swap=big_endian)
        self._ownership = Ownership(self._regs, abi.user_format, bool(cpu.sve_vqs), bool(cpu.sme_vqs))
        self._initialised = False
        self._finalized = False
        self._running = False
        self._finalized_regions: dict[int, tuple[slice, int, bytes]] = {}  # place in sve_state, klen, padding
        self._regions = self._finalized_regions  # empty while the vCPU runs
        self._reset_sysregs()

    # The ioctls

    def get_one_reg(self, reg_id: int) -> bytes:
        """The register's value, as many bytes as the ID's size field says (KVM_GET_ONE_REG).

        Errors in order: ENOEXEC before INIT, EINVAL for an ID that is not arm64's, then those of the register's kind:
        onereg.sve_reg_to_region, sme_reg_to_region, core_reg_to_region; ENOENT for an unknown or hidden system
        register. A read of Z, P or FFR brings the state into user format.
        """
        known = self._regions.get(reg_id)
        if known is None:
            return self._get(reg_id)
        if self._ownership.state is not _USER_OWNED:
            self._ownership.guest_to_user()
        where, _, padding = known
        value: bytes = self._regs.sve_state.view[where]
        return value + padding

    def get_one_reg_into(self, reg_id: int, buffer: Any) -> None:
        """The start of the writable `buffer` holds the register's value; the rest of it is as before.

        Errors as get_one_reg, then EFAULT for a buffer that is too short: it is filled, or untouched if the register
        is a system register, which the kernel stores at once.
        """
        target = memoryview(buffer).cast("B")
        value = self.get_one_reg(reg_id)
        if len(target) >= len(value):
            target[: len(value)] = value
            return
        if self._is_copied(reg_id):
            target[:] = value[: len(target)]
        _fault(reg_id, len(value), len(target))

    def set_one_reg(self, reg_id: int, data: Any) -> None:
        """The register holds the first bytes of `data`, as many as it really has (KVM_SET_ONE_REG).

        Errors as get_one_reg, and EFAULT where `data` ends before the last byte that the kernel reads: Z, P, FFR, ZA
        and ZT0 then hold what there was, then zeroes; other registers keep their value. On a system register EFAULT
        comes first. Then EINVAL or EBUSY for a value that the register does not take.
        """
        raw = data if type(data) is bytes else memoryview(data).tobytes()
        known = self._regions.get(reg_id)
        if known is None:
            self._set(reg_id, raw)
            return
        if self._ownership.state is not _USER_OWNED:
            self._ownership.guest_to_user()
        where, klen, _ = known
        if len(raw) < klen:
            self._regs.sve_state.view[where] = raw.ljust(klen, b"\0")
            _fault(reg_id, klen, len(raw))
        self._regs.sve_state.view[where] = raw[:klen]

    # What the kernel holds; a view is good until the next call on the vCPU

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

    @property
    def finalized(self) -> bool:
        return self._finalized

    # What the rules are asked

    def _check_idle(self) -> None:
        if self._running:
            raise RuntimeError("KVM_RUN holds the vCPU until its `with` block ends")

    def _enter_guest(self) -> None:
        self._running, self._regions = True, {}

    def _leave_guest(self) -> None:
        self._running, self._regions = False, self._finalized_regions

    def _check_initialised(self) -> None:
        self._check_idle()
        if not self._initialised:
            raise KvmError(errno.ENOEXEC, "the vCPU is not initialised")

    def _find(self, reg_id: int) -> Region | None:
        """The region of a register that the kernel copies, None for one that it computes (VLS, system registers)."""
        self._check_initialised()
        onereg.check_arm64(reg_id)
        match regid.coproc(reg_id):
            case regid.CORE:
                return onereg.core_reg_to_region(reg_id, self.lengths)
            case regid.SVE if reg_id != regid.SVE_VLS:
                return onereg.sve_reg_to_region(reg_id, self.abi, self.lengths, self._finalized)
            case regid.SME if self.abi.has_sme and reg_id != self.abi.sme_vls:
                return onereg.sme_reg_to_region(reg_id, self.abi, self.lengths, self._cpu.sme2, self._finalized)
        return None

    def _is_copied(self, reg_id: int) -> bool:
        return self._is_vls(reg_id) or self._find(reg_id) is not None

    def _is_vls(self, reg_id: int) -> bool:
        return reg_id == regid.SVE_VLS or reg_id == self.abi.sme_vls

    def _buffer(self, store: Store) -> Buffer:
        """The buffer that a region lies in; Z, P and FFR are then in user format."""
        if store is Store.KVM_REGS:
            return self._regs.kvm_regs
        if store is Store.SME_STATE:
            return self._regs.sme_state
        self._ownership.guest_to_user()
        return self._regs.sve_state

    # Registers outside the table

    def _get(self, reg_id: int) -> bytes:
        region = self._find(reg_id)
        if region is not None:
            value: bytes = self._buffer(region.store).view[region.koffset : region.koffset + region.klen]
            return value + bytes(region.upad)
        if self._is_vls(reg_id):
            max_vq, host_vqs = self._vls(reg_id)
            return regid.pack_vls(vq for vq in host_vqs if vq <= max_vq)
        return self._get_sysreg(reg_id).to_bytes(regid.size_bytes(reg_id), "little")

    def _set(self, reg_id: int, data: bytes) -> None:
        region = self._find(reg_id)
        if region is not None:
            view = self._buffer(region.store).view
            where = slice(region.koffset, region.koffset + region.klen)
            if len(data) < region.klen:
                if region.store is not Store.KVM_REGS:
                    view[where] = data.ljust(region.klen, b"\0")
                _fault(reg_id, region.klen, len(data))
            view[where] = data[: region.klen]
        elif self._is_vls(reg_id):
            self._set_vls(reg_id, data)
        else:
            self._set_sysreg(reg_id, data)

    def _vls(self, reg_id: int) -> tuple[int, frozenset[int]]:
        """The vCPU's maximum length of that kind and the host's lengths; ENOENT without the feature."""
        if reg_id == regid.SVE_VLS:
            max_vq, host_vqs = self.lengths.sve_vq, self._cpu.sve_vqs
        else:
            max_vq, host_vqs = self.lengths.sme_vq, self._cpu.sme_vqs
        if not max_vq:
            raise KvmError(errno.ENOENT, f"{self._name(reg_id)}: the vCPU lacks the feature")
        return max_vq, host_vqs

    def _set_vls(self, reg_id: int, data: bytes) -> None:
        """The vCPU has another maximum length (set_sve_vls())."""
        _, host_vqs = self._vls(reg_id)
        if self._finalized:
            raise KvmError(errno.EPERM, f"{self._name(reg_id)}: the lengths are final since FINALIZE")
        size = regid.size_bytes(reg_id)
        if len(data) < size:
            _fault(reg_id, size, len(data))
        max_vq = onereg.check_vls(self._name(reg_id), regid.unpack_vls(data[:size]), host_vqs)
        kind = "sve_vq" if reg_id == regid.SVE_VLS else "sme_vq"
        self._ownership.lengths = self.lengths._replace(**{kind: max_vq})

    def _get_sysreg(self, reg_id: int) -> int:
        self._check_visible(reg_id)
        if reg_id in sysreg.ID_REGS:
            return self._id_regs.read(reg_id, self.lengths)
        if reg_id == regid.SMIDR_EL1 and self.abi.smidr_get_oopses:
            raise HostOops("a read of SMIDR_EL1 goes 32 GiB past the VM (rfc-v2.md Q27)")
        return self._regs.sysregs.get(reg_id, 0)

    def _set_sysreg(self, reg_id: int, data: bytes) -> None:
        size = regid.size_bytes(reg_id)
        if len(data) < size:
            _fault(reg_id, size, len(data))
        self._check_visible(reg_id)
        value = int.from_bytes(data[:size], "little")
        if reg_id in sysreg.ID_REGS:
            self._id_regs.write(reg_id, value, self.lengths)
        elif sysreg.CONTROL_REGS.get(reg_id, sysreg.PLAIN).keeps_writes:
            self._regs.sysregs[reg_id] = value

    def _check_visible(self, reg_id: int) -> None:
        control = sysreg.CONTROL_REGS.get(reg_id)
        if control is None and reg_id not in reglist.PLAIN_REGS and reg_id not in sysreg.ID_REGS:
            raise KvmError(errno.ENOENT, f"{self._name(reg_id)}: no register has this ID")
        if control is not None and not sysreg.is_visible(control, self.lengths):
            raise KvmError(errno.ENOENT, f"{self._name(reg_id)}: the vCPU lacks the feature {control.gate.name}")

    def _reset_sysregs(self) -> None:
        self._regs.sysregs.clear()
        self._regs.sysregs.update((reg_id, control.reset) for reg_id, control in sysreg.CONTROL_REGS.items())

    def _name(self, reg_id: int) -> str:
        return regid.name(reg_id, self.abi.sme_vls)


def _fault(reg_id: int, needed: int, there: int) -> NoReturn:
    raise KvmError(errno.EFAULT, f"{regid.name(reg_id)}: the kernel accesses {needed} bytes of a buffer of {there}")
