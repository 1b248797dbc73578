"""The other end of csrc/shim: ioctl number and argument in, result and errno out.

Each call that a program has at work has a connection, which is kept for the next. A thread answers it: it reads and
writes the program's memory, or asks the shim for that where the system does not let it, and gives the program
descriptors. A program that dies ends its own calls and nothing else.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from functools import partial
from pathlib import Path
from struct import Struct
from types import TracebackType

from ..errors import HostOops
from . import Device
from .file import File
from .memory import Memory, ProcessMemory
from .script import ScriptFailure

MESSAGE = Struct("<QqQQQ")  # struct message of csrc/shim/shim.h
REQUEST_BYTES = MESSAGE.size + 128  # with an argument, as far as it comes along
NUMBER = Struct("<q")
PEER_CREDENTIALS = Struct("<iII")
ADDRESS_BYTES = 108  # of sun_path
SHORT_FOLDER = "/tmp"  # that of TMPDIR may be longer than an address
BACKLOG = 128
PAGE_BYTES = 4096  # no part of memory that is written crosses a multiple: all of it can be, or none
BREATH_SECONDS = 0.01


class Operation(IntEnum):
    """What a message is; enum operation of csrc/shim/shim.h."""

    HELLO = 1
    OPEN = 2
    IOCTL = 3
    READ = 4
    WRITE = 5
    INSTALL = 6
    RETURN = 7


class ProgramGone(Exception):
    """The program has ended, or says what no shim says."""


IOCTL = Operation.IOCTL  # looked up in each call


class Address:
    """Where programs that have `name` as KVMSVE_SOCKET call: a file, for those of other networks, and the same as an
    abstract name, for those of other file systems. They tell `secret`, as whoever can find the name cannot.
    """

    def __init__(self) -> None:
        has_short = os.access(SHORT_FOLDER, os.W_OK | os.X_OK)
        self._folder = Path(tempfile.mkdtemp(prefix="kvmsve-", dir=SHORT_FOLDER if has_short else None))
        self._folder.chmod(0o711)
        path = str(self._folder / secrets.token_hex(8))
        self.secret = secrets.randbits(63)
        self.name = f"{path}:{self.secret}"
        self.listeners = [self._listen(path.encode()), self._listen(abstract(path))]
        Path(path).chmod(0o666)

    @staticmethod
    def _listen(where: bytes) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(where)
        listener.listen(BACKLOG)
        return listener

    def close(self) -> None:
        """Nobody is heard."""
        for listener in self.listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def abstract(path: str) -> bytes:
    """All of sockaddr_un, as emulators are not exact about its length."""
    return b"\0" + path.encode().ljust(ADDRESS_BYTES - 1, b"\0")


class Server:
    """`with Server(device, complain) as server:` answers programs that have server.name as KVMSVE_SOCKET, in threads.

    Others, who can find the name but not the secret in it, are not answered.

    `complain` is called with what concerns the user and not the program: a host that crashed, a script that failed.
    """

    def __init__(self, device: Device, complain: Callable[[str], None], address: Address | None = None) -> None:
        self._device = device
        self._complain = complain
        self._is_closed = False
        self._connections = 0
        self._lock = threading.Lock()
        self._address = address or Address()
        self.name = self._address.name

    def __enter__(self) -> Server:
        for listener in self._address.listeners:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No program is answered any more."""
        self._is_closed = True
        self._address.close()
        self._device.close()

    @property
    def has_programs(self) -> bool:
        """Whether somebody who lives has made a call."""
        return self._connections > 0

    def wait(self, end: int | None, seconds: float | None) -> None:
        """`end` can be read, or the time is over."""
        poll = select.poll()
        if end is not None:
            poll.register(end, select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)

    def answer(self, connection: socket.socket) -> None:
        """A thread answers the program at the other end until it closes the connection."""
        try:
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
        except RuntimeError:  # no room for a thread
            connection.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                if self._is_closed:
                    return
                time.sleep(BREATH_SECONDS)  # for want of descriptors, which calls at work will give back
                continue
            self.answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        with self._lock:
            self._connections += 1
        try:
            self._answer_calls(connection)
        finally:
            with self._lock:
                self._connections -= 1

    def _answer_calls(self, connection: socket.socket) -> None:
        with connection, suppress(ProgramGone):
            program = Program(connection, self._address.secret)
            install = partial(self._give, program, 1)
            while True:
                self._perform(program, install, *program.next_request())

    def _perform(
        self, program: Program, install: Callable[[File], int], operation: int, first: int, second: int, *which: int
    ) -> None:
        """The program has its answer."""
        try:
            if operation == IOCTL:
                result = self._device.call(which, first, second, program, install, first >> 32)
            else:
                result = self._device.open_file(partial(self._give, program, first))
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

    def _give(self, program: Program, close_on_exec: int, file: File) -> int:
        """The program's number of a new descriptor. EMFILE where it has no room for one."""
        descriptor = self._device.create_descriptor(file)
        try:
            return program.give(descriptor, close_on_exec)
        finally:
            os.close(descriptor)


