"""Our /dev/kvm, in process: open it, and make a VMM's ioctls, with the numbers and structures of <linux/kvm.h>.

    device = Device(host)
    kvm = device.open()
    vm = device.ioctl(kvm, uapi.KVM_CREATE_VM)
    vcpu = device.ioctl(vm, uapi.KVM_CREATE_VCPU, 0)
    device.ioctl(vcpu, uapi.KVM_ARM_VCPU_INIT, uapi.VCPU_INIT.pack(5, 1 << 4, 0, 0, 0, 0, 0, 0))

Descriptors are real: os.close, os.dup, mmap.mmap and select.poll take them. `launch` puts all this in front of a
program. What a call does to a vCPU is in machine.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..errors import HostOops
from ..facts import uapi
from ..machine import Host
from .backend import Kernel
from .descriptors import Descriptors, Identity, identity
from .file import Call, File, ForeignFile, Kind
from .memory import Memory, ProcessMemory
from .script import Script, idle
from .system import SystemFile
from .trace import trace_line

__all__ = ["Device", "host", "launch", "program", "script", "shim", "uapi"]  # modules are imported when asked for


class Device:
    """A /dev/kvm of a host; programs that look at more than vectors want one of device.host.create_host.

    `machine` is what the calls are made on: the host, or the Recorder that kvmsve.record gives. `script` says what
    guests do in KVM_RUN. `trace` is called with a line for every ioctl. A run whose guest has nothing to do lasts
    `pause` seconds.
    """

    def __init__(
        self,
        host: Host,
        machine: Any = None,
        script: Script = idle,
        trace: Callable[[str], None] | None = None,
        pause: float = 0.0,
    ) -> None:
        self._kernel = Kernel(host, machine or host, script, pause)
        self._descriptors = Descriptors()
        self._trace = trace
        self._memories = threading.local()
        self._give_back = weakref.finalize(self, self._descriptors.close)

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> int:
        """A descriptor of /dev/kvm, the caller's to close."""
        return self.open_file(self._descriptors.install)

    def ioctl(self, descriptor: int, request: int, arg: Any = 0) -> int:
        """What ioctl(descriptor, request, arg) returns; OSError where it fails.

        `arg` is a number or a buffer: the ioctl gets its address. bytes are copied first. Errors in order: EBADF;
        ENOTTY for a descriptor that is none of KVM's; EIO for a VM, and all that belongs to it, that another process
        has made (kvm_vm_ioctl(): kvm->mm); ENOTTY for an ioctl that the file does not have; then the ioctl's own.
        HostOops where the kernel of the revision crashes.
        """
        which, install = identity(descriptor), self._descriptors.install
        if isinstance(arg, int):
            return self.call(which, request, arg, self._own_memory(), install)
        data = ctypes.create_string_buffer(arg, len(arg)) if isinstance(arg, bytes) else memoryview(arg).cast("B")
        pinned = data if isinstance(data, ctypes.Array) else (ctypes.c_char * len(data)).from_buffer(data)
        return self.call(which, request, ctypes.addressof(pinned), self._own_memory(), install)

    def sweep(self) -> list[str]:
        """Files that no program has open any more are gone: their names. Each new file does it, too."""
        return self._descriptors.sweep()

    def close(self) -> None:
        """No call is at work on the model, and none will be: it is ENODEV. The device has no descriptors any more.

        Those that open() and ioctl() have returned are the caller's to close.
        """
        self._kernel.shut_down()
        self._give_back()

    def _foreign_file(self, kind: int) -> File | None:
        if kind == Kind.KVM:
            return SystemFile(self._kernel)
        return ForeignFile(Kind(kind)) if kind else None

    def _own_memory(self) -> ProcessMemory:
        memory: ProcessMemory | None = getattr(self._memories, "memory", None)
        if memory is None or memory.pid != os.getpid():
            memory = self._memories.memory = ProcessMemory(os.getpid())
        return memory

    # For a server, which answers for the memory and the descriptors of another process

    def open_file(self, install: Callable[[File], int]) -> int:
        """What the program that opens /dev/kvm gets from `install`."""
        return install(SystemFile(self._kernel))

    def create_descriptor(self, file: File) -> int:
        """A new descriptor of a file, to be passed on."""
        return self._descriptors.install(file)

    def call(
        self, which: Identity, request: int, arg: int, memory: Memory, install: Callable[[File], int], kind: int = 0
    ) -> int:
        """As ioctl, for a program with this memory, which gets new files from `install`.

        A file that is not this device's, but of a kind that is KVM's, is another process's.
        """
        file = self._descriptors.find(which) or self._foreign_file(kind)
        if file is None:
            raise OSError(errno.ENOTTY, "the descriptor is none of KVM's")
        call = Call(arg & (1 << 64) - 1, memory, install)
        request &= 0xFFFF_FFFF
        outcome: int | OSError | HostOops
        try:
            outcome = file.ioctl(request, call)
        except (OSError, HostOops) as error:
            outcome = error
        if self._trace is not None:
            self._trace(trace_line(memory.name, file, request, call, outcome))
        if isinstance(outcome, int):
            return outcome
        raise outcome
