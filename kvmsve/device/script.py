"""What guests do in KVM_RUN: a program of Python, the guest's steps of a recording, or nothing."""

from __future__ import annotations

import runpy
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import GuestUndefined
from ..facts import uapi
from ..ops import Step, observe_step
from ..ops import operations as ops
from ..recording import Recording

IDLE_RUNS = 200  # without a word: a program may interrupt its guest some times


@dataclass(frozen=True)
class Exit:
    """How a run ends: the exit's number, and what struct kvm_run says of it."""

    reason: int
    data: bytes = b""


INTERRUPTED = Exit(uapi.KVM_EXIT_INTR)  # KVM_RUN ends with EINTR
STEPPED = Exit(uapi.KVM_EXIT_DEBUG, uapi.EXIT_DEBUG.pack(uapi.ESR_SOFTWARE_STEP, 0, 0))
SHUTDOWN = Exit(uapi.KVM_EXIT_SYSTEM_EVENT, uapi.EXIT_SYSTEM_EVENT.pack(uapi.KVM_SYSTEM_EVENT_SHUTDOWN, 0, *[0] * 16))


def mmio_write(address: int, data: bytes) -> Exit:
    """The guest stores 1 to 8 bytes where it has no memory."""
    return Exit(uapi.KVM_EXIT_MMIO, uapi.EXIT_MMIO.pack(address, data.ljust(8, b"\0"), len(data), True))


Script = Callable[[Any, int, int], Exit | None]
"""`script(guest, vcpu, n)`: the guest of the n-th run (from 0) of the vCPU with this index acts. None: INTERRUPTED."""


class ScriptError(Exception):
    """The file is no script: names it and the reason."""


class ScriptFailure(Exception):
    """The script has raised something in a run: says what."""


def idle(guest: Any, vcpu: int, n: int) -> None:
    """The guest does nothing, and does not touch a register."""


def idle_and_told(complain: Callable[[str], None]) -> Script:
    """As idle; once a vCPU has run for some time, `complain` is told why nothing happens."""

    def act(guest: Any, vcpu: int, n: int) -> None:
        if n == IDLE_RUNS:
            complain(
                f"the guest of vCPU {vcpu} does nothing, so that each KVM_RUN is EINTR; --guest FILE says what it does"
            )

    return act


def steps_of(recording: Recording) -> Script:
    """The guest's part of each recorded run, in order, for the vCPUs of the same index; then idle.

    A step that this guest cannot take, for want of the length or the register, is left out. What it reads is not
    compared: kvmsve replay does that.
    """
    index: dict[int, int] = {}
    runs: dict[int, deque[Sequence[Step]]] = defaultdict(deque)
    for _, op in recording:
        match op:
            case ops.CreateVcpu(ret=0):
                index[op.vcpu] = op.index
            case ops.Run() if op.guest is not None:
                runs[index.get(op.vcpu, 0)].append(op.guest)

    def act(guest: Any, vcpu: int, n: int) -> None:
        for step in runs[vcpu].popleft() if runs[vcpu] else ():
            with suppress(GuestUndefined, ValueError, IndexError):
                list(observe_step(guest, step))

    return act


def load_script(path: Path) -> Script:
    """The function `run` of a Python file, or the runs of a recording. ScriptError, or RecordingError."""
    if path.suffix != ".py":
        return steps_of(Recording(path))
    try:
        path.open().close()
    except OSError as error:
        raise ScriptError(f"{path}: {error.strerror}") from None
    try:
        found = runpy.run_path(str(path)).get("run")
    except (Exception, SystemExit) as error:
        raise ScriptError(f"{path}: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise ScriptError(f"{path}: a script has a function run(guest, vcpu, n)")
    script: Script = found
    return script
