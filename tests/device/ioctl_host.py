"""A Host that is made of ioctls: recordings can be replayed through /dev/kvm as on the model itself."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import queue
import select
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from kvmsve import KvmError
from kvmsve.device import Device
from kvmsve.facts import regid, uapi
from kvmsve.facts.features import feature_words

ROOM = 128 * 1024
PATIENCE_SECONDS = 30
WRITTEN = 0xA5A5_A5A5_A5A5_A5A5  # what a list's entries hold before the kernel writes them


class Ioctls(Protocol):
    """A way to make ioctls. Arguments and buffers are bytearrays, which then hold what the call left."""

    def open(self) -> int: ...
    def ioctl(self, on: int, request: int, argument: int | bytearray = 0, buffer: bytearray | None = None) -> int: ...
    def poke(self, on: int, offset: int, value: int) -> None: ...
    def close(self, on: int) -> None: ...


class Edge:
    """Memory that ends where a page does, with none behind it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2 * ROOM)
        self._end = ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) + ROOM
        libc = ctypes.CDLL(None)
        assert libc.mprotect(ctypes.c_void_p(self._end), ctypes.c_size_t(ROOM), 0) == 0

    def place(self, data: bytes | bytearray) -> int:
        self._memory[ROOM - len(data) : ROOM] = bytes(data)
        return self._end - len(data)

    def taken(self, size: int) -> bytes:
        return self._memory[ROOM - size : ROOM]


class InProcess:
    """Ioctls on a Device of this process."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._argument, self._buffer = Edge(), Edge()

    def open(self) -> int:
        return self._device.open()

    def ioctl(self, on: int, request: int, argument: int | bytearray = 0, buffer: bytearray | None = None) -> int:
        if isinstance(argument, int):
            return self._device.ioctl(on, request, argument)
        if buffer is not None:
            argument[8:16] = struct.pack("<Q", self._buffer.place(buffer))
        address = self._argument.place(argument)
        try:
            return self._device.ioctl(on, request, address)
        finally:
            argument[:] = self._argument.taken(len(argument))
            if buffer is not None:
                buffer[:] = self._buffer.taken(len(buffer))

    def poke(self, on: int, offset: int, value: int) -> None:
        with mmap.mmap(on, offset + 1) as mapped:
            mapped[offset] = value

    def close(self, on: int) -> None:
        os.close(on)


class Remote:
    """Ioctls of tests/device/clients/ioctl_client.c, run by a command that puts /dev/kvm in front of it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout is not None
        self._answers = select.poll()  # which takes any descriptor's number, as select() does not
        self._answers.register(self.process.stdout, select.POLLIN)
        self._turn = threading.Lock()

    def open(self) -> int:
        return self._ask("open")[0]

    def ioctl(self, on: int, request: int, argument: int | bytearray = 0, buffer: bytearray | None = None) -> int:
        if isinstance(argument, int):
            return self._ask(f"ioctl {on} {request:x} ={argument}")[0]
        words = [argument.hex() or "-", *([buffer.hex() or "-"] if buffer is not None else [])]
        result, after = self._ask(f"ioctl {on} {request:x} {' '.join(words)}", (argument, buffer))
        assert len(after) == len(words)
        return result

    def poke(self, on: int, offset: int, value: int) -> None:
        self._ask(f"poke {on} {offset} {value}")

    def close(self, on: int) -> None:
        self._ask(f"close {on}")

    def end(self) -> int:
        """The client has ended, with this code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        return code

    def _ask(self, line: str, targets: tuple[bytearray | None, ...] = ()) -> tuple[int, list[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self._turn:
            self.process.stdin.write(line + "\n")
            if not self._answers.poll(PATIENCE_SECONDS * 1000):
                self.process.kill()
                raise AssertionError(f"no answer to: {line}")
            words = self.process.stdout.readline().split()
        result, number, *after = words
        for target, text in zip(targets, after, strict=False):
            if target is not None:
                target[:] = b"" if text == "-" else bytes.fromhex(text)
        if int(result) < 0:
            raise OSError(int(number), os.strerror(int(number)))
        return int(result), after


class Guests:
    """A script for KVM_RUN that hands its guest to the thread that waits for it, until that thread is done."""

    def __init__(self) -> None:
        self.arrived: queue.Queue[Any] = queue.Queue()
        self.leave = threading.Event()

    def __call__(self, guest: Any, vcpu: int, n: int) -> None:
        self.leave.clear()
        self.arrived.put(guest)
        self.leave.wait()


def refusals(call: Callable[[], Any], n: Callable[[], int] = lambda: 0) -> Any:
    """What the call returns; its OSError as the KvmError that the model would raise."""
    try:
        return call()
    except OSError as error:
        raise KvmError(error.errno or 0, "ioctl", n() if error.errno == errno.E2BIG else None) from None


@dataclass
class IoctlHost:
    """Host by ioctls on /dev/kvm; `abi` is the recorded host's."""

    ioctls: Ioctls
    guests: Guests
    abi: Any

    def __post_init__(self) -> None:
        self._kvm = self.ioctls.open()

    def create_vm(self) -> IoctlVm:
        return IoctlVm(self, refusals(lambda: self.ioctls.ioctl(self._kvm, uapi.KVM_CREATE_VM)))

    def check_extension(self, cap: int) -> int:
        return self.ioctls.ioctl(self._kvm, uapi.KVM_CHECK_EXTENSION, cap)


