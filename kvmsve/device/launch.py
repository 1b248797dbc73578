"""One program, run with our /dev/kvm until it ends."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from ..machine import Host
from ..recording import record
from . import Device
from .program import command, environment, find_program
from .script import Script
from .server import Server

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
    started = command(program, rest)
    with ExitStack() as stack:
        machine = stack.enter_context(record(recording, host, "kvmsve run")) if recording else host
        device = Device(host, machine, script, trace, PAUSE_SECONDS)
        server = stack.enter_context(Server(device, complain))
        variables = environment(program, server.name, sysroot)
        with SignalsPassedOn() as signals:
            child = subprocess.Popen(started, env=variables)
            signals.to(child)
            _raise_descriptor_limit()
            code = child.wait()
    return code if code >= 0 else 128 - code


def _raise_descriptor_limit() -> None:
    """The server has as many descriptors as the system lets it: each vCPU takes one, each call at work four."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class SignalsPassedOn:
    """While the block lasts SIGTERM and SIGHUP go to the program, also those that came before it was there.

    SIGINT has reached it from the terminal already. It is handled, not ignored, as a program would inherit that.
    """

    def __init__(self) -> None:
        self._program: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SignalsPassedOn:
        for number in (signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._pass_on)
        self._before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
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

    def _pass_on(self, number: int, _: object) -> None:
        if self._program is None:
            self._early.append(number)
        else:
            self._program.send_signal(number)
