"""Executable model of the KVM/arm64 register ABI of the SME series from its third to its twelfth post, as posted.

Here the view of the vector registers follows PSTATE.SM and PSTATE.ZA. Written from shared/spec/abi-revisions.md
("section" means a section of that text; section 11 wins over the others) and checked against the recordings, without
sight of the package it tests. What all kernels share (life cycle, vector lengths, id format) comes from model.py.

No recording shows v3, v5 to v8 and v11; they are the nearest recorded post with the differences that the text names.
EL2 is not modelled: its registers are never there.
"""

from __future__ import annotations

import errno

import model
import model_id_registers
from model import (
    CORE_BASE,
    CORE_SLOTS,
    CORE_STATUS,
    CORE_U64,
    CORE_V,
    FFR_ID,
    FPSR,
    P_BASE,
    PFR1,
    SMCR,
    SMCR_EZT0,
    SMCR_FA64,
    SME,
    SMFR0,
    SMIDR,
    STREAMING_FPSR,
    SVCR,
    SVCR_SM,
    SVCR_ZA,
    SVE,
    SYSREG,
    TPIDR2,
    TPIDR_RESET,
    WORD64,
    Z_BASE,
    ZA_BASE,
    ZCR,
    ZFR0,
    ZT0_ID,
    Oops,
    Refused,
    Undefined,
    extract,
    p_place,
    width,
    z_place,
)

__all__ = ["Guest", "Host", "Oops", "Refused", "Undefined", "Vcpu", "Vm"]

SERIES = {f"v{number}": number for number in range(3, 13)} | {"v10-recorded": 10}
SME_CAP = {3: 239, 4: 239, 5: 240, 6: 243, 7: 244, 8: 244, 9: 247, 10: 248}
WRITABLE_IMP_ID_REGS = 239
SVE_FEATURE = 4
SVE_VLS = model.VLS_ID[SVE]

MIDR, PFR2, FPMR = SYSREG | 0xC000, SYSREG | 0xC022, SYSREG | 0xDA22
SME_ONLY = (SMCR, SVCR, TPIDR2)
NIBBLE = 0xF
SVE_FIELD, SME_FIELD, FPMR_FIELD, FA64_FIELD = 32, 24, 32, 63
IMP_MASK = {MIDR: 0xFFFFFFFF, SMIDR: 0x0FFFFFFFFFFF6FFF}
LISTED = model.inserted(model.other_ids("7.3"), sorted([SMCR, SMIDR, SVCR, FPMR, TPIDR2]))


class Host(model.Host):
    """The machine and its kernel; `id_regs` as a vCPU with all features sees them."""

    def __init__(
        self,
        sve_vqs: list[int],
        sme_vqs: list[int],
        sme2: bool = False,
        fa64: bool = False,
        revision: str = "v12",
        big_endian: bool = False,
        id_regs: dict[int, int] | None = None,
        features_offered: set[int] | None = None,
        fpmr: bool = False,
        sme_feature: int | None = None,
        sme_cap: int | None = None,
        sme_vls: int | None = None,
        max_features: int | None = None,
    ) -> None:
        """Section 2 has the numbers. The repaired RFC stands in for what is the same in all posts."""
        if revision not in SERIES:
            raise ValueError(revision)
        super().__init__(sve_vqs, sme_vqs, sme2, fa64, "rfc-v2", big_endian, id_regs, features_offered)
        self.revision, self.rfc = revision, False
        self.series = series = SERIES[revision]
        self.id_series = 9 if revision == "v10-recorded" else series  # whose ID registers it has
        self.fpmr = fpmr
        self.id_regs = {PFR2: fpmr << FPMR_FIELD, SMIDR: 0} | self.id_regs
        self.sme_feature = (8 if series < 5 else 9) if sme_feature is None else sme_feature
        numbered = 252 if revision == "v10-recorded" else SME_CAP.get(series)
        self.sme_cap = numbered if sme_cap is None else sme_cap
        if sme_vls is None:
            sme_vls = 0x606000000017FFFF if series < 9 else 0x606000000017FFFE
        self.vls_ids = (SVE_VLS, sme_vls)
        self._know_registers()
        self.valid_features = (1 << (max_features or (9 if series < 5 else 10))) - 1
        if features_offered is None:
            offered = {0, 1, 2, 3} | ({8} if self.valid_features >> 8 else set())
            offered -= {self.sme_feature}
            offered |= {bit for bit, there in zip((SVE_FEATURE, self.sme_feature), self.has, strict=True) if there}
            self.features_offered = frozenset(offered)

    def _know_registers(self) -> None:
        """The recorded posts were put on 7.3, and list what it does."""
        self.other_ids, self.known, self.optional = LISTED, frozenset(LISTED), model.optional_ids("7.3")
        self.id_rules = model_id_registers.rules(self.revision, None)

    def create_vm(self) -> Vm:
        return Vm(self)

    def check_extension(self, cap: int) -> int:
        known = {70: 1, 170: int(self.has[SVE]), WRITABLE_IMP_ID_REGS: 1, self.sme_cap: int(self.has[SME])}
        return known.get(cap, 0)