@dataclass
class IoctlVm:
    """Vm by ioctls."""

    host: IoctlHost
    on: int

    def create_vcpu(self, index: int) -> IoctlVcpu:
        number = index & (1 << 32) - 1
        on = refusals(lambda: self.host.ioctls.ioctl(self.on, uapi.KVM_CREATE_VCPU, number))
        return IoctlVcpu(self.host, on)

    def enable_cap(self, cap: int) -> None:
        argument = bytearray(uapi.ENABLE_CAP.pack(cap, 0, 0, 0, 0, 0))
        refusals(lambda: self.host.ioctls.ioctl(self.on, uapi.KVM_ENABLE_CAP, argument))


class IoctlListing(tuple[int, int]):
    """What the kernel counted, and how much of that it did not write."""

    @property
    def n(self) -> int:
        return self[0]

    @property
    def unwritten(self) -> int:
        return self[1]


NO_LISTING = IoctlListing((0, 0))


@dataclass
class IoctlVcpu:
    """Vcpu by ioctls."""

    host: IoctlHost
    on: int
    listing: IoctlListing = NO_LISTING

    def _ioctl(self, request: int, argument: int | bytearray = 0, buffer: bytearray | None = None) -> None:
        refusals(lambda: self.host.ioctls.ioctl(self.on, request, argument, buffer), lambda: self.listing.n)

    def init(self, features: Any, target: int = 5) -> None:
        words = feature_words(features, self.host.abi)
        self._ioctl(uapi.KVM_ARM_VCPU_INIT, bytearray(uapi.VCPU_INIT.pack(target, *words)))

    def finalize(self, feature: int) -> None:
        self._ioctl(uapi.KVM_ARM_VCPU_FINALIZE, bytearray(struct.pack("<i", feature)))

    def get_one_reg_into(self, reg_id: int, buffer: bytearray) -> None:
        self._ioctl(uapi.KVM_GET_ONE_REG, bytearray(uapi.ONE_REG.pack(reg_id, 0)), buffer)

    def get_one_reg(self, reg_id: int) -> bytes:
        buffer = bytearray(regid.size_bytes(reg_id))
        self.get_one_reg_into(reg_id, buffer)
        return bytes(buffer)

    def set_one_reg(self, reg_id: int, data: bytes) -> None:
        self._ioctl(uapi.KVM_SET_ONE_REG, bytearray(uapi.ONE_REG.pack(reg_id, 0)), bytearray(data))

    def get_reg_list(self, n: int) -> list[int]:
        room = min(n, ROOM // 8 - 1)
        argument = bytearray(struct.pack(f"<Q{room}Q", n, *[WRITTEN] * room))
        try:
            self.host.ioctls.ioctl(self.on, uapi.KVM_GET_REG_LIST, argument)
        except OSError as error:
            counted = struct.unpack_from("<Q", argument)[0]
            self.listing = IoctlListing((counted, 0))
            if set(argument[8:]) - {0xA5}:
                raise AssertionError("entries were written by a call that failed") from None
            raise KvmError(error.errno or 0, "ioctl", counted) from None
        counted, *entries = struct.unpack(f"<Q{room}Q", argument)
        ids = entries[: entries.index(WRITTEN)] if WRITTEN in entries else entries
        self.listing = IoctlListing((counted, counted - len(ids)))
        return ids

    def run(self, *, immediate_exit: bool = False) -> Any:
        """A context whose value is the guest, on the other side of KVM_RUN."""
        self.host.ioctls.poke(self.on, uapi.RUN_IMMEDIATE_EXIT, int(immediate_exit))
        outcome: list[OSError] = []

        def run() -> None:
            try:
                self.host.ioctls.ioctl(self.on, uapi.KVM_RUN)
            except OSError as error:
                outcome.append(error)
                self.host.guests.arrived.put(None)

        thread = threading.Thread(target=run, daemon=True)  # a guest that nobody lets go must not keep pytest
        thread.start()
        guest = self.host.guests.arrived.get()
        if guest is None:
            thread.join()
            raise KvmError(outcome[0].errno or 0, "ioctl")
        return self._guest(guest, thread, outcome)

    @contextmanager
    def _guest(self, guest: Any, thread: threading.Thread, outcome: list[OSError]) -> Any:
        try:
            yield guest
        finally:
            self.host.guests.leave.set()
            thread.join()
            self.host.guests.arrived.get_nowait()
            assert [error.errno for error in outcome] == [errno.EINTR]
