"""A program's memory as an ioctl sees it: reads and writes that end where the memory does."""

from __future__ import annotations

import ctypes
import errno
import os
from abc import ABC, abstractmethod
from struct import Struct
from typing import Any


class Memory(ABC):
    """Memory by address; a kernel's copy_from_user() and copy_to_user()."""

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """The bytes from `address`: fewer than `size` where not all of them can be read."""

    @abstractmethod
    def write(self, address: int, data: bytes) -> int:
        """As much of `data` is at `address` as can be written: how many bytes."""

    def fetch(self, address: int, struct: Struct) -> tuple[Any, ...]:
        """The fields of the structure at `address`. EFAULT where not all of it can be read."""
        data = self.read(address, struct.size)
        if len(data) < struct.size:
            raise bad_address(address, struct.size)
        return struct.unpack(data)

    def store(self, address: int, data: bytes) -> None:
        """All of `data` is at `address`. EFAULT where not all of it can be written."""
        if self.write(address, data) < len(data):
            raise bad_address(address, len(data))


def bad_address(address: int, size: int) -> OSError:
    return OSError(errno.EFAULT, f"{size} bytes at 0x{address:x} are not the program's")


class OwnMemory(Memory):
    """The memory of this process, by process_vm_readv() and process_vm_writev(), which don't crash on a bad address."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._read, self._write = libc.process_vm_readv, libc.process_vm_writev
        for call in (self._read, self._write):
            call.restype = ctypes.c_ssize_t
            call.argtypes = (
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_ulong,
                ctypes.c_void_p,
                ctypes.c_ulong,
                ctypes.c_ulong,
            )

    def read(self, address: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        copied = self._copy(self._read, buffer, address, size)
        return buffer.raw[:copied]

    def write(self, address: int, data: bytes) -> int:
        return self._copy(self._write, ctypes.create_string_buffer(data, len(data)), address, len(data))

    @staticmethod
    def _copy(call: Any, buffer: ctypes.Array[ctypes.c_char], address: int, size: int) -> int:
        here, there = _IoVec(ctypes.addressof(buffer), size), _IoVec(address, size)
        copied: int = call(os.getpid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
        return max(0, copied)


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_uint64), ("size", ctypes.c_size_t))