class Vm(model.Vm):
    """A virtual machine; also knows whether userspace may write the implementation ID registers."""

    host: Host

    def _new_vcpu(self, index: int) -> Vcpu:
        return Vcpu(self, index)

    def enable_cap(self, cap: int) -> None:
        """KVM_ENABLE_CAP, before the first vCPU. A kernel in which 239 means SME does not have this capability."""
        if cap != WRITABLE_IMP_ID_REGS or self.host.sme_cap == cap or self.indices:
            raise Refused(errno.EINVAL)
        self.imp_id_writable = True


class Vcpu(model.Vcpu):
    """A virtual CPU. banks[SVE] is a raw buffer that is read with the vector length of the mode in force."""

    vm: Vm
    host: Host

    def __init__(self, vm: Vm, index: int) -> None:
        super().__init__(vm, index)
        self.series = self.host.series
        self.unwritten = 0
        self.fp_state = "FREE"

    def has(self, kind: int) -> bool:
        """Whether the vCPU has the feature. Section 11A(7): the ID registers do not count."""
        feature = (SVE_FEATURE, self.host.sme_feature)[kind]
        return self.features is not None and bool(self.features >> feature & 1) and self.host.has[kind]

    @property
    def scalable(self) -> bool:
        """Section 6.1, has_sve_regs: V is part of Z."""
        return self.has(SVE) or self.streaming

    @property
    def za_on(self) -> bool:
        return bool(self.regs.get(SVCR, 0) & SVCR_ZA)

    @property
    def sme2(self) -> bool:
        """Section 6.1: the host's and by the ID register."""
        return self.host.sme2 and self._id_value(PFR1) >> SME_FIELD & NIBBLE >= 2

    @property
    def fa64(self) -> bool:
        """Section 6.1: the host's and by the ID register."""
        return self.host.fa64 and bool(self._id_value(SMFR0) >> FA64_FIELD & 1)

    @property
    def fpmr(self) -> bool:
        """Section 6.8: a feature of its own."""
        return self.host.fpmr and bool(self._id_value(PFR2) >> FPMR_FIELD & NIBBLE)

    @property
    def ffr_on(self) -> bool:
        """Section 6.1, ffr_on; before v10 FFR goes with P (5.2)."""
        return self.series < 10 or (self.fa64 if self.streaming else self.has(SVE))

    def _bank_size(self, bank: int) -> int:
        """Section 6.1; ZT0 has its place if the host has SME2, up to v10 eight times over (11C, 16)."""
        if not self.finalized or (bank == SME and not self.has(SME)):
            return 0
        if bank == SVE:
            return 546 * self.max_vq
        return (16 * self.vq[SME]) ** 2 + (512 if self.series <= 10 else 64) * self.host.sme2

    def _needs_conversion(self) -> bool:
        """There is one format."""
        return False

    def _reset(self) -> None:
        """Sections 6.2 and 11A(1)."""
        if self.has(SVE) or self.series >= 10:
            self.banks[SVE] = 0
        self.banks[SME] = 0
        self.v = [0] * 32
        self.regs = {TPIDR2: TPIDR_RESET}

    def run(self, immediate_exit: bool = False) -> Guest:
        super().run(immediate_exit)
        return Guest(self)

    def reg_list(self, n: int | None = None) -> list[int]:
        """Section 6.7, and 5.2 and 7 for the older posts: the ids that the kernel wrote."""
        self._check_ready()
        ids = [*CORE_U64, *([] if self.scalable else CORE_V), *CORE_STATUS]
        sve_ids = self._sve_list()
        self.unwritten = 0
        if self.series == 10 and not self.has(SVE):
            self.unwritten = len(sve_ids)
            sve_ids = []
        ids += [*sve_ids, *self._sme_list(), *(reg_id for reg_id in self.host.other_ids if self._visible(reg_id))]
        count = len(ids) + self.unwritten
        if n is not None and n < count:
            raise Refused(errno.E2BIG, room=count)
        return ids

    def _sve_list(self) -> list[int]:
        """The SVE block; v10 lists FFR of an SVE vCPU in every mode (section 7, 8)."""
        if not (self.scalable if self.series >= 10 else self.has(SVE)):
            return []
        z, p = ([base | n << 5 for n in range(count)] for base, count in ((Z_BASE, 32), (P_BASE, 16)))
        ffr = self.ffr_on or (self.series == 10 and self.has(SVE))
        return [*([SVE_VLS] if self.has(SVE) else []), *z, *p, *([FFR_ID] if ffr else [])]

    def _sme_list(self) -> list[int]:
        """The SME block: none before v10, always all of it in v10, ZA and ZT0 with SVCR.ZA later."""
        if not self.has(SME) or self.series < 10:
            return []
        rows, zt0 = range(16 * self.vq[SME]), [ZT0_ID] if self.sme2 else []
        storage = [*(ZA_BASE | row << 5 for row in rows), *zt0] if self.za_on or self.series == 10 else []
        return [self.host.vls_ids[SME], *storage]

    # Register access.

    def get(self, reg_id: int, room: int | None = None, user: bytes | None = None) -> bytes:
        """KVM_GET_ONE_REG; `room` bytes are mapped at the user's address and hold `user` (else zeroes) before."""
        coproc = self._check_id(reg_id)
        if reg_id in self.host.vls_ids:
            data = self._get_vls(self.host.vls_ids.index(reg_id))
        elif coproc in (0x15, 0x17):
            place = bank, offset, size, user_size = self._vector(reg_id)
            if bank == SME and self.series < 10:
                return self._get_backwards(place, (bytes(user_size) if user is None else user)[:room])
            data = extract(self.banks[bank], offset, size).to_bytes(user_size, "little")
        else:
            self._check_scalar(reg_id)
            data = self._load(reg_id)
        if room is not None and room < len(data):
            raise Refused(errno.EFAULT, wrote=b"" if coproc in (0x11, 0x13) else data[:room])
        return data

    def _get_backwards(self, place: tuple[int, int, int, int], user: bytes) -> bytes:
        """Section 7, 3 and 11C(15): a GET of a ZA row copies the user's buffer into the row."""
        self._set_vector(place, user)
        return user

    def set(self, reg_id: int, data: bytes) -> None:
        """KVM_SET_ONE_REG; `data` is everything readable at the user's address. Section 11A(2): a system register is
        looked up after the data have been fetched."""
        coproc = self._check_id(reg_id)
        if reg_id in self.host.vls_ids:
            self._set_vls(self.host.vls_ids.index(reg_id), data)
        elif coproc in (0x15, 0x17):
            self._set_vector(self._vector(reg_id), data)
        elif coproc == 0x10:
            self._check_scalar(reg_id)
            self._store(reg_id, self._fetch(data, width(reg_id)))
        else:
            value = self._fetch(data, width(reg_id) if reg_id in self.host.known else 8)
            self._check_scalar(reg_id)
            self._store(reg_id, value)

    def _sve_register(self, reg_id: int) -> tuple[int, int, int, int]:
        """Section 6.5: bank, offset, size and the user's size. Up to v9 only SVE opens these registers (7, 2)."""
        is_z = Z_BASE <= reg_id < Z_BASE + 0x400
        if not is_z and not P_BASE <= reg_id < FFR_ID + 0x20:
            raise Refused(errno.EINVAL)
        there = self.scalable if self.series >= 10 else self.has(SVE)
        if not there or reg_id & 0x1F or (reg_id == FFR_ID and not self.ffr_on):
            raise Refused(errno.ENOENT)
        if not self.finalized:
            raise Refused(errno.EPERM)
        place = z_place if is_z else p_place
        return SVE, *place(self._active_vq(), reg_id >> 5 & 0x1F), 256 if is_z else 32

    def _sme_register(self, reg_id: int) -> tuple[int, int, int, int]:
        """Sections 6.6, 7 (3 and 8) and 11C(13). `side` = bytes of a row = number of rows, one unit short up to v9.
        Where it is not positive the last row wraps round, within the bits that the id macro has for it."""
        vq = self.vq[SME]
        old = self.series < 10
        side = 16 * (vq - 1) if old else 16 * vq
        last = ZA_BASE | (side - 1 & (0xFF if self.series >= 11 else 0x1FFF)) << 5 | 0x1F
        is_zt0 = reg_id == ZT0_ID and not old
        if not is_zt0 and not ZA_BASE <= reg_id <= last:
            raise Refused(errno.EINVAL)
        if not (self.sme2 if is_zt0 else self.has(SME) and not reg_id & 0x1F):
            raise Refused(errno.ENOENT)
        if not self.za_on and not old:
            raise Refused(errno.EBUSY)
        if not self.finalized:
            raise Refused(errno.EPERM)
        if not self.za_on:
            raise Refused(errno.EINVAL)
        if is_zt0:
            return SME, side * side, 64, 64
        return SME, side * (reg_id >> 5 & (0xFF if self.series >= 11 else 0x1F)), side, 256

    def _check_scalar(self, reg_id: int) -> None:
        """Core registers (sections 2 and 6.4) and all that the kernel looks for among the system registers."""
        if reg_id >> 16 & 0xFFF != 0x10:
            if not self._visible(reg_id):
                raise Refused(errno.ENOENT)
            return
        slot = (reg_id & 0xFFFFFFFF) - CORE_BASE
        if slot >= CORE_SLOTS or slot + width(reg_id) // 4 >= CORE_SLOTS:
            raise Refused(errno.ENOENT)
        if reg_id not in (*CORE_U64, *CORE_STATUS) and (reg_id not in CORE_V or self.scalable):
            raise Refused(errno.EINVAL)

    def _visible(self, reg_id: int) -> bool:
        """Section 6.8. SMPRI_EL1 and the EL2 registers never are, SMIDR_EL1 always is from v7 to v9 (7, 7; 11E, 22)."""
        if reg_id == ZCR:
            return self.has(SVE)
        if reg_id in SME_ONLY or (reg_id == SMIDR and not 7 <= self.host.id_series <= 9):
            return self.has(SME)
        return self.fpmr if reg_id == FPMR else self._is_known(reg_id)

    def _value(self, reg_id: int) -> int:
        """The value of a core or system register."""
        if reg_id in CORE_V:
            return self.v[CORE_V.index(reg_id)]
        if self._is_imp_id(reg_id):
            first = 0 if reg_id == SMIDR and self.host.id_series == 10 else self.host.id_regs.get(reg_id, 0)
            return self.vm.id_regs.get(reg_id, first)
        if self._is_id(reg_id):
            return self._id_value(reg_id)
        return self.regs.get(reg_id, self._reset_value(reg_id))

    def _load(self, reg_id: int) -> bytes:
        return self._value(reg_id).to_bytes(width(reg_id), self.host.byteorder)

    def _store(self, reg_id: int, value: int) -> None:
        if reg_id in CORE_V:
            self.v[CORE_V.index(reg_id)] = value
        elif self._is_imp_id(reg_id):
            self._set_imp_id(reg_id, value)
        elif self._is_id(reg_id):
            self._set_id(reg_id, value)
        elif reg_id == SVCR:
            self._set_svcr(value)
        else:
            self._check_value(reg_id, value)
            self.regs[reg_id] = value

    def _set_svcr(self, value: int) -> None:
        """Section 6.3; up to v4 a plain store (11C, 17)."""
        if self.series >= 5:
            if value & ~(SVCR_SM | SVCR_ZA):
                raise Refused(errno.EINVAL)
            if value & SVCR_ZA and not self.za_on:
                self.banks[SME] = 0
            if bool(value & SVCR_SM) != self.streaming:
                self.banks[SVE] = 0
                self.v = [0] * 32
                self.regs |= {FPMR: 0, FPSR: STREAMING_FPSR}
        self.regs[SVCR] = value

    # ID registers, sections 6.8, 11A(6) and 11A(7).

    def _id_hidden(self, reg_id: int) -> int:
        """From v10 on a vCPU with SME alone sees ID_AA64ZFR0_EL1 (11E, 22)."""
        if reg_id == ZFR0 and self.has(SME) and self.host.id_series >= 10:
            return 0
        return super()._id_hidden(reg_id)

    def _is_imp_id(self, reg_id: int) -> bool:
        """SMIDR_EL1 is a plain register of the vCPU up to v6, the VM's later (5.2; 11C, 18)."""
        return reg_id in model.IMPLEMENTATION or (reg_id == SMIDR and self.series >= 7)

    def _set_imp_id(self, reg_id: int, value: int) -> None:
        """Section 11A(6)."""
        if value == self._value(reg_id):
            return
        if not self.vm.imp_id_writable:
            raise Refused(errno.EINVAL)
        if self.vm.ran:
            raise Refused(errno.EBUSY)
        if value & ~IMP_MASK.get(reg_id, WORD64):
            raise Refused(errno.EINVAL)
        self.vm.id_regs[reg_id] = value


