"""What an open file of KVM is: a class with a method for each ioctl, found by its number."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Any, ClassVar

from ..facts import uapi
from .memory import Memory


@dataclass(slots=True)
class Call:
    """One ioctl of a program: its argument, the program's memory, and how the program gets a descriptor of a new file.

    `detail` is what a reader of the trace wants to know besides name and outcome, or gives that.
    """

    arg: int
    memory: Memory
    install: Callable[[File], int]
    detail: str | Callable[[], str] = ""

    def fetch(self, struct: Struct) -> tuple[Any, ...]:
        """The structure that the argument points to; EFAULT."""
        return self.memory.fetch(self.arg, struct)

    def store(self, data: bytes) -> None:
        """The argument points to this; EFAULT."""
        self.memory.store(self.arg, data)

    def check_no_argument(self) -> None:
        """EINVAL for an argument that is not 0."""
        if self.arg:
            raise OSError(errno.EINVAL, "the argument is 0")


Handler = Callable[[Any, Call], int | None]


def ioctl(request: int, since: tuple[int, int] = uapi.ALWAYS) -> Callable[[Handler], Handler]:
    """The decorated method, which is named as the ioctl is, answers it, in kernels from `since` on; None is 0."""

    def mark(handler: Handler) -> Handler:
        handler.__dict__.update(request=request, since=since)
        return handler

    return mark


def accepted(request: int) -> Handler:
    """A method that answers this ioctl with 0 and does nothing; EFAULT where its structure cannot be read."""

    def accept(_: File, call: Call) -> None:
        call.fetch(Struct(f"{uapi.ioctl_bytes(request)}x"))

    return ioctl(request)(accept)


class Kind(IntEnum):
    """What a program's descriptor stands for; enum kind of csrc/shim/shim.h."""

    KVM = 1
    VM = 2
    VCPU = 3
    CONTROLLER = 4


class File:
    """An open file of KVM, of a `kind`; `link` is what /proc/self/fd says of it.

    `page` is the descriptor of what a program maps, once the file is installed. `owner` is the address space whose
    ioctls are answered, None for any.
    """

    kind: Kind
    mapped_bytes = 0
    handlers: ClassVar[dict[int, tuple[str, Handler, tuple[int, int]]]] = {}

    def __init_subclass__(cls) -> None:
        """A subclass answers what its bases do, and what its own marked methods say."""
        marked = {
            method.request: (f"KVM_{name.upper()}", method, method.since)
            for name, method in vars(cls).items()
            if hasattr(method, "request")
        }
        cls.handlers = {**cls.handlers, **marked}

    def __init__(self, name: str, link: str, linux: tuple[int, int], owner: object = None) -> None:
        self.name = name
        self.linux = linux
        self.link = link
        self.owner = owner
        self.page = -1
        self._mutex = threading.Lock()

    def ioctl(self, request: int, call: Call) -> int:
        """What the ioctl returns; OSError for an errno: EIO in another process than the one that made the VM, before
        EINVAL where this file has no such ioctl, which is ENOTTY of a controller (kvm_arch_vm_ioctl() and the like).

        One ioctl at a time is at work on a file, as on a vCPU in KVM.
        """
        if self.owner is not None and self.owner != call.memory.owner:
            raise OSError(errno.EIO, "another process has made the VM")
        known = self.handlers.get(request)
        if known is None or known[2] > self.linux:
            unknown = errno.ENOTTY if self.kind is Kind.CONTROLLER else errno.EINVAL
            raise OSError(unknown, "there is no such ioctl here")
        with self._mutex:
            return known[1](self, call) or 0

    @property
    def is_at_work(self) -> bool:
        """Whether an ioctl has begun and not ended."""
        return self._mutex.locked()

    def close(self) -> None:
        """No program has the file open: for a call that comes too late there is no page, EBADF."""
        page, self.page = self.page, -1
        os.close(page)

    def ioctl_name(self, request: int) -> str:
        """The ioctl's name, as far as it is known."""
        if request in self.handlers:
            return self.handlers[request][0]
        return uapi.UNKNOWN_IOCTLS.get(uapi.ioctl_number(request), f"ioctl 0x{request:x}")


class ForeignFile(File):
    """A file that belongs to a VM of a process that is answered elsewhere: all its ioctls are EIO."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(f"another process's {kind.name.lower()}", "", uapi.ALWAYS, owner=object())
