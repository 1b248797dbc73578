"""Executable model of the KVM/arm64 SVE/SME userspace register ABI: mainline (SVE only) and RFC v2 of the SME series.

Written from shared/spec/rfc-v2.md ("section" means a section of that text) and checked against the recordings, without
sight of the package it tests. Every register is a Python int; bytes exist only at the edge of the API.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import cache

import kernels
import model_id_registers

VALID_FEATURES = {
    "mainline-6.1": 0x7F,
    "mainline-6.12": 0x7F,
    "mainline-7.2": 0x1FF,
    "mainline-7.3": 0x3FF,
    "mainline-7.4": 0x3FF,
} | {
    "rfc-v2-posted": 0xFF,
    "rfc-v2-r1": 0x1FF,
    "rfc-v2-r123": 0x1FF,
    "rfc-v2": 0x1FF,
}

SVE, SME = 0, 1
FEATURE = (4, 8)
KVM_MAX_VQ = 16
SVCR_SM, SVCR_ZA = 1, 2
SMCR_EZT0, SMCR_FA64 = 1 << 30, 1 << 31
STREAMING_FPSR = 0x0800009F
TPIDR_RESET = 0x1DE7EC7EDBADC0DE
WORD64 = (1 << 64) - 1

CORE_BASE, CORE_SLOTS, FPSR, FPCR = 0x100000, 216, 0x60200000001000D4, 0x60200000001000D5
Z_BASE, P_BASE, FFR_ID = 0x6080000000150000, 0x6050000000150400, 0x6050000000150600
ZA_BASE, ZT0_ID = 0x6080000000170000, 0x6060000000170600
VLS_ID = (0x606000000015FFFF, 0x606000000017FFFF)
SYSREG = 0x6030000000130000
CPACR, ZCR, SMCR, SMIDR = SYSREG | 0xC082, SYSREG | 0xC090, SYSREG | 0xC096, SYSREG | 0xC806
SVCR, TPIDR2 = SYSREG | 0xDA12, SYSREG | 0xDE85
PFR0, PFR1, ZFR0, SMFR0 = SYSREG | 0xC020, SYSREG | 0xC021, SYSREG | 0xC024, SYSREG | 0xC025
OWNER = {ZCR: SVE, SMCR: SME, SMIDR: SME, SVCR: SME, TPIDR2: SME}
ID_OWNER = {PFR0: (SVE, 0xF << 32), ZFR0: (SVE, -1), PFR1: (SME, 0xF << 24), SMFR0: (SME, -1)}

PSTATE, MPIDR = 0x6030000000100042, 0x603000000013C005
CORE_U64 = [0x6030000000100000 | slot for slot in range(0, 0x52, 2)]
CORE_V = [0x6040000000100000 | slot for slot in range(0x54, 0xD4, 4)]
CORE_STATUS = [FPSR, FPCR]
SVE_IDS = [VLS_ID[SVE], *(Z_BASE | n << 5 for n in range(32)), *(P_BASE | n << 5 for n in range(17))]
FIRMWARE_IDS = [*(0x6030000000140000 | n for n in range(4)), *(0x6030000000160000 | n for n in range(3))]
TIMER_IDS = [SYSREG | low for low in (0xDF19, 0xDF1A, 0xDF02, 0xDF11, 0xDF01, 0xDF12)]
INVARIANT_IDS = [SYSREG | low for low in (0xC000, 0xC006, 0xC807, 0xD801)]
SYSREG_IDS = [
    SYSREG | low
    for low in (
        *sorted([0x8010, 0x8012, *(0x8000 | crm << 3 | op2 for crm in range(16) for op2 in range(4, 8))]),
        *(0x808C, 0xA038, 0xC005, *range(0xC008, 0xC040), 0xC080, 0xC081, 0xC082, 0xC090, 0xC096),
        *(0xC100, 0xC101, 0xC102, 0xC103, 0xC288, 0xC289, 0xC290, 0xC300, 0xC3A0, 0xC510, 0xC512, 0xC513, 0xC518),
        *(0xC600, 0xC609, 0xC681, 0xC684, 0xC708, 0xC801, 0xC806, 0xD000, 0xDA12, 0xDE82, 0xDE83, 0xDE85),
        *(0xE180, 0xE281, 0xE298),
    )
]
DEMUX_IDS = [0x6020000000110000 | n for n in range(14)]
OTHER_IDS = [*FIRMWARE_IDS, *TIMER_IDS, *INVARIANT_IDS, *SYSREG_IDS, *DEMUX_IDS]
OSLSR, CLIDR, CTR = SYSREG | 0x808C, SYSREG | 0xC801, SYSREG | 0xD801
IMPLEMENTATION = (SYSREG | 0xC000, SYSREG | 0xC006, SYSREG | 0xC807)  # MIDR_EL1, REVIDR_EL1, AIDR_EL1
PMU_FEATURE, POINTER_AUTHENTICATION = 3, 1 << 5 | 1 << 6


def inserted(ids: list[int], more: list[int]) -> list[int]:
    """The list with more system registers, each before the first sorted one that is greater."""
    ids, start = list(ids), ids.index(SYSREG | 0x8004)
    for reg_id in more:
        later = (n for n in range(start, len(ids)) if ids[n] > reg_id or ids[n] >> 52 != SYSREG >> 52)
        ids.insert(next(later), reg_id)
    return ids


@cache
def optional_ids(kernel: str) -> dict[str, frozenset[int]]:
    """What a real kernel lists more of a vCPU with a feature."""
    none = set(kernels.listed(kernel, "none"))
    return {feature: frozenset(set(kernels.listed(kernel, feature)) - none) for feature in ("pmu", "pauth")}


@cache
def other_ids(kernel: str | None) -> list[int]:
    """The list beside core and vectors of a vCPU with every feature; None is RFC v2, with the features of 6.12."""
    if kernel is not None:
        full = kernels.listed(kernel, "sve+pmu+pauth")
        return [reg_id for reg_id in full if reg_id >> 16 & 0xFFF not in (0x10, 0x15)]
    return inserted(OTHER_IDS, sorted(frozenset().union(*optional_ids("6.12").values())))


class Refused(Exception):
    """An ioctl that fails."""

    def __init__(self, number: int, room: int | None = None, wrote: bytes = b"") -> None:
        super().__init__(errno.errorcode[number])
        self.errno = number
        self.room = room
        self.wrote = wrote


class Oops(Exception):
    """The host kernel would crash here."""


class Undefined(Exception):
    """The guest instruction is UNDEFINED and has no effect."""


def extract(store: int, offset: int, size: int) -> int:
    """The `size` bytes at byte `offset`."""
    return store >> 8 * offset & (1 << 8 * size) - 1


def insert(store: int, offset: int, size: int, value: int) -> int:
    """`store` with the `size` bytes at byte `offset` replaced."""
    return store ^ (extract(store, offset, size) ^ value) << 8 * offset


def width(reg_id: int) -> int:
    """Bytes by the size field of an id."""
    return 1 << (reg_id >> 52 & 15)


def z_place(q: int, n: int) -> tuple[int, int]:
    """Section 1.6: offset and size of Z[n] in a layout of vector length q."""
    return 16 * q * n, 16 * q


def p_place(q: int, n: int) -> tuple[int, int]:
    """Section 1.6: offset and size of P[n]; FFR is P[16]."""
    return 512 * q + 2 * q * n, 2 * q


def relayout(store: int, old: int, new: int) -> int:
    """Section 4.2, rewrite(old -> new)."""
    if old == new:
        return store
    common = min(old, new)
    result = 0
    for place, count, unit in ((z_place, 32, 16), (p_place, 17, 2)):
        for n in range(count):
            value = extract(store, place(old, n)[0], unit * common)
            result = insert(result, place(new, n)[0], unit * common, value)
    return result


class Host:
    """The machine and its kernel."""

    def __init__(
        self,
        sve_vqs: list[int],
        sme_vqs: list[int],
        sme2: bool = False,
        fa64: bool = False,
        revision: str = "rfc-v2",
        big_endian: bool = False,
        id_regs: dict[int, int] | None = None,
        features_offered: set[int] | None = None,
    ) -> None:
        if revision not in VALID_FEATURES:
            raise ValueError(revision)
        self.revision = revision
        self.rfc = revision.startswith("rfc")
        self.fpmr = False
        self.sme_feature, self.vls_ids = FEATURE[SME], VLS_ID
        self.kernel = kernels.KERNELS.get("mainline-7.3" if revision == "mainline-7.4" else revision)
        self._know_registers()
        self.vqs = (frozenset(sve_vqs), frozenset(sme_vqs if self.rfc else ()))
        self.has = (bool(self.vqs[SVE]), bool(self.vqs[SME]))
        self.max_vq = tuple(min(max(vqs, default=0), KVM_MAX_VQ) for vqs in self.vqs)
        self.sme2 = sme2 and self.has[SME]
        self.fa64 = fa64 and self.has[SME]
        self.byteorder = "big" if big_endian else "little"
        self.repair_2_3 = revision in ("rfc-v2-r123", "rfc-v2")
        self.repair_4_5 = revision == "rfc-v2"
        self.id_regs = {
            PFR0: 0x11 | self.has[SVE] << 32,
            PFR1: (2 if self.sme2 else 1) << 24 if self.has[SME] else 0,
            ZFR0: int(self.has[SVE] or self.has[SME]),
            SMFR0: self.fa64 << 63 | self.sme2 << 56,
        } | dict(id_regs or {})
        self.valid_features = VALID_FEATURES[revision]
        if features_offered is None:
            features_offered = {0, 1, 2, 3} | ({8} if self.kernel in ("7.2", "7.3") else set())
            if self.has[SVE]:
                features_offered.add(FEATURE[SVE])
            if revision in ("rfc-v2-r1", "rfc-v2-r123") or (revision == "rfc-v2" and self.has[SME]):
                features_offered.add(FEATURE[SME])
        self.features_offered = frozenset(features_offered)

    def _know_registers(self) -> None:
        """Which registers there are beside core and vectors, and what makes the optional ones be there."""
        self.other_ids = other_ids(self.kernel)
        self.known = frozenset(self.other_ids)
        self.optional = optional_ids(self.kernel or "6.12")
        self.id_rules = model_id_registers.rules(self.revision, self.kernel)

    def create_vm(self) -> Vm:
        return Vm(self)

    def check_extension(self, cap: int) -> int:
        """Section 1.1."""
        writable_imp_id = {239: 1} if self.kernel in ("7.2", "7.3") else {}
        return (writable_imp_id | {70: 1, 170: int(self.has[SVE]), 231: int(self.has[SME])}).get(cap, 0)


class Vm:
    """A virtual machine: the feature set and the ID registers that its vCPUs share."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.features: int | None = None
        self.id_regs: dict[int, int] = {}
        self.ran = False
        self.indices: set[int] = set()
        self.imp_id_writable = False

    def enable_cap(self, cap: int) -> None:
        """Section 11E(24): before the first vCPU, in kernels that have it."""
        if cap != 239 or self.host.kernel not in ("7.2", "7.3") or self.indices:
            raise Refused(errno.EINVAL)
        self.imp_id_writable = True

    def create_vcpu(self, index: int) -> Vcpu:
        """KVM_CREATE_VCPU: 512 of them, each once; 6.1 looks at 32 bits of the number."""
        if self.host.kernel == "6.1":
            index %= 1 << 32
        if not 0 <= index < 512:
            raise Refused(errno.EINVAL)
        if index in self.indices:
            raise Refused(errno.EEXIST)
        self.indices.add(index)
        return self._new_vcpu(index)

    def _new_vcpu(self, index: int) -> Vcpu:
        return Vcpu(self, index)