class Program(Memory):
    """A program at the other end of a connection, and its memory while it waits for the answer to a call."""

    def __init__(self, connection: socket.socket, secret: int) -> None:
        """The program has said who it is. ProgramGone where it does not know the secret."""
        self._connection = connection
        self._argument = -1, b""
        pid = process_of(connection)
        self.name = str(pid)
        operation, number, address, told, _ = MESSAGE.unpack(self._hear(MESSAGE.size))
        if operation != Operation.HELLO or told != secret:
            raise ProgramGone
        self.owner = number  # that the shim has made for its address space
        self._memory: Memory | None = ProcessMemory(pid) if address else None
        if self._memory and _read_or_none(self._memory, address, NUMBER.size) != NUMBER.pack(number):
            self._memory = None

    def next_request(self) -> tuple[int, ...]:
        """The operation and its arguments, once the program makes a call. ProgramGone."""
        message = self._hear(REQUEST_BYTES)
        request: tuple[int, ...] = MESSAGE.unpack_from(message)
        self._argument = request[2], message[MESSAGE.size :]
        return request

    def read(self, address: int, size: int) -> bytes:
        """The bytes from `address`: fewer than `size` where not all of them can be read."""
        argument, data = self._argument
        if address == argument and size <= len(data):
            return data[:size]
        if self._memory is not None:
            read = _read_or_none(self._memory, address, size)
            if read is not None:
                return read
            self._memory = None
        self.tell(Operation.READ, _signed(address), size)
        return self._hear(MESSAGE.size + size)[MESSAGE.size :]

    def write(self, address: int, data: bytes) -> int:
        """As much of `data` is at `address` as can be written: how many bytes."""
        if self._memory is not None:
            try:
                return self._memory.write(address, data)
            except OSError:
                self._memory = None
        done = 0
        while done < len(data):
            part = data[done : done + PAGE_BYTES - (address + done) % PAGE_BYTES]
            self.tell(Operation.WRITE, _signed(address + done), len(part))
            self._send(part)
            if self._hear_result() != len(part):
                break
            done += len(part)
        return done

    def give(self, descriptor: int, close_on_exec: int) -> int:
        """The program's own number of this descriptor. EMFILE where it has no room for one."""
        self._send(MESSAGE.pack(Operation.INSTALL, close_on_exec, 0, 0, 0), (descriptor,))
        number = self._hear_result()
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        return number

    def tell(self, operation: Operation, first: int, second: int = 0) -> None:
        """The shim has this message. ProgramGone."""
        self._send(MESSAGE.pack(operation, first, second, 0, 0))

    def _send(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        try:
            if descriptors:
                socket.send_fds(self._connection, [message], descriptors)
            else:
                self._connection.send(message)
        except OSError:
            raise ProgramGone from None

    def _hear(self, size: int) -> bytes:
        try:
            message = self._connection.recv(size)
        except OSError:
            raise ProgramGone from None
        if len(message) < MESSAGE.size:
            raise ProgramGone
        return message

    def _hear_result(self) -> int:
        result: int = MESSAGE.unpack(self._hear(MESSAGE.size))[1]
        return result


def _read_or_none(memory: Memory, address: int, size: int) -> bytes | None:
    """What can be read; None where the system does not let us at the memory, so that its own process has to help."""
    try:
        return memory.read(address, size)
    except OSError:
        return None


def process_of(connection: socket.socket) -> int:
    """The process at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
    pid: int = PEER_CREDENTIALS.unpack(credentials)[0]
    return pid


def _signed(number: int) -> int:
    return number - (number >> 63 << 64)