class Guest(model.Guest):
    """Code at EL1 between entry and exit: as in model.py, with the ID registers' say on FFR and ZT0, and FPMR."""

    vcpu: Vcpu

    def __init__(self, vcpu: Vcpu) -> None:
        super().__init__(vcpu)
        self.fpmr = vcpu.regs.get(FPMR, 0)
        self._hide_ffr()

    def save(self) -> None:
        self._hide_ffr()
        super().save()
        self.vcpu.regs[FPMR] = self.fpmr

    def _hide_ffr(self) -> None:
        """The kernel neither loads FFR nor saves other than zero for it in a mode that has none."""
        if self._sm() and not self.vcpu.fa64:
            self.ffr = 0

    def _ffr_exists(self) -> bool:
        return self._scalable() and (not self._sm() or (self.vcpu.fa64 and bool(self.smcr & SMCR_FA64)))

    def _zt0_exists(self) -> bool:
        return self.vcpu.sme2 and bool(self.svcr & SVCR_ZA) and bool(self.smcr & SMCR_EZT0)

    def _write_svcr(self, value: int) -> None:
        if (value ^ self.svcr) & SVCR_SM:
            self.fpmr = 0
        super()._write_svcr(value)

    def get_fpmr(self) -> int:
        self._use(self.vcpu.fpmr)
        return self.fpmr

    def set_fpmr(self, value: int) -> None:
        self._use(self.vcpu.fpmr)
        self.fpmr = value & WORD64

    def get_smidr(self) -> int:
        """What userspace sees, if it does."""
        self._use(self.vcpu._visible(SMIDR))
        return self.vcpu._value(SMIDR)
