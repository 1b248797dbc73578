"""The registers of one vCPU as userspace reads and writes them: KVM_GET_ONE_REG and KVM_SET_ONE_REG.

Rules come from onereg and sysreg, moves from ownership, bytes from regfile; here a register's bytes are copied.
Source: arch/arm64/kvm/guest.c and sys_regs.c; rfc-v2.md section 3.
"""

from __future__ import annotations

import errno
from typing import Any

from ..errors import KvmError, check_number
from ..facts import SVCR_ZA, Abi, regid
from ..rules import Reach, Region, RegionTable, Store, VectorLengths, fault, onereg, view
from .contents import Contents
from .cpu import CpuFeatures
from .idregs import IdRegs
from .mutex import Mutex, serialised
from .ownership import Ownership
from .regfile import Buffer, RegFile
from .system import SystemRegs


class Registers(Contents):
    """One vCPU's registers. Every ioctl raises KvmError, in the kernel's order of checks.

    Z, P and FFR are found in one table while memory has them in user format; everything else goes through the rules,
    under the mutex. An access by the table needs none: no call lies between the look at which table is in force and
    the copy, so that no other thread comes in between.
    """

    __slots__ = (
        "__weakref__", "_abi", "_cpu", "_decisive", "_finalized", "_id_regs", "_initialised", "_loaded", "_mutex",
        "_places", "_reach_now", "_regions", "_running", "_system", "_table",
    )  # fmt: skip

    def __init__(self, abi: Abi, cpu: CpuFeatures, id_regs: IdRegs, big_endian: bool) -> None:
        self._abi = abi
        self._cpu = cpu
        self._id_regs = id_regs
        regs = RegFile(swap=big_endian)
        super().__init__(regs, Ownership(regs, abi.user_format, bool(cpu.sve_vqs), bool(cpu.sme_vqs)))
        self._system = SystemRegs(abi, self._regs, self._ownership, id_regs, cpu.fpmr)
        self._initialised = False
        self._finalized = False
        self._loaded: object = None  # the run that has loaded the vCPU, as long as its guest may act
        self._running = False
        self._table: RegionTable = {}  # that of the present view, empty while the vCPU runs
        self._regions: RegionTable = {}  # the same as long as memory is in user format, else empty
        self._places: dict[int, Region | None] = {}  # what _find has found in the present reach
        self._mutex = Mutex()  # vcpu->mutex
        self._decisive: tuple[int, VectorLengths, bool, int] = (0, self.lengths, False, -1)  # of what can be reached
        self._select_regions()

    def get_one_reg(self, reg_id: int) -> bytes:
        """The register's value, as many bytes as the ID's size field says (KVM_GET_ONE_REG).

        Errors in order: ENOEXEC before INIT, EINVAL for an ID that is not arm64's, then those of the register's kind:
        onereg.sve_reg_to_region, sme_reg_to_region, core_reg_to_region; ENOENT for an unknown or hidden system
        register. A read of Z, P or FFR brings the state into user format. Where a revision's GET of a ZA row writes the
        row instead, it writes zeroes: a caller without a buffer has no other bytes.
        """
        regions = self._regions
        known = regions.get(reg_id)
        if known is None or regions is not self._regions:
            return self._get(reg_id if reg_id in self._places else _checked_id(reg_id))
        where, _, padding = known
        value: bytes = self._regs.sve_state.view[where]
        return value + padding

    def get_one_reg_into(self, reg_id: int, buffer: Any) -> None:
        """The start of the writable `buffer` holds the register's value; the rest of it is as before.

        Errors as get_one_reg, then EFAULT for a buffer that is too short: it is filled, or untouched if the register
        is a system register, which the kernel stores at once.
        """
        reg_id = _checked_id(reg_id)
        target = memoryview(buffer).cast("B")
        if self.is_written_by_get(reg_id):
            self._set(reg_id, target.tobytes())
            return
        value = self.get_one_reg(reg_id)
        if len(target) >= len(value):
            target[: len(value)] = value
            return
        if self.fills_short_buffers(reg_id):
            target[:] = value[: len(target)]
        fault(reg_id, len(value), len(target))

    def set_one_reg(self, reg_id: int, data: Any) -> None:
        """The register holds the first bytes of `data`, as many as it really has (KVM_SET_ONE_REG).

        Errors as get_one_reg, and EFAULT where `data` ends before the last byte that the kernel reads: Z, P, FFR, ZA
        and ZT0 then hold what there was, then zeroes; other registers keep their value. On a system register EFAULT
        comes first. Then EINVAL or EBUSY for a value that the register does not take.
        """
        raw = data if type(data) is bytes else memoryview(data).tobytes()
        regions = self._regions
        known = regions.get(reg_id)
        if known is None or len(raw) < known[1] or regions is not self._regions:
            self._set(reg_id if reg_id in self._places else _checked_id(reg_id), raw)
            return
        where, klen, _ = known
        self._regs.sve_state.view[where] = raw[:klen]

    @property
    def abi(self) -> Abi:
        return self._abi

    @property
    def finalized(self) -> bool:
        return self._finalized

    @property
    def _reach(self) -> Reach:
        """What decides which registers there are; another vCPU may have changed the VM's ID registers."""
        if self._decisive[-1] != self._id_regs.changes:
            self._select_regions()
        return self._reach_now

    @property
    def _has_sme2(self) -> bool:
        return self._cpu.sme2 and (self._id_regs.has_sme2 or not self._abi.id_regs_gate)

    @property
    def _has_fa64(self) -> bool:
        return self._cpu.fa64 and (self._id_regs.has_fa64 or not self._abi.id_regs_gate)

    def _select_regions(self) -> None:
        """The table in use is that of the view, which SVCR may have changed."""
        decisive = self._regs.sysregs[regid.SVCR], self.lengths, self._finalized, self._id_regs.changes
        if decisive != self._decisive:
            self._decide(*decisive[:2])
            self._decisive = decisive
        now = self._reach_now.view
        is_there = self._loaded is None and self._finalized and now.has_zp
        self._table = onereg.region_table(now, not self._abi.ffr_needs_fa64) if is_there else {}
        self._regions = self._table if self._ownership.is_user_format else {}

    def _decide(self, svcr: int, lengths: VectorLengths) -> None:
        """What can be reached is as these say."""
        self._places = {}
        now = view(self._abi, lengths, svcr, self._has_fa64)
        self._reach_now = Reach(self._abi, lengths, now, self._has_sme2, bool(svcr & SVCR_ZA), self._finalized)

    def _moves_to(self, reg_id: int) -> bool:
        """Whether the table has the register; it is then in force, and memory in user format."""
        if reg_id in self._table:
            self._ownership.guest_to_user()
            self._regions = self._table
        return reg_id in self._table

    def _check_idle(self) -> None:
        """No guest runs on the vCPU; a run whose guest never acted has ended."""
        if self._running:
            raise RuntimeError("KVM_RUN holds the vCPU until its `with` block ends")
        if self._loaded is not None:
            self._loaded = None
            self._select_regions()

    @serialised
    def enter_guest(self, run: object) -> None:
        """The run's guest acts. RuntimeError where the vCPU was used since it was loaded."""
        if run is not self._loaded or self._running:
            raise RuntimeError("this KVM_RUN has ended: the vCPU was used since")
        self._running = True

    @serialised
    def leave_guest(self) -> None:
        """The guest has left, and the vCPU takes calls again."""
        self._running, self._loaded = False, None
        self._select_regions()

    def check_initialised(self) -> None:
        if self._running or self._loaded is not None:
            self._check_idle()
        if not self._initialised:
            raise KvmError(errno.ENOEXEC, "the vCPU is not initialised")

    def _find(self, reg_id: int) -> Region | None:
        """The region of a register that the kernel copies, None for one that it computes (VLS, system registers)."""
        self.check_initialised()
        if self._decisive[-1] != self._id_regs.changes:
            self._select_regions()
        if reg_id not in self._places:
            self._places[reg_id] = onereg.region_of(reg_id, self._reach_now)
        return self._places[reg_id]

    def fills_short_buffers(self, reg_id: int) -> bool:
        """Whether a GET that ends in EFAULT has filled the buffer; else it left it as it was."""
        is_copied = reg_id in self._abi.vls_ids or regid.coproc(reg_id) in (regid.FW, regid.FW_FEAT_BMAP)
        return is_copied or self._find(reg_id) is not None

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
        with self._mutex:
            if self._moves_to(reg_id):
                return self.get_one_reg(reg_id)
            region = self._find(reg_id)
            if self.is_written_by_get(reg_id):
                unread = bytes(regid.size_bytes(reg_id))
                self._set(reg_id, unread)
                return unread
            if region is not None:
                value: bytes = self._buffer(region.store).view[region.koffset : region.koffset + region.klen]
                return value + bytes(region.upad)
            if reg_id in self._abi.vls_ids:
                max_vq, host_vqs = self._vls(reg_id)
                return regid.pack_vls(vq for vq in host_vqs if vq <= max_vq)
            return self._system.get(reg_id)

    def _set(self, reg_id: int, data: bytes) -> None:
        with self._mutex:
            if self._moves_to(reg_id) and len(data) >= self._table[reg_id][1]:
                self.set_one_reg(reg_id, data)
                return
            region = self._find(reg_id)
            if region is not None:
                self._store(reg_id, region, data)
            elif reg_id in self._abi.vls_ids:
                self._set_vls(reg_id, data)
            else:
                self._system.set(reg_id, data)
                if reg_id == regid.SVCR:
                    self._select_regions()

    def _store(self, reg_id: int, region: Region, data: bytes) -> None:
        """The region holds the data; what is missing of it is zero, or where the kernel fetches all first, kept."""
        view, klen = self._buffer(region.store).view, region.klen
        if region.store is not Store.KVM_REGS or len(data) >= klen:
            view[region.koffset : region.koffset + klen] = data[:klen].ljust(klen, b"\0")
        if len(data) < klen:
            fault(reg_id, klen, len(data))

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
            fault(reg_id, size, len(data))
        max_vq = onereg.check_vls(self._name(reg_id), regid.unpack_vls(data[:size]), host_vqs)
        kind = "sve_vq" if reg_id == regid.SVE_VLS else "sme_vq"
        self._ownership.lengths = self.lengths._replace(**{kind: max_vq})
        self._select_regions()

    def is_written_by_get(self, reg_id: int) -> bool:
        """The ID is in the window of ZA rows of a revision whose GET copies from the user."""
        if self._abi.za is None or not self._abi.za.get_writes:
            return False
        return regid.ZA_BASE <= reg_id <= onereg.za_id_max(self._abi, self.lengths.sme_vq)

    def _name(self, reg_id: int) -> str:
        return regid.name(reg_id, self._abi.sme_vls)


def _checked_id(reg_id: int) -> int:
    return check_number("a register ID", reg_id, 0, 1 << 64)
