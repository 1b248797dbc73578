"""Host and Vm: what the vCPUs of a machine, and of one virtual machine, have in common."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping

from ..errors import KvmError, check_flag, check_number
from ..facts import RFC_V2, Abi, Feature, check_bit, layout
from ..rules import checked_values, host_id_regs
from . import right_ways
from .closed import Settled
from .cpu import POWERS_OF_TWO, CpuFeatures, check_sve_set, checked_vqs
from .mutex import Mutex, serialised
from .vcpu import Vcpu
from .vm_arch import VmArch

KVM_MAX_VCPUS = 512
KVM_CAP_ONE_REG = 70
KVM_CAP_ARM_SVE = 170


class Host(Settled):
    """A machine with a kernel of revision `abi`; an empty set of lengths: it lacks the feature.

    Lengths are in quadwords. `big_endian`: V lies byte-reversed in memory. `id_regs`: the ID registers (by register
    ID) as a vCPU with all features sees them. `features_offered`: the feature bits that INIT takes on this host, else
    those that a CPU has with `pmu`, `pointer_authentication`, and `nested` virtualisation (vCPUs with EL2).
    ValueError for a machine that cannot be: SVE without a power of two below its largest length (SME has no such rule:
    Arm ARM, VL and SVL), an SME length that is not 1, 2, 4, 8 or 16. Its CPU and its kernel do not change; another
    `features_offered` or `id_regs` is for VMs that are made from then on.
    """

    __slots__ = (
        "__weakref__", "abi", "big_endian", "cpu", "fa64", "features_offered", "fpmr", "id_regs", "sme2", "sme_vqs",
        "sve_vqs",
    )  # fmt: skip
    NOUN = "a host"
    FIXED = frozenset({"abi", "cpu", "fa64", "fpmr", "sme2", "sme_vqs", "sve_vqs"})
    RIGHT_WAYS = right_ways.HOST

    def __init__(
        self,
        *,
        sve_vqs: Iterable[int] = (),
        sme_vqs: Iterable[int] = (),
        sme2: bool = False,
        fa64: bool = False,
        fpmr: bool = False,
        abi: Abi = RFC_V2,
        big_endian: bool = False,
        id_regs: Mapping[int, int] | None = None,
        features_offered: Iterable[int] | None = None,
        pmu: bool = True,
        pointer_authentication: bool = False,
        nested: bool = False,
    ) -> None:
        if not isinstance(abi, Abi):
            raise TypeError(f"abi is a revision such as kvmsve.RFC_V2; kvmsve.abi({abi!r}) may find it")
        self.abi = abi
        self.sve_vqs = checked_vqs("SVE", sve_vqs, set(range(1, layout.VQ_MAX + 1)))
        self.sme_vqs = checked_vqs("SME", sme_vqs, POWERS_OF_TWO)
        check_sve_set(self.sve_vqs)
        flags = {"sme2": sme2, "fa64": fa64, "fpmr": fpmr, "big_endian": big_endian, "pmu": pmu, "nested": nested}
        for what, flag in (*flags.items(), ("pointer_authentication", pointer_authentication)):
            check_flag(what, flag)
        self.sme2, self.fa64, self.fpmr, self.big_endian = sme2, fa64, fpmr, big_endian
        self.cpu = CpuFeatures(self.sve_vqs, self.sme_vqs, sme2, fa64, fpmr and abi.has_fpmr)
        known_id_regs = checked_values(id_regs or {})
        self.id_regs = host_id_regs(bool(self.sve_vqs), self.has_sme, sme2, fa64, self.cpu.fpmr) | known_id_regs
        if features_offered is None:
            features_offered = self._features(pmu, pointer_authentication, nested)
        self.features_offered = frozenset(map(check_bit, features_offered))

    @property
    def has_sme(self) -> bool:
        """The kernel can use the host's SME (system_supports_sme())."""
        return bool(self.sme_vqs) and self.abi.has_sme

    def create_vm(self) -> Vm:
        """A VM without vCPUs (KVM_CREATE_VM)."""
        return Vm(self)

    def check_extension(self, cap: int) -> int:
        """The value of a capability that concerns registers; 0 for any other (KVM_CHECK_EXTENSION)."""
        cap = check_number("a capability", cap, 0, 1 << 64)
        if cap == KVM_CAP_ARM_SVE:
            return int(bool(self.sve_vqs))
        if cap == self.abi.sme_cap:
            return int(self.has_sme)
        return int(cap in (KVM_CAP_ONE_REG, self.abi.imp_id_cap))

    def _features(self, pmu: bool, pointer_authentication: bool, nested: bool) -> Iterator[int]:
        present = {
            Feature.POWER_OFF: True,
            Feature.EL1_32BIT: True,
            Feature.PSCI_0_2: True,
            Feature.PMU_V3: pmu,
            Feature.SVE: bool(self.sve_vqs),
            Feature.PTRAUTH_ADDRESS: pointer_authentication,
            Feature.PTRAUTH_GENERIC: pointer_authentication,
            Feature.HAS_EL2: nested,
            Feature.HAS_EL2_E2H0: self.abi.has_e2h0,
        }
        yield from (int(feature.value) for feature, is_there in present.items() if is_there)
        if self.abi.sme_feature is not None and (self.has_sme or not self.abi.init_checks_host_sme):
            yield self.abi.sme_feature


