"""Host, Vm and Vcpu: the life cycle of a vCPU, KVM's ioctls as methods, errno as KvmError.

Source: arch/arm64/kvm/arm.c, reset.c, guest.c; rfc-v2.md section 2.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping, Sequence, Set
from enum import Enum
from types import TracebackType

from . import layout, onereg, reglist, sysreg
from .abi import RFC_V2, Abi
from .cpu import CpuFeatures
from .errors import KvmError
from .guest import Guest
from .onereg import VectorLengths
from .registers import Registers
from .sysreg import IdRegs

TARGET_GENERIC_V8 = 5
FEATURE_WORDS = 7
KVM_MAX_VCPUS = 512
KVM_CAP_ONE_REG = 70
KVM_CAP_ARM_SVE = 170


class Feature(Enum):
    """A vCPU feature (KVM_ARM_VCPU_*); the value is its bit, but for SME, whose bit is a matter of the revision."""

    POWER_OFF = 0
    EL1_32BIT = 1
    PSCI_0_2 = 2
    PMU_V3 = 3
    SVE = 4
    VEC = 4  # KVM_ARM_VCPU_VEC, what FINALIZE calls SVE and SME together
    PTRAUTH_ADDRESS = 5
    PTRAUTH_GENERIC = 6
    HAS_EL2 = 7
    SME = "sme"

    def bit(self, abi: Abi) -> int:
        """The feature's bit number in a revision; ValueError where the revision has no such feature."""
        if self is not Feature.SME:
            return int(self.value)
        if abi.sme_feature is None:
            raise ValueError(f"{abi.name} has no SME feature")
        return abi.sme_feature


FeatureSet = Set[Feature | int] | Sequence[int]