class Vcpu:
    """A virtual CPU as its owner sees it through ioctls."""

    def __init__(self, vm: Vm, index: int) -> None:
        self.vm = vm
        self.host = vm.host
        self.index = index
        self.unwritten = 0  # entries that reg_list counted and did not write
        self.features: int | None = None
        self.finalized = False
        self.vq = [0, 0]
        self.banks = [0, 0]
        self.v = [0] * 32
        self.regs: dict[int, int] = {}
        self.failing = 0  # allocations of the kernel that will fail
        self.fp_state = "USER_OWNED" if all(self.host.has) else "FREE"

    @property
    def max_vq(self) -> int:
        """X of the notation."""
        return max(self.vq)

    @property
    def sve_state(self) -> bytes:
        """Section 1.6; empty before FINALIZE."""
        return self.banks[SVE].to_bytes(self._bank_size(SVE), "little")

    @property
    def sme_state(self) -> bytes:
        """Section 1.7; empty before FINALIZE and without SME."""
        return self.banks[SME].to_bytes(self._bank_size(SME), "little")

    @property
    def vregs(self) -> bytes:
        """V0..V31 as the host's memory holds them."""
        return b"".join(value.to_bytes(16, self.host.byteorder) for value in self.v)

    @property
    def fpsr(self) -> int:
        return self.regs.get(FPSR, 0)

    @property
    def fpcr(self) -> int:
        return self.regs.get(FPCR, 0)

    def has(self, kind: int) -> bool:
        """S (kind SVE) or M (kind SME) of the notation."""
        return self.features is not None and bool(self.features >> FEATURE[kind] & 1) and self.host.has[kind]

    @property
    def has_vector(self) -> bool:
        """S || M."""
        return self.has(SVE) or self.has(SME)

    @property
    def streaming(self) -> bool:
        """SM of the memory copy of SVCR."""
        return bool(self.regs.get(SVCR, 0) & SVCR_SM)

    def _bank_size(self, bank: int) -> int:
        if not self.finalized or (bank == SME and not self.has(SME)):
            return 0
        if bank == SVE:
            return 546 * self.max_vq
        return (16 * self.vq[SME]) ** 2 + (512 if self.host.sme2 else 0)

    # Life cycle, section 2.

    def init(self, words: list[int], target: int = 5) -> None:
        """Section 2.2; 6.1 compares the features with this vCPU's and the register width (bit 1) with the VM's, later
        kernels all features with the VM's."""
        if target != 5:
            raise Refused(errno.EINVAL)
        if words[0] & ~self.host.valid_features or any(words[1:]):
            raise Refused(errno.ENOENT)
        features = words[0] & ~1
        wanted = {bit for bit in range(32) if features >> bit & 1}
        known, width_differs = self.vm.features, False
        if self.host.revision == "mainline-6.1":
            width_differs = known is not None and bool((known ^ features) & 2)
            known = self.features
        offered = self.host.features_offered
        if self.host.kernel == "7.3" and PMU_FEATURE in wanted & offered:
            offered |= {9}
        if (
            not wanted <= offered
            or len(wanted & {5, 6}) == 1
            or (self.host.rfc and (wanted >= {7, FEATURE[SVE]} or wanted >= {7, 1}))
            or known not in (None, features)
            or width_differs
        ):
            raise Refused(errno.EINVAL)
        self.features = self.vm.features = features
        if not self.finalized:
            self.vq = [self.host.max_vq[kind] if self.has(kind) else 0 for kind in (SVE, SME)]
        self._reset()

    def _reset(self) -> None:
        """Section 2.6; fp_state stays as it is."""
        if self.has(SVE) or self.host.repair_4_5:
            self.banks[SVE] = 0
        self.banks[SME] = 0
        self.v = [0] * 32
        self.regs = {TPIDR2: TPIDR_RESET}

    def finalize(self, feature: int) -> None:
        """Section 2.4."""
        if self.features is None:
            raise Refused(errno.ENOEXEC)
        if feature != FEATURE[SVE] or not self.has_vector:
            raise Refused(errno.EINVAL)
        if self.finalized:
            raise Refused(errno.EPERM)
        if not self.vq[SVE] and not self.host.repair_2_3:
            raise Refused(errno.EIO)
        if self._allocation_fails() or (self.has(SME) and self._allocation_fails()):
            raise Refused(errno.ENOMEM)
        self.finalized = True
        self.banks = [0, 0]

    def fail_allocations(self, n: int) -> None:
        """The next n allocations fail, of the two of FINALIZE (section 2.4) and the one of each rewrite (4.2)."""
        self.failing = n

    def _allocation_fails(self) -> bool:
        fails = self.failing > 0
        self.failing -= fails
        return fails

    def reg_list(self, n: int | None = None) -> list[int]:
        """Section 2.7."""
        self._check_ready()
        ids = [*CORE_U64, *([] if self.has_vector else CORE_V), *CORE_STATUS]
        ids += [
            *(SVE_IDS if self.has(SVE) else []),
            *(reg_id for reg_id in self.host.other_ids if self._visible(reg_id)),
        ]
        if n is not None and n < len(ids):
            raise Refused(errno.E2BIG, room=len(ids))
        return ids

    def run(self, immediate_exit: bool = False) -> Guest:
        """Section 2.8: enter the guest."""
        self._check_ready()
        self.vm.ran = True
        self._user_to_guest()
        self.fp_state = "HOST_OWNED"
        if immediate_exit:
            raise Refused(errno.EINTR)
        return Guest(self)

    def put(self, guest: Guest) -> None:
        """The end of a run; saves the guest's registers if it used them."""
        if self.fp_state == "GUEST_OWNED":
            guest.save()

    def _check_ready(self) -> None:
        if self.features is None:
            raise Refused(errno.ENOEXEC)
        if self.has_vector and not self.finalized:
            raise Refused(errno.EPERM)

    # The two formats, section 4.2.

    def _needs_conversion(self) -> bool:
        cares = self.has(SME) if self.host.repair_2_3 else self.host.has[SME]
        return cares and not (self.has(SVE) and self.vq[SVE] == self.vq[SME])

    def _active_vq(self) -> int:
        return self.vq[SME] if self.streaming else self.vq[SVE]

    def _rewrite(self, old: int, new: int) -> None:
        """Section 4.2; equal lengths need no rewrite, and one without memory does nothing (Q13)."""
        if old != new and not self._allocation_fails():
            self.banks[SVE] = relayout(self.banks[SVE], old, new)

    def _user_to_guest(self) -> None:
        if self.fp_state != "USER_OWNED":
            return
        if self._needs_conversion():
            if self.has(SVE):
                self._rewrite(self.max_vq, self._active_vq())
            elif not self.has(SME):
                raise Oops("KVM_RUN of a vCPU with neither SVE nor SME")
            elif not self.streaming:
                self.v = [extract(self.banks[SVE], z_place(self.max_vq, n)[0], 16) for n in range(32)]
        self.fp_state = "FREE"

    def _guest_to_user(self) -> None:
        if self.fp_state == "USER_OWNED" or not self._needs_conversion():
            return
        if self.has(SVE):
            self._rewrite(self._active_vq(), self.max_vq)
        elif not self.streaming:
            self.banks[SVE] = 0
            for n, value in enumerate(self.v):
                self.banks[SVE] = insert(self.banks[SVE], z_place(self.max_vq, n)[0], 16, value)
        self.fp_state = "USER_OWNED"

    # Register access, section 3.

    def get(self, reg_id: int, room: int | None = None) -> bytes:
        """KVM_GET_ONE_REG; `room` is the number of writable bytes at the user's address."""
        coproc = self._check_id(reg_id)
        if coproc == 0x10:
            self._check_core(reg_id)
            data = self._load(reg_id)
        elif coproc == 0x15 or (coproc == 0x17 and self.host.rfc):
            if reg_id in VLS_ID:
                data = self._get_vls(VLS_ID.index(reg_id))
            else:
                bank, offset, size, user_size = self._vector(reg_id)
                data = extract(self.banks[bank], offset, size).to_bytes(user_size, "little")
        else:
            self._check_other(reg_id)
            data = self._load(reg_id)
        if room is not None and room < len(data):
            raise Refused(errno.EFAULT, wrote=b"" if coproc in (0x11, 0x13) else data[:room])
        return data

    def set(self, reg_id: int, data: bytes) -> None:
        """KVM_SET_ONE_REG; `data` is everything readable at the user's address."""
        coproc = self._check_id(reg_id)
        if coproc == 0x10:
            self._check_core(reg_id)
            self._store(reg_id, self._fetch(data, width(reg_id)))
        elif coproc == 0x15 or (coproc == 0x17 and self.host.rfc):
            if reg_id in VLS_ID:
                self._set_vls(VLS_ID.index(reg_id), data)
            else:
                self._set_vector(self._vector(reg_id), data)
        else:
            value = self._fetch(data, width(reg_id) if reg_id in self.host.known else 8)
            self._check_other(reg_id)
            self._store(reg_id, value)

    def _check_id(self, reg_id: int) -> int:
        """Section 3.0; returns the coprocessor field."""
        if self.features is None:
            raise Refused(errno.ENOEXEC)
        if (reg_id & ~(0xF << 52)) >> 32 != 0x60000000:
            raise Refused(errno.EINVAL)
        return reg_id >> 16 & 0xFFF

    def _check_core(self, reg_id: int) -> None:
        """Section 3.2."""
        slot = (reg_id & 0xFFFFFFFF) - CORE_BASE
        if slot >= CORE_SLOTS or slot + width(reg_id) // 4 >= CORE_SLOTS:
            raise Refused(errno.ENOENT)
        if reg_id not in (*CORE_U64, *CORE_STATUS) and (reg_id not in CORE_V or self.has_vector):
            raise Refused(errno.EINVAL)

    def _visible(self, reg_id: int) -> bool:
        return self._is_known(reg_id) and (reg_id not in OWNER or self.has(OWNER[reg_id]))

    def _is_known(self, reg_id: int) -> bool:
        """The kernel has it, and the vCPU the PMU or pointer authentication that it may be of."""
        if reg_id in self.host.optional["pmu"]:
            return bool(self.features >> PMU_FEATURE & 1)
        if reg_id in self.host.optional["pauth"]:
            return self.features & POINTER_AUTHENTICATION == POINTER_AUTHENTICATION
        return reg_id in self.host.known

    def _check_other(self, reg_id: int) -> None:
        """Section 3.3; SET fetches the value before this."""
        if not self._visible(reg_id):
            raise Refused(errno.ENOENT)

    def _fetch(self, data: bytes, size: int) -> int:
        if len(data) < size:
            raise Refused(errno.EFAULT)
        return int.from_bytes(data[:size], self.host.byteorder)

    def _load(self, reg_id: int) -> bytes:
        if reg_id == SMIDR and not self.host.repair_4_5:
            raise Oops("GET of SMIDR_EL1")
        if reg_id in CORE_V:
            value = self.v[CORE_V.index(reg_id)]
        elif self._is_id(reg_id):
            value = self._id_value(reg_id)
        else:
            value = self.regs.get(reg_id, self._reset_value(reg_id))
        return value.to_bytes(width(reg_id), self.host.byteorder)

    def _reset_value(self, reg_id: int) -> int:
        """Interrupts are masked at EL1, at EL2 where there is one, or in AArch32's SVC; vCPUs are 16 to a cluster."""
        if reg_id == PSTATE:
            aarch32, el2 = self.features >> 1 & 1, self.features >> 7 & 1
            return 0b1_1101_0011 if aarch32 else 0b11_1100_1001 if el2 else 0b11_1100_0101
        if reg_id == MPIDR:
            return 0x8000_0000 + self.index // 4096 * 0x1_0000 + self.index // 16 % 256 * 0x100 + self.index % 16
        if reg_id == OSLSR:
            return self.host.id_regs.get(reg_id, 8)
        return self.host.id_regs.get(reg_id, 0)

    def _store(self, reg_id: int, value: int) -> None:
        if reg_id in CORE_V:
            self.v[CORE_V.index(reg_id)] = value
        elif self._is_id(reg_id):
            self._set_id(reg_id, value)
        elif reg_id != SMIDR:
            self._check_value(reg_id, value)
            self.regs[reg_id] = value

    def _check_value(self, reg_id: int, value: int) -> None:
        """Registers of each vCPU that do not take every value (real kernels' answers; section 11E(24))."""
        present = int.from_bytes(self._load(reg_id), self.host.byteorder)
        if reg_id == OSLSR and value not in (8, 10):
            raise Refused(errno.EINVAL)
        if reg_id == CTR and value != present:
            raise Refused(errno.EINVAL)
        if reg_id == CLIDR and (value >> 47 if CTR in self.host.id_rules.registers else value != present):
            raise Refused(errno.EINVAL)

    def _is_id(self, reg_id: int) -> bool:
        """The VM has it, not the vCPU."""
        return reg_id in self.host.id_rules.registers or reg_id in IMPLEMENTATION

    def _get_vls(self, kind: int) -> bytes:
        """Section 2.3."""
        if not self.has(kind):
            raise Refused(errno.ENOENT)
        bits = sum(1 << vq - 1 for vq in self.host.vqs[kind] if vq <= self.vq[kind])
        return b"".join((bits >> 64 * word & WORD64).to_bytes(8, self.host.byteorder) for word in range(8))

    def _set_vls(self, kind: int, data: bytes) -> None:
        """Section 2.3."""
        if not self.has(kind):
            raise Refused(errno.ENOENT)
        if self.finalized:
            raise Refused(errno.EPERM)
        bits = sum(self._fetch(data[8 * word :], 8) << 64 * word for word in range(8))
        wanted = {vq for vq in range(1, 513) if bits >> vq - 1 & 1}
        top = max(wanted, default=0)
        if top == 0 or top > self.host.max_vq[kind] or wanted != {vq for vq in self.host.vqs[kind] if vq <= top}:
            raise Refused(errno.EINVAL)
        self.vq[kind] = top

    def _vector(self, reg_id: int) -> tuple[int, int, int, int]:
        """Where a vector register lies (bank, offset, size) and its size for the user; converts to the user format."""
        return self._sve_register(reg_id) if reg_id >> 16 & 0xFFF == 0x15 else self._sme_register(reg_id)

    def _sve_register(self, reg_id: int) -> tuple[int, int, int, int]:
        """Section 3.1, steps 2 to 7."""
        is_z = Z_BASE <= reg_id < Z_BASE + 0x400
        if not is_z and not P_BASE <= reg_id < FFR_ID + 0x20:
            raise Refused(errno.EINVAL)
        if not self.has_vector or reg_id & 0x1F:
            raise Refused(errno.ENOENT)
        if not self.vq[SVE] and not self.host.repair_2_3:
            raise Refused(errno.EINVAL)
        if not self.finalized:
            raise Refused(errno.EPERM)
        self._guest_to_user()
        place = z_place if is_z else p_place
        return SVE, *place(self.max_vq, reg_id >> 5 & 0x1F), 256 if is_z else 32

    def _sme_register(self, reg_id: int) -> tuple[int, int, int, int]:
        """Section 3.4, and repair R5 of section 8."""
        vq = self.vq[SME]
        rows = 16 * vq if self.host.repair_4_5 else 16 * (vq - 1)
        is_za = ZA_BASE <= reg_id <= ZA_BASE | (rows - 1 & 0x1FFF) << 5 | 0x1F
        is_zt0 = reg_id == ZT0_ID and self.host.repair_4_5
        if not is_za and not is_zt0:
            raise Refused(errno.EINVAL)
        if not self.has(SME) or (is_za and reg_id & 0x1F) or (is_zt0 and not self.host.sme2):
            raise Refused(errno.ENOENT)
        if not self.host.repair_4_5:
            raise Refused(errno.EINVAL)
        if not self.finalized:
            raise Refused(errno.EPERM)
        if is_zt0:
            return SME, (16 * vq) ** 2, 64, 64
        return SME, 16 * vq * ((reg_id - ZA_BASE) >> 5), 16 * vq, 256

    def _set_vector(self, place: tuple[int, int, int, int], data: bytes) -> None:
        """Section 3.1, step 8: a fault stores what came before it and zeroes the rest of the register."""
        bank, offset, size, _ = place
        self.banks[bank] = insert(self.banks[bank], offset, size, int.from_bytes(data[:size], "little"))
        if len(data) < size:
            raise Refused(errno.EFAULT)

    # ID registers, section 1.4, and section 11E(23, 24)

    def _id_hidden(self, reg_id: int) -> int:
        """The bits that the vCPU does not see."""
        kind, mask = ID_OWNER.get(reg_id, (SVE, 0))
        return (0 if self.has(kind) else mask) | model_id_registers.hidden(reg_id, self.features or 0)

    def _id_limit(self, reg_id: int) -> int:
        return self.host.id_regs.get(reg_id, 0) & ~self._id_hidden(reg_id)

    def _id_value(self, reg_id: int) -> int:
        return self.vm.id_regs.get(reg_id, self.host.id_regs.get(reg_id, 0)) & ~self._id_hidden(reg_id)

    def _set_id(self, reg_id: int, value: int) -> None:
        """The present value is taken; another until the VM has run, if it is a safe one (set_id_reg())."""
        if value == self._id_value(reg_id):
            return
        if reg_id in IMPLEMENTATION and not self.vm.imp_id_writable:
            raise Refused(errno.EINVAL)
        if self.vm.ran and self.host.kernel != "6.1":
            raise Refused(errno.EBUSY)
        if reg_id in IMPLEMENTATION:
            if reg_id == IMPLEMENTATION[0] and value >> 32:
                raise Refused(errno.EINVAL)
        elif not self.host.id_rules.takes(reg_id, value, self._id_limit(reg_id)):
            raise Refused(errno.EINVAL)
        self.vm.id_regs[reg_id] = value


