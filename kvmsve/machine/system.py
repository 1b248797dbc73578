"""The system registers of one vCPU as userspace reads and writes them.

Source: arch/arm64/kvm/sys_regs.c, kvm_sys_reg_get_user() and kvm_sys_reg_set_user(); rfc-v2.md 3.3.
"""

from __future__ import annotations

import errno

from ..errors import HostOops, KvmError
from ..facts import Abi, SmidrRule, regid
from ..rules import Gate, VectorLengths, fault, reglist, sysreg
from .idregs import IdRegs
from .ownership import Ownership
from .regfile import RegFile
from .svcr import write_svcr


class SystemRegs:
    """System registers by ID: most are values in the register file, ID registers and some SMIDR_EL1 are the VM's."""

    def __init__(self, abi: Abi, regs: RegFile, ownership: Ownership, id_regs: IdRegs, has_fpmr: bool) -> None:
        self._abi = abi
        self._regs = regs
        self._ownership = ownership
        self._id_regs = id_regs
        self._host_has_fpmr = has_fpmr
        self._known = reglist.known(abi.other_regs)
        self._settable = sysreg.settable(abi)
        self.features = 0
        self._gates: dict[tuple[VectorLengths, bool, int, int], frozenset[Gate]] = {}  # by what they depend on
        self.reset(vcpu=0)

    @property
    def gates(self) -> frozenset[Gate]:
        """What the vCPU has of what registers may ask for."""
        known = self._ownership.lengths, self.has_fpmr, self.features, self._id_regs.mmfr3
        if known not in self._gates:
            lengths, has_fpmr, features, mmfr3 = known
            self._gates[known] = sysreg.open_gates(
                self._abi, lengths, has_fpmr=has_fpmr, features=features, mmfr3=mmfr3
            )
        return self._gates[known]

    @property
    def has_fpmr(self) -> bool:
        """The host has FPMR and the VM's ID register says so (kvm_has_fpmr())."""
        return self._host_has_fpmr and self._id_regs.has_fpmr

    def get(self, reg_id: int) -> bytes:
        """The register's value; ENOENT for one that is unknown or hidden, HostOops where a read crashes the host."""
        self._check_visible(reg_id)
        return self._read(reg_id).to_bytes(regid.size_bytes(reg_id), "little")

    def set(self, reg_id: int, data: bytes) -> None:
        """The register has this value.

        Errors in order: EFAULT for less data than 8 bytes, whatever the ID says, ENOENT for a register that is unknown
        or hidden, EINVAL or EBUSY for a value that it does not take. Of a CCSIDR 4 bytes are fetched, after ENOENT
        (demux_c15_set()).
        """
        is_ccsidr = regid.coproc(reg_id) == regid.DEMUX
        if is_ccsidr:
            self._check_visible(reg_id)
        fetched = 4 if is_ccsidr else 8
        if len(data) < fetched:
            fault(reg_id, fetched, len(data))
        self._check_visible(reg_id)
        self._write(reg_id, int.from_bytes(data[:fetched], "little"))

    @property
    def guest_smidr(self) -> int | None:
        """SMIDR_EL1 as a guest reads it; None where it is UNDEFINED."""
        if Gate.SMIDR not in self.gates:
            return None
        return 0 if self._abi.smidr is SmidrRule.OOPS else self._read(regid.SMIDR_EL1)

    def enter(self) -> None:
        """The VM runs: its ID registers are fixed, and bits that a register cannot hold are gone."""
        if not self._id_regs.fixed:
            self._id_regs.fix()

    def reset(self, vcpu: int) -> None:
        """Every register of the vCPU with this index has its reset value."""
        values = {reg_id: control.reset for reg_id, control in sysreg.CONTROL_REGS.items()}
        values |= sysreg.RESETS | {regid.MPIDR_EL1: sysreg.reset_mpidr(vcpu)} | self._id_regs.other_host_values
        for reg_id in self._regs.sysregs.keys() - values.keys():
            del self._regs.sysregs[reg_id]
        self._regs.sysregs.update(values)  # never empty: another thread may be looking

    def _read(self, reg_id: int) -> int:
        if reg_id in self._id_regs:
            return self._id_regs.read(reg_id, self._ownership.lengths, self.features)
        if reg_id == regid.SMIDR_EL1 and self._abi.smidr is SmidrRule.OOPS:
            raise HostOops("a read of SMIDR_EL1 goes 32 GiB past the VM (rfc-v2.md Q27)")
        if reg_id == regid.SMIDR_EL1 and self._abi.smidr is SmidrRule.ZERO:
            return 0
        return self._regs.sysregs.get(reg_id, 0) & self._kept_bits(reg_id)

    def _write(self, reg_id: int, value: int) -> None:
        if reg_id in self._id_regs:
            self._id_regs.write(reg_id, value, self._ownership.lengths, self.features)
        elif reg_id == regid.SMIDR_EL1 and self._abi.smidr is not SmidrRule.PER_VCPU:
            return
        elif reg_id == regid.SVCR:
            write_svcr(self._abi.svcr_write, self._regs, value)
        elif reg_id == regid.SMPRIMAP_EL2 and value and self._abi.smprimap_is_zero:
            raise KvmError(errno.EINVAL, "SMPRIMAP_EL2: only zero can be set")
        elif reg_id in self._settable and not self._settable[reg_id].takes(value, self._read(reg_id)):
            raise KvmError(errno.EINVAL, f"{regid.name(reg_id)}: 0x{value:x} changes what is as the host has it")
        else:
            self._regs.sysregs[reg_id] = value

    def _kept_bits(self, reg_id: int) -> int:
        """The bits of a register that a VM which has run keeps; before that, all."""
        control = sysreg.CONTROL_REGS.get(reg_id, sysreg.PLAIN)
        return control.guest_mask if self._id_regs.fixed else sysreg.ALL_BITS

    def _check_visible(self, reg_id: int) -> None:
        if reg_id not in self._known:
            raise KvmError(errno.ENOENT, "{}: no register has this ID", regid.Name(reg_id))
        gate = reglist.gate(reg_id)
        if gate is not Gate.ALWAYS and gate not in self.gates:
            raise KvmError(errno.ENOENT, "{}: the vCPU lacks the feature ({})", regid.Name(reg_id), gate.name)