class Vm(Settled):
    """A virtual machine: its vCPUs and what they share, the feature set and the ID registers."""

    __slots__ = ("__weakref__", "_arch", "_mutex", "host", "vcpus")
    NOUN = "a VM"
    FIXED = frozenset({"host", "vcpus"})
    RIGHT_WAYS = right_ways.VM

    def __init__(self, host: Host) -> None:
        self.host = host
        self.vcpus: dict[int, Vcpu] = {}
        self._arch = VmArch(host.abi, host.cpu, host.features_offered, host.id_regs, host.big_endian)
        self._mutex = Mutex()  # kvm->lock

    @serialised
    def create_vcpu(self, index: int) -> Vcpu:
        """A vCPU that is not initialised (KVM_CREATE_VCPU). EINVAL for a number out of range, EEXIST for one in use.

        `index` is the ioctl's argument: an unsigned long, of which older kernels take 32 bits.
        """
        index = check_number("a vCPU's index", index, -(1 << 31), 1 << 64)
        if not self.host.abi.long_vcpu_index:
            index &= 0xFFFF_FFFF
        if not 0 <= index < KVM_MAX_VCPUS:
            raise KvmError(errno.EINVAL, f"a VM has vCPUs 0 to {KVM_MAX_VCPUS - 1}")
        if index in self.vcpus:
            raise KvmError(errno.EEXIST, f"the VM has a vCPU {index} already")
        self.vcpus[index] = Vcpu(self._arch, index)
        return self.vcpus[index]

    @property
    def writable_masks(self) -> dict[int, int]:
        """The bits of ID registers that can be written, by register (KVM_ARM_GET_REG_WRITABLE_MASKS)."""
        return dict(self.host.abi.id_masks)

    @property
    def has_run(self) -> bool:
        """A vCPU of the VM has run; what has to be there before can no more be made."""
        return self._arch.id_regs.fixed

    @property
    def features(self) -> int | None:
        """The feature bits that bind every vCPU, None before the first INIT."""
        return self._arch.features

    def check_extension(self, cap: int) -> int:
        """The same as Host.check_extension."""
        return self.host.check_extension(cap)

    @serialised
    def enable_cap(self, cap: int) -> None:
        """The VM has a capability (KVM_ENABLE_CAP). EINVAL for one that concerns no register, or after a vCPU."""
        cap = check_number("a capability", cap, 0, 1 << 64)
        if cap != self.host.abi.imp_id_cap:
            raise KvmError(errno.EINVAL, f"capability {cap} cannot be enabled")
        if self.vcpus:
            raise KvmError(errno.EINVAL, f"capability {cap}: the VM has vCPUs already")
        self._arch.id_regs.imp_id_writable = True