def accessors(name: str, kind: int | None, mask: int) -> tuple[Callable[[Guest], int], Callable[[Guest, int], None]]:
    """Reader and writer of a guest register that has no side effects; `kind` is the feature that it needs."""

    def read(guest: Guest) -> int:
        guest._use(kind is None or guest.vcpu.has(kind))
        return getattr(guest, name)

    def write(guest: Guest, value: int) -> None:
        guest._use(kind is None or guest.vcpu.has(kind))
        setattr(guest, name, value & mask)

    return read, write


class Guest:
    """Code at EL1 between entry and exit, sections 4.4 and 7; the first use of FP makes the vCPU GUEST_OWNED."""

    def __init__(self, vcpu: Vcpu) -> None:
        """restore() of section 4.4. Memory cannot change during the run, so this may happen at entry."""
        self.vcpu = vcpu
        self.host = vcpu.host
        self.svcr = vcpu.regs.get(SVCR, 0) & (SVCR_SM | SVCR_ZA)
        self.zcr = vcpu.regs.get(ZCR, 0)
        self.smcr = vcpu.regs.get(SMCR, 0)
        self.fpsr = vcpu.fpsr
        self.fpcr = vcpu.fpcr
        self.p = [0] * 16
        self.ffr = 0
        self.za = self.zt0 = 0
        if self._scalable():
            q = self._full() // 16
            self.z = [extract(vcpu.banks[SVE], *z_place(q, n)) for n in range(32)]
            self.p = [extract(vcpu.banks[SVE], *p_place(q, n)) for n in range(16)]
            if not self._sm() or self.host.fa64:
                self.ffr = extract(vcpu.banks[SVE], *p_place(q, 16))
        else:
            self.z = list(vcpu.v)
        if self.svcr & SVCR_ZA:
            size = 16 * vcpu.vq[SME]
            self.za = extract(vcpu.banks[SME], 0, size * size)
            if self.host.sme2:
                self.zt0 = extract(vcpu.banks[SME], size * size, 64)

    def save(self) -> None:
        """save() of section 4.4."""
        vcpu = self.vcpu
        vcpu.regs[FPSR] = self.fpsr
        vcpu.regs[FPCR] = self.fpcr
        if vcpu.has(SVE):
            vcpu.regs[ZCR] = self.zcr
        if vcpu.has(SME):
            vcpu.regs[SVCR] = self.svcr
            vcpu.regs[SMCR] = self.smcr
        if self._scalable():
            q = self._full() // 16
            ffr = self.ffr if not self._sm() or self.host.fa64 else 0
            for place, values in ((z_place, self.z), (p_place, [*self.p, ffr])):
                for n, value in enumerate(values):
                    vcpu.banks[SVE] = insert(vcpu.banks[SVE], *place(q, n), value)
        else:
            vcpu.v = list(self.z)
        if self.svcr & SVCR_ZA:
            size = 16 * vcpu.vq[SME]
            vcpu.banks[SME] = insert(vcpu.banks[SME], 0, size * size, self.za)
            if self.host.sme2:
                vcpu.banks[SME] = insert(vcpu.banks[SME], size * size, 64, self.zt0)

    def _use(self, defined: bool = True) -> None:
        if not defined:
            raise Undefined
        self.vcpu.fp_state = "GUEST_OWNED"

    def _sm(self) -> bool:
        return bool(self.svcr & SVCR_SM)

    def _scalable(self) -> bool:
        return self.vcpu.has(SVE) or self._sm()

    def _full(self) -> int:
        """Bytes of a whole Z register in the current mode."""
        return 16 * (self.vcpu.vq[SME] if self._sm() else self.vcpu.vq[SVE] or 1)

    def _length(self, kind: int) -> int:
        """Section 7, effective lengths."""
        limit = min(((self.zcr, self.smcr)[kind] & 15) + 1, self.vcpu.vq[kind])
        vqs = self.host.vqs[kind]
        return 16 * max((vq for vq in vqs if vq <= limit), default=min(vqs))

    def _current(self) -> int:
        return self._length(SME if self._sm() else SVE) if self._scalable() else 16

    def _ffr_exists(self) -> bool:
        return self._scalable() and (not self._sm() or (self.host.fa64 and bool(self.smcr & SMCR_FA64)))

    def _zt0_exists(self) -> bool:
        return self.host.sme2 and bool(self.svcr & SVCR_ZA) and bool(self.smcr & SMCR_EZT0)

    def _write_svcr(self, value: int) -> None:
        """Section 7: what a change of SM or ZA does."""
        turned_on = value & ~self.svcr
        if (value ^ self.svcr) & SVCR_SM:
            self.z = [0] * 32
            self.p = [0] * 16
            self.ffr = 0
            self.fpsr = STREAMING_FPSR
        if turned_on & SVCR_ZA:
            self.za = self.zt0 = 0
        self.svcr = value & (SVCR_SM | SVCR_ZA)

    def smstart(self, sm: bool, za: bool) -> None:
        self._use(self.vcpu.has(SME))
        self._write_svcr(self.svcr | SVCR_SM * sm | SVCR_ZA * za)

    def smstop(self, sm: bool, za: bool) -> None:
        self._use(self.vcpu.has(SME))
        self._write_svcr(self.svcr & ~(SVCR_SM * sm | SVCR_ZA * za))

    def set_svcr(self, value: int) -> None:
        self._use(self.vcpu.has(SME))
        self._write_svcr(value)

    get_svcr = accessors("svcr", SME, SVCR_SM | SVCR_ZA)[0]
    get_zcr, set_zcr = accessors("zcr", SVE, WORD64)
    get_smcr, set_smcr = accessors("smcr", SME, WORD64)
    get_fpsr, set_fpsr = accessors("fpsr", None, 0xFFFFFFFF)
    get_fpcr, set_fpcr = accessors("fpcr", None, 0xFFFFFFFF)

    def get_tpidr2(self) -> int:
        self._use(self.vcpu.has(SME))
        return self.vcpu.regs[TPIDR2]

    def get_smpri(self) -> int:
        """Section 1.4: RES0 with SME, else UNDEFINED."""
        self._use(self.vcpu.has(SME))
        return 0

    def set_cpacr(self, value: int) -> None:
        """No FP use."""
        self.vcpu.regs[CPACR] = value & WORD64

    def vl(self) -> int:
        self._use(self._scalable())
        return self._current()

    def svl(self) -> int:
        self._use(self.vcpu.has(SME))
        return self._length(SME)

    def narrow(self, size: int) -> None:
        """The CPU drops what is beyond `size` bytes."""
        self._use()
        self.z = [extract(value, 0, size) for value in self.z]
        self.p = [extract(value, 0, size // 8) for value in self.p]
        self.ffr = extract(self.ffr, 0, size // 8)

    @staticmethod
    def _low(old: int, size: int, data: bytes) -> int:
        if len(data) != size:
            raise ValueError(f"{len(data)} bytes, not {size}")
        return insert(old, 0, size, int.from_bytes(data, "little"))

    def read_z(self, n: int) -> bytes:
        size = self.vl()
        return extract(self.z[n], 0, size).to_bytes(size, "little")

    def write_z(self, n: int, data: bytes) -> None:
        self.z[n] = self._low(self.z[n], self.vl(), data)

    def read_p(self, n: int) -> bytes:
        size = self.vl() // 8
        return extract(self.p[n], 0, size).to_bytes(size, "little")

    def write_p(self, n: int, data: bytes) -> None:
        self.p[n] = self._low(self.p[n], self.vl() // 8, data)

    def read_ffr(self) -> bytes:
        self._use(self._ffr_exists())
        size = self._current() // 8
        return extract(self.ffr, 0, size).to_bytes(size, "little")

    def write_ffr(self, data: bytes) -> None:
        self._use(self._ffr_exists())
        self.ffr = self._low(self.ffr, self._current() // 8, data)

    def read_v(self, n: int) -> bytes:
        self._use()
        return extract(self.z[n], 0, 16).to_bytes(16, "little")

    def write_v(self, n: int, data: bytes) -> None:
        """Clears the rest of Z, beyond the length in force too (FORMAT.md)."""
        self._use()
        self.z[n] = self._low(0, 16, data)

    def read_za(self, row: int) -> bytes:
        offset, size = self._za_place(row)
        return extract(self.za, offset, size).to_bytes(size, "little")

    def write_za(self, row: int, data: bytes) -> None:
        offset, size = self._za_place(row)
        self.za = insert(self.za, offset, size, self._low(0, size, data))

    def _za_place(self, row: int) -> tuple[int, int]:
        self._use(self.vcpu.has(SME) and bool(self.svcr & SVCR_ZA))
        size = self._length(SME)
        if not 0 <= row < size:
            raise ValueError(f"row {row} of {size}")
        return 16 * self.vcpu.vq[SME] * row, size

    def read_zt0(self) -> bytes:
        self._use(self._zt0_exists())
        return self.zt0.to_bytes(64, "little")

    def write_zt0(self, data: bytes) -> None:
        self._use(self._zt0_exists())
        self.zt0 = self._low(0, 64, data)
