"""The file /dev/kvm: what the host offers, and new VMs."""

from __future__ import annotations

import errno
import mmap

from ..facts import uapi
from .backend import Kernel
from .file import Call, File, Kind, ioctl
from .vm import VmFile


class SystemFile(File):
    """An open /dev/kvm."""

    kind = Kind.KVM

    def __init__(self, kernel: Kernel) -> None:
        super().__init__("kvm", "/dev/kvm", kernel.host.abi.linux)
        self._kernel = kernel

    @ioctl(uapi.KVM_GET_API_VERSION)
    def get_api_version(self, call: Call) -> int:
        """12, for ever."""
        call.check_no_argument()
        return uapi.KVM_API_VERSION

    @ioctl(uapi.KVM_GET_VCPU_MMAP_SIZE)
    def get_vcpu_mmap_size(self, call: Call) -> int:
        """The bytes that a vCPU's file maps."""
        call.check_no_argument()
        return uapi.PAGES_OF_VCPU * mmap.PAGESIZE

    @ioctl(uapi.KVM_CHECK_EXTENSION)
    def check_extension(self, call: Call) -> int:
        """A capability's value, 0 for one that is not there."""
        call.detail = uapi.capability_name(call.arg, self._kernel.host.abi.sme_cap)
        if call.arg == uapi.KVM_CAP_MSI_DEVID:
            raise OSError(errno.EINVAL, "a VM has this capability, not /dev/kvm")
        return self._kernel.check_extension(self._kernel.machine, call.arg)

    @ioctl(uapi.KVM_CREATE_VM)
    def create_vm(self, call: Call) -> int:
        """A new VM; the argument is the size of its addresses in bits, 0 for 40. EINVAL for another size."""
        bits = call.arg or uapi.IPA_BITS_DEFAULT
        if not uapi.IPA_BITS_MIN <= bits <= uapi.IPA_BITS:
            raise OSError(errno.EINVAL, f"a VM's addresses have {uapi.IPA_BITS_MIN} to {uapi.IPA_BITS} bits")
        with self._kernel:
            vm = VmFile(self._kernel, self._kernel.machine.create_vm(), self._kernel.vms, call.memory.owner, bits)
            self._kernel.vms += 1
        call.detail = vm.name
        return call.install(vm)
