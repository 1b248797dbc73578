"""The kernel behind a device: the model, one thread at a time, and what it says of capabilities."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from types import TracebackType
from typing import Any

from ..errors import HostOops
from ..facts import regid, uapi
from ..machine import KVM_CAP_ARM_SVE, KVM_CAP_ONE_REG, Host
from .script import Script

SHUT_DOWN_SECONDS = 5.0


class Kernel:
    """What all files of a device share.

    `machine` is the Host or what records it, `script` says what guests do, `pause` is how long a guest with nothing to
    do runs, in seconds.
    """

    def __init__(self, host: Host, machine: Any, script: Script, pause: float) -> None:
        self.host = host
        self.machine = machine
        self.script = script
        self.pause = pause
        self.vms = 0
        self._lock = threading.Lock()
        self._down = mmap.mmap(-1, mmap.PAGESIZE)  # its first byte: a crash is one for forked processes, too

    def __enter__(self) -> None:
        """`with kernel:` the model is this thread's alone. ENODEV once the host has crashed or was shut down."""
        self._lock.acquire()
        try:
            self.check_up()
        except OSError:
            self._lock.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, HostOops):
            self._down[0] = 1
        self._lock.release()

    def check_up(self) -> None:
        """ENODEV once the host has crashed or was shut down."""
        if self._down[0]:
            raise OSError(errno.ENODEV, "the host is down")

    def shut_down(self) -> None:
        """No thread begins work on the model; what was begun has ended, unless a script of the user's is stuck."""
        self._down[0] = 1
        if self._lock.acquire(timeout=SHUT_DOWN_SECONDS):
            self._lock.release()

    def check_extension(self, machine: Any, cap: int) -> int:
        """A capability's value: the model's where it concerns registers, else that of a common arm64 host."""
        if cap in (KVM_CAP_ONE_REG, KVM_CAP_ARM_SVE, self.host.abi.sme_cap, self.host.abi.imp_id_cap):
            with self:
                return int(machine.check_extension(cap))
        if cap in uapi.FEATURE_CAPABILITIES:
            return int(uapi.FEATURE_CAPABILITIES[cap] in self.host.features_offered)
        if cap in (uapi.KVM_CAP_GUEST_DEBUG_HW_BPS, uapi.KVM_CAP_GUEST_DEBUG_HW_WPS):
            dfr0 = self.host.id_regs.get(regid.BY_NAME["ID_AA64DFR0_EL1"], 0)
            return (dfr0 >> (12 if cap == uapi.KVM_CAP_GUEST_DEBUG_HW_BPS else 20) & 0xF) + 1
        if cap == uapi.KVM_CAP_NR_VCPUS:
            return os.cpu_count() or 1
        value, since = uapi.CAPABILITIES.get(cap, (0, uapi.ALWAYS))
        return value if since <= self.host.abi.linux else 0