def feature_words(features: FeatureSet, abi: Abi) -> list[int]:
    """The seven feature words of struct kvm_vcpu_init for a set of features or bit numbers; words stay as they are."""
    if isinstance(features, Set):
        bits = {feature.bit(abi) if isinstance(feature, Feature) else feature for feature in features}
        if any(not 0 <= bit < 32 * FEATURE_WORDS for bit in bits):
            raise ValueError(f"a feature bit is 0 to {32 * FEATURE_WORDS - 1}")
        return [sum(1 << bit % 32 for bit in bits if bit // 32 == word) for word in range(FEATURE_WORDS)]
    words = list(features)
    if len(words) != FEATURE_WORDS or any(not 0 <= word < 1 << 32 for word in words):
        raise ValueError(f"features are a set, or {FEATURE_WORDS} words of 32 bits")
    return words


def _bits(*features: Feature) -> int:
    return sum(1 << int(feature.value) for feature in features)


_PTRAUTH = _bits(Feature.PTRAUTH_ADDRESS, Feature.PTRAUTH_GENERIC)


class Host:
    """A machine with a kernel of revision `abi`; an empty set of lengths: it lacks the feature.

    Lengths are in quadwords. `big_endian`: V lies byte-reversed in memory. `id_regs`: the ID registers (by register
    ID) as a vCPU with all features sees them. `features_offered`: the feature bits that INIT takes on this host.
    ValueError for a machine that cannot be: SVE without vq 1, an SME length that is not 1, 2, 4, 8 or 16.
    """

    def __init__(
        self,
        *,
        sve_vqs: Iterable[int] = (),
        sme_vqs: Iterable[int] = (),
        sme2: bool = False,
        fa64: bool = False,
        abi: Abi = RFC_V2,
        big_endian: bool = False,
        id_regs: Mapping[int, int] | None = None,
        features_offered: Iterable[int] | None = None,
    ) -> None:
        self.abi = abi
        self.sve_vqs = _checked_vqs("SVE", sve_vqs, set(range(1, layout.VQ_MAX + 1)))
        self.sme_vqs = _checked_vqs("SME", sme_vqs, {1, 2, 4, 8, 16})
        if self.sve_vqs and 1 not in self.sve_vqs:
            raise ValueError("a CPU with SVE has the length vq 1")
        self.sme2, self.fa64, self.big_endian = sme2, fa64, big_endian
        self.cpu = CpuFeatures(self.sve_vqs, self.sme_vqs if abi.has_sme else frozenset(), sme2, fa64)
        self.id_regs = sysreg.host_id_regs(bool(self.sve_vqs), self.has_sme, sme2, fa64) | dict(id_regs or {})
        self.features_offered = frozenset(self._default_features() if features_offered is None else features_offered)

    @property
    def has_sme(self) -> bool:
        """The kernel can use the host's SME (system_supports_sme())."""
        return bool(self.sme_vqs) and self.abi.has_sme

    def create_vm(self) -> Vm:
        """A VM without vCPUs (KVM_CREATE_VM)."""
        return Vm(self)

    def check_extension(self, cap: int) -> int:
        """The value of a capability that concerns registers; 0 for any other (KVM_CHECK_EXTENSION)."""
        if cap == KVM_CAP_ARM_SVE:
            return int(bool(self.sve_vqs))
        if cap == self.abi.sme_cap:
            return int(self.has_sme)
        return int(cap == KVM_CAP_ONE_REG)

    def _default_features(self) -> Iterable[int]:
        yield from (f.bit(self.abi) for f in (Feature.POWER_OFF, Feature.EL1_32BIT, Feature.PSCI_0_2, Feature.PMU_V3))
        if self.sve_vqs:
            yield Feature.SVE.bit(self.abi)
        if self.abi.sme_feature is not None and (self.has_sme or not self.abi.init_checks_host_sme):
            yield self.abi.sme_feature


def _checked_vqs(what: str, vqs: Iterable[int], possible: Set[int]) -> frozenset[int]:
    wrong = sorted(set(vqs := frozenset(vqs)) - possible)
    if wrong:
        lengths = ", ".join(map(str, sorted(possible)))
        raise ValueError(f"no CPU has the {what} length vq {wrong[0]}: there are {lengths}")
    return vqs


class Vm:
    """A virtual machine: its vCPUs and what they share, the feature set and the ID registers."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.vcpus: dict[int, Vcpu] = {}
        self.features: int | None = None
        self.id_regs = IdRegs(host.id_regs, host.abi.id_regs_writable)

    def create_vcpu(self, index: int) -> Vcpu:
        """A vCPU that is not initialised (KVM_CREATE_VCPU). EINVAL for a number out of range, EEXIST for one in use."""
        if not 0 <= index < KVM_MAX_VCPUS:
            raise KvmError(errno.EINVAL, f"a VM has vCPUs 0 to {KVM_MAX_VCPUS - 1}")
        if index in self.vcpus:
            raise KvmError(errno.EEXIST, f"the VM has a vCPU {index} already")
        self.vcpus[index] = Vcpu(self)
        return self.vcpus[index]

    def check_extension(self, cap: int) -> int:
        """The same as Host.check_extension."""
        return self.host.check_extension(cap)


class Vcpu(Registers):
    """One vCPU: its ioctls, and the kernel's buffers to look at. Made by Vm.create_vcpu.

    As in KVM one ioctl at a time runs on a vCPU: while a run's `with` block is open, any other call is RuntimeError.
    """

    def __init__(self, vm: Vm) -> None:
        host = vm.host
        super().__init__(host.abi, host.cpu, vm.id_regs, host.big_endian)
        self._vm = vm
        self._features = 0

    def init(self, features: FeatureSet, target: int = TARGET_GENERIC_V8) -> None:
        """The vCPU is reset and has these features: a set of Feature (or bit numbers), or the seven feature words.

        Errors in order (KVM_ARM_VCPU_INIT): EINVAL for another target, ENOENT for a bit that the kernel does not know,
        EINVAL for a feature that the host lacks or a combination that it refuses, EINVAL for other features than those
        that bind this vCPU.
        """
        self._check_idle()
        words = feature_words(features, self.abi)
        wanted = words[0] & ~_bits(Feature.POWER_OFF)
        if target != TARGET_GENERIC_V8:
            raise KvmError(errno.EINVAL, f"target {target} is not this host's CPU")
        if wanted >> self.abi.max_features or any(words[1:]):
            raise KvmError(errno.ENOENT, f"{self.abi.name} knows feature bits 0 to {self.abi.max_features - 1} only")
        self._check_offered(wanted)
        self._check_binding(wanted)
        self._features = wanted
        self._initialised = True
        if self._vm.features is None:
            self._vm.features = wanted
        self._reset()

    def finalize(self, feature: Feature | int) -> None:
        """The vector lengths are fixed, and the registers are there, all zero.

        Errors in order (KVM_ARM_VCPU_FINALIZE): ENOEXEC, EINVAL for a feature that is not VEC or that the vCPU lacks,
        EPERM the second time, EIO where the SVE length is not valid.
        """
        self._check_initialised()
        number = feature.bit(self.abi) if isinstance(feature, Feature) else feature
        if number != Feature.VEC.value:
            raise KvmError(errno.EINVAL, f"feature {number} is not one to finalize; VEC is {Feature.VEC.value}")
        if not self.lengths.has_vec:
            raise KvmError(errno.EINVAL, "the vCPU has neither SVE nor SME")
        if self._finalized:
            raise KvmError(errno.EPERM, "the vCPU's vectors are finalized already")
        if not self.lengths.sve_vq and not self.abi.sme_without_sve:
            raise KvmError(errno.EIO, f"{self.abi.name} checks the SVE length of a vCPU that has none")
        self._regs.allocate(self.max_vq, self._sme_state_bytes())
        self._finalized = True
        for reg_id in (*reglist.ZREGS, *reglist.PREGS):
            region = onereg.sve_reg_to_region(reg_id, self.abi, self.lengths, finalized=True)
            where = slice(region.koffset, region.koffset + region.klen)
            self._finalized_regions[reg_id] = (where, region.klen, bytes(region.upad))

    def get_reg_list(self, n: int | None = None) -> list[int]:
        """The vCPU's register IDs in the kernel's order; `n` is the room that the caller has for them.

        Errors in order (KVM_GET_REG_LIST): ENOEXEC, EPERM before FINALIZE, E2BIG, whose `n` is the real count.
        """
        self._check_initialised()
        self._check_finalized("the register list")
        ids = reglist.listed(self.lengths)
        if n is not None and n < len(ids):
            raise KvmError(errno.E2BIG, f"there are {len(ids)} registers, and room for {n}", n=len(ids))
        return list(ids)

    def run(self, *, immediate_exit: bool = False) -> Run:
        """The vCPU is loaded: memory is in guest format. `with vcpu.run() as guest` lets the guest act, then puts it.

        Errors in order (KVM_RUN): ENOEXEC, EPERM before FINALIZE, and with `immediate_exit` EINTR after the load.
        HostOops where the kernel of the revision crashes.
        """
        self._check_initialised()
        self._check_finalized("KVM_RUN")
        self._id_regs.fixed = True
        self._ownership.load()
        if immediate_exit:
            raise KvmError(errno.EINTR, "immediate_exit is set")
        return Run(self, Guest(self._regs, self._ownership, self._cpu))

    def _check_offered(self, wanted: int) -> None:
        offered = sum(1 << bit for bit in self._vm.host.features_offered)
        if wanted & ~offered:
            bit = (wanted & ~offered).bit_length() - 1
            raise KvmError(errno.EINVAL, f"this host does not offer feature {bit}")
        if 0 < wanted & _PTRAUTH < _PTRAUTH:
            raise KvmError(errno.EINVAL, "the two pointer authentication features come together")

    def _check_binding(self, wanted: int) -> None:
        """An initialised vCPU keeps its features; so do all vCPUs of a VM, or in old kernels their register width."""
        if self._initialised and wanted != self._features:
            raise KvmError(errno.EINVAL, "the vCPU was initialised with other features")
        if self._vm.features is None:
            return
        shared = -1 if self.abi.one_feature_set_per_vm else _bits(Feature.EL1_32BIT)
        if (wanted ^ self._vm.features) & shared:
            raise KvmError(errno.EINVAL, "another vCPU of the VM was initialised with other features")

    def _reset(self) -> None:
        """The registers have their reset values; the owner and final lengths stay (kvm_reset_vcpu())."""
        if not self._finalized:
            self._ownership.lengths = self._enabled_lengths()
        if self.lengths.sve_vq or self.abi.reset_zeroes_sme_only:
            self._regs.sve_state.clear()
        self._regs.sme_state.clear()
        self._regs.kvm_regs.clear()
        self._reset_sysregs()

    def _enabled_lengths(self) -> VectorLengths:
        sve = self._features >> Feature.SVE.bit(self.abi) & 1
        sme = self.abi.sme_feature is not None and self._features >> self.abi.sme_feature & 1
        return VectorLengths(
            sve_vq=max(self._cpu.sve_vqs, default=0) if sve else 0,
            sme_vq=max(self._cpu.sme_vqs, default=0) if sme else 0,
        )

    def _sme_state_bytes(self) -> int:
        if not self.lengths.sme_vq:
            return 0
        return layout.za_bytes(self.lengths.sme_vq) + (self.abi.zt0_allocation_bytes if self._cpu.sme2 else 0)

    def _check_finalized(self, what: str) -> None:
        if self.lengths.has_vec and not self._finalized:
            raise KvmError(errno.EPERM, f"{what}: the vCPU's vectors are not finalized")


class Run:
    """One KVM_RUN after its load: a context in which the guest acts; leaving it puts the vCPU."""

    def __init__(self, vcpu: Vcpu, guest: Guest) -> None:
        self._vcpu = vcpu
        self._guest = guest

    def __enter__(self) -> Guest:
        self._vcpu._enter_guest()
        return self._guest

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guest.leave()
        self._vcpu._leave_guest()
