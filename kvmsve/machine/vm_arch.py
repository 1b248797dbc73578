"""What the vCPUs of one VM share: the host, the feature set, the ID registers (struct kvm_arch)."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from ..errors import KvmError
from ..facts import Abi, Feature, bits
from .cpu import CpuFeatures
from .idregs import IdRegs
from .mutex import Mutex, serialised


class VmArch:
    """One VM's part of the state that its vCPUs have in common; the host's part is as it was when the VM was made."""

    def __init__(
        self, abi: Abi, cpu: CpuFeatures, features_offered: frozenset[int], id_regs: Mapping[int, int], big_endian: bool
    ) -> None:
        self.abi = abi
        self.cpu = cpu
        self.features_offered = features_offered
        self.big_endian = big_endian
        self.id_regs = IdRegs(abi, id_regs)
        self.features: int | None = None
        self._mutex = Mutex()  # kvm->arch.config_lock

    @serialised
    def bind(self, features: int) -> None:
        """The first vCPU's features are the VM's; EINVAL for others, or in old kernels for another register width."""
        if self.features is None:
            self.features = features
        shared = -1 if self.abi.one_feature_set_per_vm else bits(Feature.EL1_32BIT)
        if (features ^ self.features) & shared:
            raise KvmError(errno.EINVAL, "another vCPU of the VM was initialised with other features")
