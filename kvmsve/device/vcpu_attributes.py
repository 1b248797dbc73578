"""The attributes of a vCPU: the PMU's, the timers' interrupts, and where stolen time is told.

Source: arch/arm64/kvm/pmu-emul.c, arch_timer.c and pvtime.c; and what real kernels answered (tests/tables).
"""

from __future__ import annotations

import errno
from struct import Struct
from typing import Any

from ..facts import Feature, bits, uapi
from .attributes import AttributesFile
from .interrupts import InterruptsFile
from .memslots import MemorySlots

PMU_INIT = uapi.KVM_ARM_VCPU_PMU_V3_CTRL, uapi.PMU_INIT
PMU_COUNTERS = 4  # the youngest of the PMU's attributes
OF_EL2 = 2  # the first of the timers' attributes that concern timers of EL2


class VcpuAttributesFile(AttributesFile):
    """A vCPU's file as far as its attributes go."""

    def __init__(self, name: str, link: str, vcpu: Any, vm: InterruptsFile, slots: MemorySlots) -> None:
        super().__init__(name, link, vm.linux, vm.owner)
        self.vcpu = vcpu
        self.vm = vm
        self.slots = slots
        self.has_run = False

    def attribute_struct(self, group: int, attr: int) -> Struct | None:
        """The PMU's attributes of a vCPU that has one, the timers' interrupts, and where stolen time is told."""
        if group == uapi.KVM_ARM_VCPU_PMU_V3_CTRL and self.vcpu.feature_words[0] & bits(Feature.PMU_V3):
            return uapi.PMU_ATTRIBUTES.get(attr) if attr < PMU_COUNTERS or self.linux >= (7, 0) else None
        if group == uapi.KVM_ARM_VCPU_TIMER_CTRL:
            known = attr in uapi.TIMER_INTERRUPTS and (attr < OF_EL2 or self.linux >= (6, 4))
            return uapi.WORD if known else None
        return uapi.DWORD if (group, attr) == (uapi.KVM_ARM_VCPU_PVTIME_CTRL, 0) else None

    def attribute_value(self, group: int, attr: int, struct: Struct) -> bytes:
        """As last set, else the timers' own interrupts, and no place for stolen time."""
        if not self.has_been_set(group, attr):
            if group == uapi.KVM_ARM_VCPU_TIMER_CTRL:
                return struct.pack(uapi.TIMER_INTERRUPTS[attr])
            if group == uapi.KVM_ARM_VCPU_PVTIME_CTRL:
                return struct.pack(uapi.PVTIME_UNSET)
        return super().attribute_value(group, attr, struct)

    def check_attribute(self, group: int, attr: int, *values: int) -> None:
        """EBUSY, ENODEV, EINVAL and EEXIST in the order of the kernel's functions for each group."""
        if group == uapi.KVM_ARM_VCPU_PMU_V3_CTRL:
            if self.has_been_set(*PMU_INIT):
                raise OSError(errno.EBUSY, "the PMU is set up")
            if (group, attr) == PMU_INIT and self.vm.gic is not None and not self.vm.gic.is_initialised:
                raise OSError(errno.ENODEV, "the interrupt controller is not initialised")
        elif group == uapi.KVM_ARM_VCPU_TIMER_CTRL:
            if self.vm.gic is None or values[0] not in uapi.PPIS:
                raise OSError(errno.EINVAL, "a timer has one of a GIC's private interrupts, 16 to 31")
            if self.has_run:
                raise OSError(errno.EBUSY, "the vCPU has run")
        elif group == uapi.KVM_ARM_VCPU_PVTIME_CTRL:
            if values[0] % uapi.PVTIME_ALIGNMENT:
                raise OSError(errno.EINVAL, "stolen time is told at an address of 64 bytes")
            if self.has_been_set(group, attr):
                raise OSError(errno.EEXIST, "stolen time has its place")
            if not self.slots.has(values[0]):
                raise OSError(errno.EINVAL, "no memory slot has this address")
