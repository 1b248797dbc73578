"""The other end of csrc/kvm_shim.c: ioctl number and argument in, result and errno out.

Each call of a program is a connection. The server answers it in a thread, and meanwhile asks the shim for the program's
memory and gives it descriptors; a program that dies ends its own calls and nothing else.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from types import TracebackType

from ..errors import HostOops
from . import Device
from .file import File
from .memory import Memory
from .script import ScriptFailure

MESSAGE = Struct("<QqQ")  # struct message of csrc/kvm_shim.c
PEER_CREDENTIALS = Struct("<iII")
ADDRESS_BYTES = 108  # of sun_path
BACKLOG = 128
BREATH_SECONDS = 0.01


class Operation(IntEnum):
    """What a message is; enum operation of csrc/kvm_shim.c."""

    OPEN = 1
    IOCTL = 2
    READ = 3
    WRITE = 4
    INSTALL = 5
    RETURN = 6


def address(name: str) -> bytes:
    """The abstract address of a server: all of sockaddr_un, as emulators are not exact about its length."""
    return b"\0" + name.encode().ljust(ADDRESS_BYTES - 1, b"\0")


class ProgramGone(Exception):
    """The program has ended, or says what no shim says."""


class Server:
    """`with Server(device, complain) as server:` answers programs that have server.name as KVMSVE_SOCKET.

    They are the same user's: others, who can find the name, are not answered.

    `complain` is called with what concerns the user and not the program: a host that crashed, a script that failed.
    """

    def __init__(self, device: Device, complain: Callable[[str], None]) -> None:
        self._device = device
        self._complain = complain
        self._is_closed = False
        self.name = f"kvmsve-{secrets.token_hex(16)}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def __enter__(self) -> Server:
        self._listener.bind(address(self.name))
        self._listener.listen(BACKLOG)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No program is answered any more."""
        self._is_closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._device.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                if self._is_closed:
                    return
                time.sleep(BREATH_SECONDS)  # for want of descriptors, which calls at work will give back
                continue
            try:
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
            except RuntimeError:  # no room for a thread
                connection.close()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE.size, 2)
            except OSError:
                return
            try:
                if len(message) == MESSAGE.size and descriptors and _peer(connection)[1] == os.getuid():
                    self._perform(Program(connection, descriptors[0]), message, descriptors)
            except ProgramGone:
                pass
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)

    def _perform(self, program: Program, message: bytes, descriptors: list[int]) -> None:
        """The program has its answer."""
        operation, first, second = MESSAGE.unpack(message)
        try:
            if operation == Operation.IOCTL and len(descriptors) < 2:
                raise OSError(errno.ENFILE, "the server has no room for descriptors")
            if operation == Operation.OPEN:
                result = self._device.open_file(lambda file: self._give(program, file, close_on_exec=first))
            else:
                result = self._device.call(
                    descriptors[-1], first, second, program, lambda file: self._give(program, file), program.name
                )
        except OSError as error:
            program.tell(Operation.RETURN, -1, error.errno or errno.EIO)
        except HostOops as oops:
            self._complain(f"the host has crashed: {oops}")
            program.tell(Operation.RETURN, -1, errno.ENODEV)
        except ProgramGone:
            raise
        except ScriptFailure as failure:
            self._complain(f"the guest's script has failed: {failure}")
            program.tell(Operation.RETURN, -1, errno.EIO)
        except Exception as error:
            self._complain(f"kvmsve has failed: {type(error).__name__}: {error}")
            program.tell(Operation.RETURN, -1, errno.EIO)
        else:
            program.tell(Operation.RETURN, result)

    def _give(self, program: Program, file: File, close_on_exec: int = 1) -> int:
        """The program's number of a new descriptor. EMFILE where it has no room for one."""
        descriptor = self._device.create_descriptor(file)
        try:
            return program.give(descriptor, close_on_exec)
        finally:
            os.close(descriptor)


class Program(Memory):
    """A program that waits for the answer to one call: its memory, and its descriptors."""

    def __init__(self, connection: socket.socket, scratch: int) -> None:
        self._connection = connection
        self._scratch = scratch
        self.name = str(_peer(connection)[0])

    def read(self, address: int, size: int) -> bytes:
        """The bytes from `address`: fewer than `size` where not all of them can be read."""
        self.tell(Operation.READ, _signed(address), size)
        return os.pread(self._scratch, min(self._hear(), size), 0)

    def write(self, address: int, data: bytes) -> int:
        """As much of `data` is at `address` as can be written: how many bytes."""
        os.pwrite(self._scratch, data, 0)
        self.tell(Operation.WRITE, _signed(address), len(data))
        return self._hear()

    def give(self, descriptor: int, close_on_exec: int) -> int:
        """The program's own number of this descriptor. EMFILE where it has no room for one."""
        self.tell(Operation.INSTALL, close_on_exec, descriptors=(descriptor,))
        number = self._hear()
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        return number

    def tell(self, operation: Operation, first: int = 0, second: int = 0, descriptors: tuple[int, ...] = ()) -> None:
        """The shim has this message. ProgramGone."""
        try:
            socket.send_fds(self._connection, [MESSAGE.pack(operation, first, second)], descriptors)
        except OSError:
            raise ProgramGone from None

    def _hear(self) -> int:
        try:
            message = self._connection.recv(MESSAGE.size)
        except OSError:
            message = b""
        if len(message) != MESSAGE.size:
            raise ProgramGone
        result: int = MESSAGE.unpack(message)[1]
        return result


def _peer(connection: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end."""
    pid, uid, _ = PEER_CREDENTIALS.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
    )
    return pid, uid


def _signed(number: int) -> int:
    return number - (number >> 63 << 64)
