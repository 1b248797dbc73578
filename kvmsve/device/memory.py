"""A program's memory as an ioctl sees it: reads and writes that end where the memory does."""

from __future__ import annotations

import ctypes
import errno
import os
from abc import ABC, abstractmethod
from struct import Struct
from typing import Any

BUFFER_BYTES = 4096  # that are kept; a larger access makes a larger buffer


class Memory(ABC):
    """Memory by address; a kernel's copy_from_user() and copy_to_user()."""

    @property
    @abstractmethod
    def owner(self) -> object:
        """Whose memory this is: equal for all that share it, for ever another where it is another process's."""

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


class ProcessMemory(Memory):
    """The memory of a process, by process_vm_readv() and process_vm_writev(), which don't crash on a bad address.

    One thread at a time uses it. OSError where the system does not let the caller at that memory at all, or cannot.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._buffer = ctypes.create_string_buffer(BUFFER_BYTES)
        self._here, self._there = _IoVec(), _IoVec()
        self._vectors = ctypes.byref(self._here), 1, ctypes.byref(self._there), 1, 0

    @property
    def owner(self) -> object:
        return self.pid

    def read(self, address: int, size: int) -> bytes:
        copied = self._copy(_read_process, address, size)
        return ctypes.string_at(self._buffer, copied)

    def write(self, address: int, data: bytes) -> int:
        self._make_room(len(data))
        ctypes.memmove(self._buffer, data, len(data))
        return self._copy(_write_process, address, len(data))

    def _make_room(self, size: int) -> None:
        if size > len(self._buffer):
            self._buffer = ctypes.create_string_buffer(size)

    def _copy(self, call: Any, address: int, size: int) -> int:
        self._make_room(size)
        self._here.base, self._here.size = ctypes.addressof(self._buffer), size
        self._there.base, self._there.size = address, size
        copied: int = call(self.pid, *self._vectors)
        if copied < 0:
            error = ctypes.get_errno()
            if error != errno.EFAULT:
                raise OSError(error, f"{call.__name__}() on process {self.pid}: {os.strerror(error)}")
        return max(0, copied)


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_uint64), ("size", ctypes.c_size_t))


def _process_call(name: str) -> Any:
    call = getattr(ctypes.CDLL(None, use_errno=True), name)
    call.restype = ctypes.c_ssize_t
    vectors = ctypes.POINTER(_IoVec), ctypes.c_ulong
    call.argtypes = (ctypes.c_int, *vectors, *vectors, ctypes.c_ulong)
    return call


_read_process, _write_process = _process_call("process_vm_readv"), _process_call("process_vm_writev")
