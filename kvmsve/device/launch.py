"""One program, run with our /dev/kvm until it ends."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ..machine import Host
from ..recording import record
from . import Device
from .program import command, environment, find_program
from .script import Script, idle, idle_and_told
from .server import Server
from .workers import Workers

LINGER_SECONDS = 2.0  # how long a process that the program leaves behind may take to open /dev/kvm
POLL_SECONDS = 0.05
PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>
PAUSE_SECONDS = 0.01  # how long a guest with nothing to do runs: a program that interrupts it waits no longer


def launch(
    host: Host,
    arguments: Sequence[str],
    *,
    complain: Callable[[str], None],
    trace: Callable[[str], None] | None,
    recording: Path | None,
    script: Script,
    sysroot: Path | None,
) -> int:
    """The program's exit code, or 128 and the number of the signal that ended it.

    Errors in order: BadProgram, MissingTool; OSError of the recording.
    """
    name, *rest = arguments
    program = find_program(name)
    started = command(program, rest, sysroot)
    with ExitStack() as stack:
        machine = stack.enter_context(record(recording, host, "kvmsve run")) if recording else host
        guest = idle_and_told(complain) if script is idle else script
        device = Device(host, machine, guest, trace, PAUSE_SECONDS)
        is_shared = recording is not None or script is not idle or is_access_restricted()
        serving: Server | Workers = Server(device, complain) if is_shared else Workers(device, complain)
        stack.enter_context(serving)
        variables = environment(program, serving.name, sysroot)
        with SignalsPassedOn() as signals, Family() as family:
            child = subprocess.Popen(started, env=variables)
            signals.to(child)
            _raise_descriptor_limit()
            code = _wait_for(child, serving)
            _outlive(serving, family, signals)
    return code if code >= 0 else 128 - code


def _wait_for(child: subprocess.Popen[bytes], serving: Server | Workers) -> int:
    end = os.pidfd_open(child.pid)
    while (code := child.poll()) is None:
        serving.wait(end, None)
    os.close(end)
    return code


def _outlive(serving: Server | Workers, family: Family, signals: SignalsPassedOn) -> None:
    """The last process that has /dev/kvm is gone: the program may leave daemons behind, which may only begin."""
    signals.end_of_program()
    end = time.monotonic() + LINGER_SECONDS
    while not signals.came_late and (serving.has_programs or (family.has_orphans() and time.monotonic() < end)):
        serving.wait(None, POLL_SECONDS)


def is_access_restricted() -> bool:
    """Whether a process has only its ancestor's way to its memory (Yama), which a server process of its own is not."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip() != "0"
    return False


class Family:
    """While the block lasts, orphans of the program are this process's children."""

    def __enter__(self) -> Family:
        self._before = self._children()
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0)

    def has_orphans(self) -> bool:
        """Whether a process that the program has left behind runs, as far as the system tells."""
        return any(os.waitpid(child, os.WNOHANG) == (0, 0) for child in self._children() - self._before)

    @staticmethod
    def _children() -> set[int]:
        with suppress(OSError):
            return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
        return set()


def _raise_descriptor_limit() -> None:
    """The server has as many descriptors as the system lets it: each file of KVM takes one, each call at work, too."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class SignalsPassedOn:
    """While the block lasts SIGTERM and SIGHUP go to the program, also those that came before it was there.

    SIGINT has reached it from the terminal already. It is handled, not ignored, as a program would inherit that.
    """

    def __init__(self) -> None:
        self._program: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._has_ended = False
        self.came_late = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalsPassedOn:
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._pass_on)
        self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._leave_to_the_program)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, program: subprocess.Popen[bytes]) -> None:
        """This is the program."""
        self._program = program
        for number in self._early:
            program.send_signal(number)

    def end_of_program(self) -> None:
        """It has ended: a signal that comes now is this process's own, `came_late`."""
        self._has_ended = True

    def _leave_to_the_program(self, number: int, _: object) -> None:
        self.came_late |= self._has_ended

    def _pass_on(self, number: int, _: object) -> None:
        self.came_late |= self._has_ended
        if self._program is None:
            self._early.append(number)
        else:
            self._program.send_signal(number)
