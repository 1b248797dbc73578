"""Vcpu: its life cycle, KVM's ioctls as methods, errno as KvmError.

Source: arch/arm64/kvm/arm.c, reset.c, guest.c; rfc-v2.md section 2.
"""

from __future__ import annotations

import errno

from ..errors import KvmError, check_flag, check_number
from ..facts import (
    FEATURE_WORDS,
    PTRAUTH,
    TARGET_GENERIC_V8,
    Feature,
    FeatureSet,
    bits,
    feature_words,
    layout,
)
from ..rules import VectorLengths, reglist, sysreg
from . import right_ways
from .closed import Settled
from .guest import Guest
from .mutex import serialised
from .registers import Registers
from .vm_arch import VmArch


class Vcpu(Registers):
    """One vCPU: its ioctls, and the kernel's buffers to look at. Made by Vm.create_vcpu.

    Ioctls from several threads take turns, as under vcpu->mutex; KVM asks for one thread a vCPU, and is only slower
    where there are more. While a run's `with` block is open, any other call is RuntimeError, in every thread: KVM
    would wait. A guest is for one thread. Different vCPUs, also of one VM, may be used by different threads.
    """

    __slots__ = ("_arch", "_features", "_index", "_listings")
    NOUN = "a vCPU"
    RIGHT_WAYS = right_ways.VCPU

    def __init__(self, arch: VmArch, index: int) -> None:
        super().__init__(arch.abi, arch.cpu, arch.id_regs, arch.big_endian)
        self._arch = arch
        self._index = index
        self._features = 0
        self._listings: dict[object, reglist.Listing] = {}  # by what a list depends on, as it is dear to make

    @property
    def feature_words(self) -> tuple[int, ...]:
        """The seven words of the INIT that the vCPU has had, but for POWER_OFF, which is no lasting feature."""
        return (self._features, *[0] * (FEATURE_WORDS - 1))

    @serialised
    def init(self, features: FeatureSet, target: int = TARGET_GENERIC_V8) -> None:
        """The vCPU is reset and has these features: a set of Feature (or bit numbers), or the seven feature words.

        Errors in order (KVM_ARM_VCPU_INIT): EINVAL for another target, ENOENT for a bit that the kernel does not know,
        EINVAL for a feature that the host lacks or a combination that it refuses, EINVAL for other features than those
        that bind this vCPU.
        """
        self._check_idle()
        words = feature_words(features, self._abi)
        wanted = words[0] & ~bits(Feature.POWER_OFF)
        target = check_number("a target", target, 0, 1 << 32)
        if target != TARGET_GENERIC_V8:
            raise KvmError(errno.EINVAL, f"target {target} is not this host's CPU")
        if wanted >> self._abi.max_features or any(words[1:]):
            raise KvmError(errno.ENOENT, f"{self._abi.name} knows feature bits 0 to {self._abi.max_features - 1} only")
        self._check_offered(wanted)
        if self._initialised and wanted != self._features:
            raise KvmError(errno.EINVAL, "the vCPU was initialised with other features")
        self._arch.bind(wanted)
        self._features = wanted
        self._system.features = wanted
        self._initialised = True
        self._reset()

    @serialised
    def finalize(self, feature: Feature | int) -> None:
        """The vector lengths are fixed, and the registers are there, all zero.

        Errors in order (KVM_ARM_VCPU_FINALIZE): ENOEXEC, EINVAL for a feature that is not VEC or that the vCPU lacks,
        EPERM the second time, EIO where the SVE length is not valid, ENOMEM if an allocation is made to fail.
        """
        self.check_initialised()
        number = feature.bit(self._abi) if isinstance(feature, Feature) else feature
        number = check_number("a feature", number, -(1 << 31), 1 << 31)
        if number != Feature.VEC.value:
            raise KvmError(errno.EINVAL, f"feature {number} is not one to finalize; VEC is {Feature.VEC.value}")
        if not self.lengths.has_vec:
            raise KvmError(errno.EINVAL, "the vCPU has neither SVE nor SME")
        if self._finalized:
            raise KvmError(errno.EPERM, "the vCPU's vectors are finalized already")
        if not self.lengths.sve_vq and not self._abi.sme_without_sve:
            raise KvmError(errno.EIO, f"{self._abi.name} checks the SVE length of a vCPU that has none")
        if self._regs.allocation_fails():
            raise KvmError(errno.ENOMEM, "the kernel has no memory for the vectors")
        self._regs.allocate(self.max_vq, self._sme_state_bytes())
        self._finalized = True
        self._select_regions()

    @serialised
    def fail_allocations(self, n: int = 1) -> None:
        """The next n allocations that the kernel makes for this vCPU will fail.

        FINALIZE makes one for Z, P and FFR and one for ZA; each rewrite between two lengths makes one.
        """
        self._regs.failing_allocations = check_number("n", n, 0, 1 << 31)

    @serialised
    def get_reg_list(self, n: int | None = None) -> list[int]:
        """The vCPU's register IDs in the kernel's order; `n` is the room that the caller has for them.

        Errors in order (KVM_GET_REG_LIST): ENOEXEC, EPERM before FINALIZE, E2BIG, whose `n` is the real count.
        """
        self.check_initialised()
        self.check_finalized("the register list")
        room = None if n is None else check_number("n", n, 0, 1 << 64)
        listing = self.listing
        if room is not None and room < listing.n:
            raise KvmError(errno.E2BIG, f"there are {listing.n} registers, and room for {room}", n=listing.n)
        return list(listing.ids)

    @property
    def listing(self) -> reglist.Listing:
        """What KVM_GET_REG_LIST has to say, whether it would or not."""
        reach, gates = self._reach, self._system.gates
        known = (reach.lengths, reach.view, reach.za_is_on, reach.has_sme2, gates)
        if known not in self._listings:
            self._listings[known] = reglist.listing(reach, gates)
        return self._listings[known]

    @serialised
    def run(self, *, immediate_exit: bool = False, fails: int | None = None) -> Run:
        """The vCPU is loaded: memory is in guest format. `with vcpu.run() as guest` lets the guest act, then puts it.

        Errors in order (KVM_RUN): ENOEXEC, EPERM before FINALIZE, `fails`, which is the errno of what else the kernel
        prepares for a first run (an interrupt controller without addresses, a PMU that is not set up), and with
        `immediate_exit` EINTR after the load. HostOops where the kernel of the revision crashes.
        """
        is_interrupted = check_flag("immediate_exit", immediate_exit)
        self.check_initialised()
        self.check_finalized("KVM_RUN")
        if fails is None or self._abi.failed_run_freezes:
            self._system.enter()
        if fails is not None:
            raise KvmError(fails, "the kernel could not prepare the first run")
        self._regions = {}
        self._ownership.load()
        if is_interrupted:
            raise KvmError(errno.EINTR, "immediate_exit is set")
        cpu = self._cpu._replace(sme2=self._has_sme2, fa64=self._has_fa64, fpmr=self._system.has_fpmr)
        self._loaded = run = Run(self, Guest(self._regs, self._ownership, cpu, self._system.guest_smidr))
        self._table = {}
        return run

    def _check_offered(self, wanted: int) -> None:
        offered = sum(1 << bit for bit in self._arch.features_offered)
        if self._abi.has_strict_pmu and wanted & offered & bits(Feature.PMU_V3):
            offered |= bits(Feature.PMU_V3_STRICT)
        if wanted & ~offered:
            bit = (wanted & ~offered).bit_length() - 1
            raise KvmError(errno.EINVAL, f"this host does not offer feature {bit}")
        if 0 < wanted & PTRAUTH < PTRAUTH:
            raise KvmError(errno.EINVAL, "the two pointer authentication features come together")
        if wanted & bits(Feature.HAS_EL2) and wanted & self._refused_with_el2():
            raise KvmError(errno.EINVAL, "a vCPU with EL2 has neither a 32-bit EL1 nor, in this revision, SVE")

    def _refused_with_el2(self) -> int:
        return bits(Feature.EL1_32BIT, Feature.SVE) if self._abi.el2_refuses_sve else bits(Feature.EL1_32BIT)

    def _reset(self) -> None:
        """The registers have their reset values; the owner and final lengths stay (kvm_reset_vcpu())."""
        if not self._finalized:
            self._ownership.lengths = self._enabled_lengths()
        if self.lengths.sve_vq or self._abi.reset_zeroes_sme_only:
            self._regs.sve_state.clear()
        self._regs.sme_state.clear()
        is_aarch32 = bool(self._features & bits(Feature.EL1_32BIT))
        has_el2 = bool(self._features & bits(Feature.HAS_EL2))
        self._regs.reset_kvm_regs(sysreg.reset_pstate(is_aarch32, has_el2))
        self._system.reset(self._index)
        self._select_regions()

    def _enabled_lengths(self) -> VectorLengths:
        sve = self._features >> Feature.SVE.bit(self._abi) & 1
        sme = self._abi.sme_feature is not None and self._features >> self._abi.sme_feature & 1
        return VectorLengths(
            sve_vq=max(self._cpu.sve_vqs, default=0) if sve else 0,
            sme_vq=max(self._cpu.sme_vqs, default=0) if sme else 0,
        )

    def _sme_state_bytes(self) -> int:
        if not self.lengths.sme_vq:
            return 0
        return layout.za_bytes(self.lengths.sme_vq) + (self._abi.zt0_allocation_bytes if self._cpu.sme2 else 0)

    def check_finalized(self, what: str) -> None:
        if self.lengths.has_vec and not self._finalized:
            raise KvmError(errno.EPERM, f"{what}: the vCPU's vectors are not finalized")


class Run(Settled):
    """One KVM_RUN after its load: a context in which the guest acts; leaving it puts the vCPU."""

    __slots__ = ("_guest", "_vcpu")
    NOUN = "a run"
    RIGHT_WAYS = right_ways.RUN

    def __init__(self, vcpu: Vcpu, guest: Guest) -> None:
        self._vcpu = vcpu
        self._guest = guest

    def __enter__(self) -> Guest:
        self._vcpu.enter_guest(self)
        return self._guest

    def __exit__(self, *raised: object) -> None:
        try:
            self._guest.leave()
        finally:
            self._vcpu.leave_guest()
