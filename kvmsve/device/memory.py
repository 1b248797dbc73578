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
    """Memory by address; a kernel's copy_from_user() and copy_to_user().

    `owner` is whose it is: equal for all that share it, for ever another where it is another process's. The trace
    tells its `name`.
    """

    owner: object
    name = ""

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
        self.pid = self.owner = pid
        self._make_room(BUFFER_BYTES)

    def read(self, address: int, size: int) -> bytes:
        return self._buffer[: self._copy(_read_process, address, size)].tobytes()

    def write(self, address: int, data: bytes) -> int:
        size = len(data)
        if size > len(self._buffer):
            self._make_room(size)
        self._buffer[:size] = data
        return self._copy(_write_process, address, size)

    def _make_room(self, size: int) -> None:
        """A buffer, and the arguments of a call with two vectors: to make them is most of what a call costs."""
        buffer = ctypes.create_string_buffer(size)
        vectors = (ctypes.c_uint64 * 4)(ctypes.addressof(buffer))  # base and size, here and there
        here, there = (ctypes.c_void_p(ctypes.addressof(vectors) + offset) for offset in (0, 16))
        self._buffer = memoryview(buffer).cast("B")
        self._vectors = memoryview(vectors).cast("B").cast("Q")
        one = ctypes.c_ulong(1)
        self._arguments = ctypes.c_int(self.pid), here, one, there, one, ctypes.c_ulong(0)

    def _copy(self, call: Any, address: int, size: int) -> int:
        if size > len(self._buffer):
            self._make_room(size)
        vectors = self._vectors
        vectors[1], vectors[2], vectors[3] = size, address, size
        copied: int = call(*self._arguments)
        if copied < 0:
            error = ctypes.get_errno()
            if error != errno.EFAULT:
                raise OSError(error, f"{call.__name__}() on process {self.pid}: {os.strerror(error)}")
        return max(0, copied)


def _process_call(name: str) -> Any:
    call = getattr(ctypes.CDLL(None, use_errno=True), name)
    call.restype = ctypes.c_ssize_t
    return call


_read_process, _write_process = _process_call("process_vm_readv"), _process_call("process_vm_writev")
