"""One program, run with our /dev/kvm until it ends."""

from __future__ import annotations

import resource
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..recorder import record
from ..vcpu import Host
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
        variables = environment(program, server.path, sysroot)
        with _signals_passed_on() as watched:
            child = subprocess.Popen(started, env=variables)
            watched.append(child)
            _raise_descriptor_limit()
            code = child.wait()
    return code if code >= 0 else 128 - code


def _raise_descriptor_limit() -> None:
    """The server has as many descriptors as the system lets it: each vCPU takes one, each call at work four."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _signals_passed_on() -> Iterator[list[subprocess.Popen[bytes]]]:
    """SIGTERM and SIGHUP go to the programs of the list; SIGINT has reached them from the terminal already.

    It is not ignored but handled, as a program would inherit that it is ignored.
    """
    programs: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: object) -> None:
        for program in programs:
            program.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield programs
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
