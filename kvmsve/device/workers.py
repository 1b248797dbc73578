"""A server process for each process of a program: two at once have two CPUs, where threads of Python would have one.

Nothing has to be shared: a VM is its maker's alone (EIO to others), /dev/kvm has no state, and a crash of the host is a
byte of memory that all see. This process only accepts: it gives a connection to the server process whose number it
tells, and forks one for a new number.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn

from . import Device
from .server import MESSAGE, Address, Server, process_of

IGNORED_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP  # they are the program's, which decides


@dataclass(frozen=True)
class Worker:
    """A server process, as its parent sees it: the socket that takes connections there, and what tells its end."""

    pid: int
    control: socket.socket
    end: int


class Workers:
    """`with Workers(device, complain) as workers:` answers programs that have workers.name as KVMSVE_SOCKET.

    It works while wait() does. No other thread may be there: processes are forked.
    """

    def __init__(self, device: Device, complain: Callable[[str], None]) -> None:
        self._address = Address()
        self.name = self._address.name
        self._server = Server(device, complain, self._address)
        self._new: dict[int, socket.socket] = {}  # connections that have told no number yet, by descriptor
        self._workers: dict[int, Worker] = {}  # by the number of the process that they answer
        self._poll = select.poll()
        self._listeners = {listener.fileno(): listener for listener in self._address.listeners}
        for listener in self._address.listeners:
            listener.setblocking(False)
            self._poll.register(listener, select.POLLIN)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """No program is answered any more."""
        self._address.close()
        self._close_sockets()
        for worker in self._workers.values():
            with suppress(ChildProcessError):
                os.waitpid(worker.pid, 0)

    @property
    def has_programs(self) -> bool:
        """Whether somebody who lives has made a call."""
        return bool(self._workers or self._new)

    def wait(self, end: int | None, seconds: float | None) -> None:
        """Something has happened, `end` can be read, or the time is over."""
        if end is not None:
            self._poll.register(end, select.POLLIN)
        for descriptor, _ in self._poll.poll(None if seconds is None else seconds * 1000):
            if descriptor in self._listeners:
                self._accept(self._listeners[descriptor])
            elif descriptor in self._new:
                self._dispatch(descriptor)
            elif descriptor != end:
                self._forget(descriptor)
        if end is not None:
            self._poll.unregister(end)

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            self._new[connection.fileno()] = connection
            self._poll.register(connection, select.POLLIN)

    def _dispatch(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        with self._new.pop(descriptor) as connection, suppress(OSError):
            hello = connection.recv(MESSAGE.size, socket.MSG_PEEK)
            if len(hello) < MESSAGE.size or MESSAGE.unpack(hello)[3] != self._address.secret:
                return
            number = MESSAGE.unpack(hello)[1]
            if number not in self._workers:
                self._workers[number] = self._fork(process_of(connection))
            socket.send_fds(self._workers[number].control, [b"+"], [connection.fileno()])

    def _forget(self, end: int) -> None:
        """The worker with this end has ended."""
        self._poll.unregister(end)
        number = next(number for number, worker in self._workers.items() if worker.end == end)
        worker = self._workers.pop(number)
        os.waitpid(worker.pid, 0)
        worker.control.close()
        os.close(end)

    def _fork(self, program: int) -> Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the threads that numpy's libraries have
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._work(theirs, program)
        end = os.pidfd_open(pid)
        self._poll.register(end, select.POLLIN)
        return Worker(pid, ours, end)

    def _work(self, control: socket.socket, program: int) -> NoReturn:
        """The process of a worker, until the program or its parent has ended."""
        try:
            for number in IGNORED_SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            self._close_sockets()
            poll = select.poll()
            poll.register(control, select.POLLIN)
            poll.register(os.pidfd_open(program), select.POLLIN)
            while [descriptor for descriptor, _ in poll.poll()] == [control.fileno()]:
                byte, descriptors, _, _ = socket.recv_fds(control, 1, 1)
                if not byte:
                    break
                for descriptor in descriptors:
                    self._server.answer(socket.socket(fileno=descriptor))
        finally:
            os._exit(0)

    def _close_sockets(self) -> None:
        for listener in self._address.listeners:
            listener.close()
        for connection in self._new.values():
            connection.close()
        for worker in self._workers.values():
            worker.control.close()
            os.close(worker.end)
