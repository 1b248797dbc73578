"""A VM's file: vCPUs, memory slots, devices, and the interrupt ioctls, which have nothing to interrupt."""

from __future__ import annotations

import errno
import mmap
from typing import Any

from ..facts import FEATURE_WORDS, TARGET_GENERIC_V8, uapi
from .backend import Kernel
from .file import Call, Kind, ioctl
from .gic import GROUPS, GicFile
from .interrupts import InterruptsFile
from .memslots import MemorySlots
from .vcpu import VcpuFile


class VmFile(InterruptsFile):
    """A VM: its part of the model, and its memory slots."""

    kind = Kind.VM

    def __init__(self, kernel: Kernel, vm: Any, number: int, owner: object, ipa_bits: int) -> None:
        super().__init__(f"vm {number}", "anon_inode:kvm-vm", kernel.host.abi.linux, owner)
        self._kernel = kernel
        self._vm = vm
        self._unrecorded = getattr(vm, "unrecorded", vm)
        self.slots = MemorySlots(ipa_bits)
        self._ipa_bits = ipa_bits
        self._filters: list[range] = [*uapi.SMCCC_RESERVED]
        self._unreachable: dict[int, VcpuFile] = {}  # for want of a descriptor: KVM would undo their creation

    @ioctl(uapi.KVM_CHECK_EXTENSION)
    def check_extension(self, call: Call) -> int:
        """A capability's value, 0 for one that is not there."""
        call.detail = uapi.capability_name(call.arg, self._kernel.host.abi.sme_cap)
        if call.arg == uapi.KVM_CAP_MSI_DEVID:
            return int(self.has_its)
        return self._kernel.check_extension(self._vm, call.arg)

    @ioctl(uapi.KVM_ENABLE_CAP)
    def enable_cap(self, call: Call) -> None:
        """The VM has a capability. EFAULT, then as Vm.enable_cap."""
        cap, flags, *_ = call.fetch(uapi.ENABLE_CAP)
        call.detail = uapi.capability_name(cap)
        if flags:
            raise OSError(errno.EINVAL, "KVM_ENABLE_CAP has no flags")
        if uapi.ENABLED_CAPABILITIES.get(cap, (99, 0)) <= self.linux:
            return
        with self._kernel:
            self._vm.enable_cap(cap)

    @ioctl(uapi.KVM_CREATE_VCPU)
    def create_vcpu(self, call: Call) -> int:
        """A new vCPU, not initialised; the argument is its index. EINVAL out of range, EEXIST in use."""
        index = call.arg
        if self.gic is not None and self.gic.is_initialised:
            raise OSError(errno.EBUSY, "the interrupt controller is initialised: it knows all vCPUs")
        if index not in self._unreachable:
            with self._kernel:
                vcpu = self._vm.create_vcpu(index)
            self._unreachable[index] = VcpuFile(self._kernel, vcpu, self, self.slots, index)
        call.detail = self._unreachable[index].name
        descriptor = call.install(self._unreachable[index])
        del self._unreachable[index]
        return descriptor

    @ioctl(uapi.KVM_ARM_PREFERRED_TARGET)
    def arm_preferred_target(self, call: Call) -> None:
        """The generic target, without features."""
        call.store(uapi.VCPU_INIT.pack(TARGET_GENERIC_V8, *[0] * FEATURE_WORDS))

    def has_vcpu(self, index: int) -> bool:
        """Whether the VM has a vCPU of this index."""
        return index in self._unrecorded.vcpus

    @ioctl(uapi.KVM_ARM_GET_REG_WRITABLE_MASKS, since=(6, 7))
    def arm_get_reg_writable_masks(self, call: Call) -> None:
        """The masks of ID registers are at the address. EFAULT, EINVAL for another range or reserved bytes, EFAULT."""
        address, which, reserved = call.fetch(uapi.REG_MASK_RANGE)
        if which or any(reserved):
            raise OSError(errno.EINVAL, "there is one range of registers, 0")
        masks = [0] * uapi.REG_MASKS
        for reg_id, mask in self._unrecorded.writable_masks.items():
            op1, crm, op2 = reg_id >> 11 & 7, reg_id >> 3 & 15, reg_id & 7
            masks[{0: 0, 1: 1, 3: 2}[op1] * 64 + crm * 8 + op2] = mask
        call.memory.store(address, b"".join(map(uapi.DWORD.pack, masks)))

    @ioctl(uapi.KVM_ARM_SET_COUNTER_OFFSET, since=(6, 4))
    def arm_set_counter_offset(self, call: Call) -> None:
        """Nothing counts here. EFAULT, EINVAL for reserved bits."""
        _, reserved = call.fetch(uapi.COUNTER_OFFSET)
        if reserved:
            raise OSError(errno.EINVAL, "the reserved field is 0")

    @ioctl(uapi.KVM_HAS_DEVICE_ATTR, since=(6, 4))
    def has_device_attr(self, call: Call) -> None:
        """0 for the filter of SMCCC calls. EFAULT, ENXIO."""
        _, group, attr, _ = call.fetch(uapi.DEVICE_ATTR)
        if (group, attr) != (uapi.KVM_ARM_VM_SMCCC_CTRL, 0):
            raise OSError(errno.ENXIO, "there is no such attribute")

    @ioctl(uapi.KVM_SET_DEVICE_ATTR, since=(6, 4))
    def set_device_attr(self, call: Call) -> None:
        """A range of SMCCC calls is filtered (kvm_smccc_set_filter()).

        Errors in order: EFAULT, ENXIO, EFAULT, EINVAL for padding, an empty range or an action that is none, EBUSY
        once a vCPU has run, EEXIST for a range that meets another, or the Arm architecture's own.
        """
        self.has_device_attr(call)
        *_, address = call.fetch(uapi.DEVICE_ATTR)
        first, number, action, padding = call.memory.fetch(address, uapi.SMCCC_FILTER)
        calls = range(first, first + number)
        if any(padding) or not calls or calls.stop > 1 << 32 or action not in uapi.SMCCC_ACTIONS:
            raise OSError(errno.EINVAL, "this is no filter of SMCCC calls")
        if self._unrecorded.has_run:
            raise OSError(errno.EBUSY, "a vCPU of the VM has run")
        if any(calls.start < other.stop and other.start < calls.stop for other in self._filters):
            raise OSError(errno.EEXIST, "some of these calls have a filter")
        self._filters.append(calls)

    # Memory

    @ioctl(uapi.KVM_SET_USER_MEMORY_REGION)
    def set_user_memory_region(self, call: Call) -> None:
        """A slot of guest memory is made, moved or (size 0) removed. EFAULT, then as MemorySlots.set."""
        slot, flags, guest_address, size, address = call.fetch(uapi.MEMORY_REGION)
        call.detail = f"slot {slot}, 0x{size:x} bytes at 0x{guest_address:x}"
        self.slots.set(slot, flags, guest_address, size, address)

    @ioctl(uapi.KVM_SET_USER_MEMORY_REGION2, since=(6, 8))
    def set_user_memory_region2(self, call: Call) -> None:
        """The same; guest_memfd is not there, so that its flag is EINVAL."""
        slot, flags, guest_address, size, address, *_ = call.fetch(uapi.MEMORY_REGION2)
        call.detail = f"slot {slot}, 0x{size:x} bytes at 0x{guest_address:x}"
        self.slots.set(slot, flags, guest_address, size, address)

    @ioctl(uapi.KVM_GET_DIRTY_LOG)
    def get_dirty_log(self, call: Call) -> None:
        """No page is dirty: guests store nothing. EFAULT, then ENOENT for a slot that keeps no log, EFAULT."""
        slot, _, bitmap = call.fetch(uapi.DIRTY_LOG)
        pages = self.slots.logged_bytes(slot) // mmap.PAGESIZE
        call.memory.store(bitmap, bytes((pages + 63) // 64 * 8))

    @ioctl(uapi.KVM_CLEAR_DIRTY_LOG)
    def clear_dirty_log(self, call: Call) -> None:
        """What is not dirty stays so. EFAULT, then ENOENT for a slot that keeps no log."""
        slot, *_ = call.fetch(uapi.CLEAR_DIRTY_LOG)
        self.slots.logged_bytes(slot)

    # Devices and interrupts

    @ioctl(uapi.KVM_CREATE_DEVICE)
    def create_device(self, call: Call) -> None:
        """A new device, whose descriptor is in the structure; with the flag TEST only whether there could be one.

        Errors in order: EFAULT, ENODEV for anything but a GICv3 and its ITS; for a GICv3 EEXIST where there is one,
        EBUSY once a vCPU has run.
        """
        kind, _, flags = call.fetch(uapi.CREATE_DEVICE)
        call.detail = f"type {kind}"
        if kind not in GROUPS:
            raise OSError(errno.ENODEV, "this host has a GICv3 with its ITS, and no other device")
        if flags & uapi.KVM_CREATE_DEVICE_TEST:
            return
        is_controller = kind == uapi.KVM_DEV_TYPE_ARM_VGIC_V3
        if is_controller and self.gic is not None:
            raise OSError(errno.EEXIST, "the VM has an interrupt controller already")
        if is_controller and self._unrecorded.has_run:
            raise OSError(errno.EBUSY, "a vCPU of the VM has run")
        created = GicFile(f"{self.name} device {kind}", kind, self.linux, self.owner, self._ipa_bits)
        descriptor = call.install(created)
        if is_controller:
            self.gic = created
        else:
            self.has_its = True
        call.store(uapi.CREATE_DEVICE.pack(kind, descriptor, flags))

    @ioctl(uapi.KVM_CREATE_IRQCHIP)
    def create_irqchip(self, call: Call) -> None:
        """ENODEV: that would be a GICv2, which this host lacks."""
        raise OSError(errno.ENODEV, "this host has no GICv2; KVM_CREATE_DEVICE makes a GICv3")

    @ioctl(uapi.KVM_ARM_SET_DEVICE_ADDR)
    def arm_set_device_addr(self, call: Call) -> None:
        """EFAULT, ENODEV: this places a GICv2, which this host lacks."""
        call.fetch(uapi.ONE_REG)
        raise OSError(errno.ENODEV, "this host has no GICv2")
