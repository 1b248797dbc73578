"""The interrupt ioctls of a VM: what they refuse. Nothing is ever interrupted.

Source: virt/kvm/eventfd.c, arch/arm64/kvm/arm.c, kvm_vm_ioctl_irq_line(); and what real kernels answered
(tests/tables, part vgic).
"""

from __future__ import annotations

import errno

from ..facts import uapi
from .file import Call, File, accepted, ioctl
from .gic import GicFile


class InterruptsFile(File):
    """A file with the ioctls of interrupts; `gic` is the VM's controller, `vcpus` the indices that it has."""

    def __init__(self, name: str, link: str, linux: tuple[int, int], owner: object) -> None:
        super().__init__(name, link, linux, owner)
        self.gic: GicFile | None = None
        self.has_its = False

    def has_vcpu(self, index: int) -> bool:
        """Whether the VM has a vCPU of this index."""
        raise NotImplementedError

    @ioctl(uapi.KVM_IRQ_LINE)
    def irq_line(self, call: Call) -> None:
        """EFAULT; of a shared or private interrupt ENXIO without a controller, of a CPU's own with one; EINVAL."""
        line, _ = call.fetch(uapi.IRQ_LEVEL)
        kind, vcpu, number = line >> 24 & 0xF, line >> 16 & 0xFF | line >> 20 & 0xF00, line & 0xFFFF
        if kind > uapi.IRQ_TYPE_PPI:
            raise OSError(errno.EINVAL, f"interrupts have no type {kind}")
        if (kind == uapi.IRQ_TYPE_CPU) == (self.gic is not None):
            raise OSError(errno.ENXIO, "with a GIC a CPU has no lines of its own, without one it has no others")
        if kind != uapi.IRQ_TYPE_SPI and not self.has_vcpu(vcpu):
            raise OSError(errno.EINVAL, f"there is no vCPU {vcpu}")
        if self.gic is not None and kind == uapi.IRQ_TYPE_SPI:
            valid = number in range(uapi.SPIS.start, self.gic.interrupts)
        else:
            valid = number in (range(2), uapi.SPIS, uapi.PPIS)[kind]
        if not valid:
            raise OSError(errno.EINVAL, f"there is no interrupt {number} of this type")

    @ioctl(uapi.KVM_SET_GSI_ROUTING)
    def set_gsi_routing(self, call: Call) -> None:
        """EFAULT, EINVAL for more entries than there can be, or a flag."""
        entries, flags = call.fetch(uapi.IRQ_ROUTING)
        if flags or entries > uapi.IRQ_ROUTES:
            raise OSError(errno.EINVAL, f"there are {uapi.IRQ_ROUTES} routes, and no flags")

    @ioctl(uapi.KVM_IRQFD)
    def irqfd(self, call: Call) -> None:
        """EFAULT, EINVAL for a flag that there is not, EAGAIN before the controller is initialised."""
        _, _, flags, _ = call.fetch(uapi.IRQFD)
        if flags & ~uapi.IRQFD_FLAGS:
            raise OSError(errno.EINVAL, f"KVM_IRQFD flags 0x{flags:x}")
        if not flags & uapi.KVM_IRQFD_FLAG_DEASSIGN and not (self.gic and self.gic.is_initialised):
            raise OSError(errno.EAGAIN, "the interrupt controller is not initialised")

    @ioctl(uapi.KVM_IOEVENTFD)
    def ioeventfd(self, call: Call) -> None:
        """EFAULT, EINVAL for a length that is none, or an end beyond all addresses."""
        _, address, length, _, _ = call.fetch(uapi.IOEVENTFD)
        if length not in (0, 1, 2, 4, 8) or address + length >= 1 << 64:
            raise OSError(errno.EINVAL, "a store has 1, 2, 4 or 8 bytes, or any number (0)")

    @ioctl(uapi.KVM_SIGNAL_MSI)
    def signal_msi(self, call: Call) -> None:
        """EFAULT, EINVAL without a controller, ENODEV without a translation service."""
        call.memory.fetch(call.arg, uapi.IRQFD)
        if self.gic is None:
            raise OSError(errno.EINVAL, "there is no interrupt controller")
        if not self.has_its:
            raise OSError(errno.ENODEV, "there is no ITS to take the message")

    register_coalesced_mmio = accepted(uapi.KVM_REGISTER_COALESCED_MMIO)
    unregister_coalesced_mmio = accepted(uapi.KVM_UNREGISTER_COALESCED_MMIO)
