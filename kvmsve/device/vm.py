"""A VM's file: vCPUs, memory slots, devices, and the interrupt ioctls, which have nothing to interrupt."""

from __future__ import annotations

import errno
import mmap
from typing import Any

from ..facts import FEATURE_WORDS, TARGET_GENERIC_V8, uapi
from .backend import Kernel
from .file import Call, File, Kind, accepted, ioctl
from .gic import GROUPS, GicFile
from .memslots import MemorySlots
from .vcpu import VcpuFile


class VmFile(File):
    """A VM: its part of the model, and its memory slots."""

    kind = Kind.VM

    def __init__(self, kernel: Kernel, vm: Any, number: int, owner: object) -> None:
        super().__init__(f"vm {number}", "anon_inode:kvm-vm", owner)
        self._kernel = kernel
        self._vm = vm
        self._slots = MemorySlots()
        self._has_gic = False
        self._unreachable: dict[int, VcpuFile] = {}  # for want of a descriptor: KVM would undo their creation

    @ioctl(uapi.KVM_CHECK_EXTENSION)
    def check_extension(self, call: Call) -> int:
        """A capability's value, 0 for one that is not there."""
        call.detail = uapi.capability_name(call.arg)
        return self._kernel.check_extension(self._vm, call.arg)

    @ioctl(uapi.KVM_ENABLE_CAP)
    def enable_cap(self, call: Call) -> None:
        """The VM has a capability. EFAULT, then as Vm.enable_cap."""
        cap, flags, *_ = call.fetch(uapi.ENABLE_CAP)
        call.detail = uapi.capability_name(cap)
        if flags:
            raise OSError(errno.EINVAL, "KVM_ENABLE_CAP has no flags")
        with self._kernel:
            self._vm.enable_cap(cap)

    @ioctl(uapi.KVM_CREATE_VCPU)
    def create_vcpu(self, call: Call) -> int:
        """A new vCPU, not initialised; the argument is its index. EINVAL out of range, EEXIST in use."""
        index = call.arg & 0xFFFF_FFFF
        if index not in self._unreachable:
            with self._kernel:
                vcpu = self._vm.create_vcpu(index - (index >> 31 << 32))
            self._unreachable[index] = VcpuFile(self._kernel, vcpu, self, index)
        call.detail = self._unreachable[index].name
        descriptor = call.install(self._unreachable[index])
        del self._unreachable[index]
        return descriptor

    @ioctl(uapi.KVM_ARM_PREFERRED_TARGET)
    def arm_preferred_target(self, call: Call) -> None:
        """The generic target, without features."""
        call.store(uapi.VCPU_INIT.pack(TARGET_GENERIC_V8, *[0] * FEATURE_WORDS))

    # Memory

    @ioctl(uapi.KVM_SET_USER_MEMORY_REGION)
    def set_user_memory_region(self, call: Call) -> None:
        """A slot of guest memory is made, moved or (size 0) removed. EFAULT, then as MemorySlots.set."""
        slot, flags, guest_address, size, address = call.fetch(uapi.MEMORY_REGION)
        call.detail = f"slot {slot}, 0x{size:x} bytes at 0x{guest_address:x}"
        self._slots.set(slot, flags, guest_address, size, address)

    @ioctl(uapi.KVM_GET_DIRTY_LOG)
    def get_dirty_log(self, call: Call) -> None:
        """No page is dirty: guests store nothing. EFAULT, then ENOENT for a slot that keeps no log, EFAULT."""
        slot, _, bitmap = call.fetch(uapi.DIRTY_LOG)
        pages = self._slots.logged_bytes(slot) // mmap.PAGESIZE
        call.memory.store(bitmap, bytes((pages + 63) // 64 * 8))

    @ioctl(uapi.KVM_CLEAR_DIRTY_LOG)
    def clear_dirty_log(self, call: Call) -> None:
        """What is not dirty stays so. EFAULT, then ENOENT for a slot that keeps no log."""
        slot, *_ = call.fetch(uapi.CLEAR_DIRTY_LOG)
        self._slots.logged_bytes(slot)

    register_coalesced_mmio = accepted(uapi.KVM_REGISTER_COALESCED_MMIO)
    unregister_coalesced_mmio = accepted(uapi.KVM_UNREGISTER_COALESCED_MMIO)

    # Devices and interrupts

    @ioctl(uapi.KVM_CREATE_DEVICE)
    def create_device(self, call: Call) -> None:
        """A new device, whose descriptor is in the structure; with the flag TEST only whether there could be one.

        Errors in order: EFAULT, ENODEV for anything but a GICv3 and its ITS, EEXIST for a second GICv3.
        """
        kind, _, flags = call.fetch(uapi.CREATE_DEVICE)
        call.detail = f"type {kind}"
        if kind not in GROUPS:
            raise OSError(errno.ENODEV, "this host has a GICv3 with its ITS, and no other device")
        if flags & uapi.KVM_CREATE_DEVICE_TEST:
            return
        if kind == uapi.KVM_DEV_TYPE_ARM_VGIC_V3 and self._has_gic:
            raise OSError(errno.EEXIST, "the VM has an interrupt controller already")
        descriptor = call.install(GicFile(f"{self.name} device {kind}", kind, self.owner))
        self._has_gic |= kind == uapi.KVM_DEV_TYPE_ARM_VGIC_V3
        call.store(uapi.CREATE_DEVICE.pack(kind, descriptor, flags))

    @ioctl(uapi.KVM_CREATE_IRQCHIP)
    def create_irqchip(self, call: Call) -> None:
        """ENODEV: that would be a GICv2, which this host lacks."""
        raise OSError(errno.ENODEV, "this host has no GICv2; KVM_CREATE_DEVICE makes a GICv3")

    @ioctl(uapi.KVM_ARM_SET_DEVICE_ADDR)
    def arm_set_device_addr(self, call: Call) -> None:
        """ENODEV: this places a GICv2, which this host lacks."""
        raise OSError(errno.ENODEV, "this host has no GICv2")

    irq_line = accepted(uapi.KVM_IRQ_LINE)
    set_gsi_routing = accepted(uapi.KVM_SET_GSI_ROUTING)
    irqfd = accepted(uapi.KVM_IRQFD)
    ioeventfd = accepted(uapi.KVM_IOEVENTFD)
    signal_msi = accepted(uapi.KVM_SIGNAL_MSI)
