"""A vCPU's file: the register ioctls, its state, and KVM_RUN."""

from __future__ import annotations

import errno
import mmap
import os
import time
from struct import Struct
from typing import Any

from ..errors import HostOops, KvmError
from ..facts import Feature, bits, regid, uapi
from .backend import Kernel
from .file import Call, Kind, ioctl
from .interrupts import InterruptsFile
from .memslots import MemorySlots
from .script import INTERRUPTED, STEPPED, Exit, ScriptFailure
from .vcpu_attributes import PMU_INIT, VcpuAttributesFile

PROGRAM_COUNTER = regid.ARM64 | regid.U64 | regid.CORE | 0x40
SYSREG_BYTES = 8  # that a SET of a system register fetches, whatever size its ID has


class VcpuFile(VcpuAttributesFile):
    """A vCPU: its part of the model, and what KVM keeps of it that concerns no register."""

    kind = Kind.VCPU
    mapped_bytes = uapi.PAGES_OF_VCPU * mmap.PAGESIZE

    def __init__(self, kernel: Kernel, vcpu: Any, vm: InterruptsFile, slots: MemorySlots, index: int) -> None:
        super().__init__(f"{vm.name} vcpu {index}", f"anon_inode:kvm-vcpu:{index}", vcpu, vm, slots)
        self._kernel = kernel
        self._unrecorded = getattr(vcpu, "unrecorded", vcpu)
        self._index = index
        self._runs = 0
        self._is_stepped = False
        self._mp_state = uapi.KVM_MP_STATE_RUNNABLE
        self._events = bytes(uapi.VCPU_EVENTS.size)

    @ioctl(uapi.KVM_ARM_VCPU_INIT)
    def arm_vcpu_init(self, call: Call) -> None:
        """The vCPU is reset and has these features. EFAULT, then as Vcpu.init."""
        target, *words = call.fetch(uapi.VCPU_INIT)
        call.detail = "features " + " ".join(f"{word:x}" for word in words[: 1 + any(words[1:]) * 6])
        with self._kernel:
            self.vcpu.init(words, target)
        is_off = words[0] & bits(Feature.POWER_OFF)
        self._mp_state = uapi.KVM_MP_STATE_STOPPED if is_off else uapi.KVM_MP_STATE_RUNNABLE
        self._events = bytes(uapi.VCPU_EVENTS.size)

    @ioctl(uapi.KVM_ARM_VCPU_FINALIZE)
    def arm_vcpu_finalize(self, call: Call) -> None:
        """The vector lengths are fixed. ENOEXEC before INIT, EFAULT, then as Vcpu.finalize."""
        self._check_initialised()
        (word,) = call.fetch(uapi.WORD)
        call.detail = f"feature {word}"
        with self._kernel:
            self.vcpu.finalize(word - (word >> 31 << 32))

    # Registers

    @ioctl(uapi.KVM_GET_ONE_REG)
    def get_one_reg(self, call: Call) -> None:
        """The register's bytes are at the address. ENOEXEC before INIT, EFAULT, then as Vcpu.get_one_reg_into."""
        reg_id, address, size = self._named_register(call)
        if self.vcpu.is_written_by_get(reg_id):
            buffer = bytearray(call.memory.read(address, size))
            with self._kernel:
                self.vcpu.get_one_reg_into(reg_id, buffer)
            return
        room = size
        value = self._value_of(reg_id)
        if value is not None:
            room = self._copy_out(call, reg_id, address, value)
            if room == size and self.vcpu is self._unrecorded:
                return
        with self._kernel:  # what the program met, which is what is recorded
            self.vcpu.get_one_reg_into(reg_id, bytearray(room))

    def _value_of(self, reg_id: int) -> bytes | None:
        """What a register holds; None where that is an error, which the program's own call will tell."""
        with self._kernel:
            try:
                value: bytes = self._unrecorded.get_one_reg(reg_id)
                return value
            except (KvmError, HostOops):
                return None

    def _copy_out(self, call: Call, reg_id: int, address: int, value: bytes) -> int:
        """How many bytes of a register's value are at the address: all or none where the kernel stores it at once."""
        is_in_a_page = address % mmap.PAGESIZE + len(value) <= mmap.PAGESIZE  # all of which can be written, or nothing
        if is_in_a_page or self.vcpu.fills_short_buffers(reg_id):
            return call.memory.write(address, value)
        is_mapped = len(call.memory.read(address, len(value))) == len(value)
        return call.memory.write(address, value) if is_mapped else 0

    @ioctl(uapi.KVM_SET_ONE_REG)
    def set_one_reg(self, call: Call) -> None:
        """The register has the bytes at the address. ENOEXEC before INIT, EFAULT, then as Vcpu.set_one_reg."""
        reg_id, address, size = self._named_register(call)
        data = call.memory.read(address, max(size, SYSREG_BYTES))
        with self._kernel:
            self.vcpu.set_one_reg(reg_id, data)

    @ioctl(uapi.KVM_GET_REG_LIST)
    def get_reg_list(self, call: Call) -> None:
        """The IDs are behind their number. ENOEXEC, EPERM, EFAULT; with E2BIG there is the number alone."""
        with self._kernel:
            self.vcpu.check_initialised()
            self.vcpu.check_finalized("the register list")
        (room,) = call.fetch(uapi.REG_LIST)
        with self._kernel:
            listing = self.vcpu.listing
        call.detail = f"room for {room} of {listing.n}"
        call.store(uapi.REG_LIST.pack(listing.n))
        with self._kernel:
            ids = self.vcpu.get_reg_list(room)
        call.memory.store(call.arg + uapi.REG_LIST.size, b"".join(map(uapi.DWORD.pack, ids)))

    def _named_register(self, call: Call) -> tuple[int, int, int]:
        """Register ID, address and size of a KVM_GET_ONE_REG or KVM_SET_ONE_REG."""
        self._check_initialised()
        reg_id, address = call.fetch(uapi.ONE_REG)
        size = regid.size_bytes(reg_id)
        call.detail = lambda: f"{regid.name(reg_id, self.vcpu.abi.sme_vls)} ({size} bytes)"
        return reg_id, address, size

    # The run

    @ioctl(uapi.KVM_RUN)
    def run(self, call: Call) -> int:
        """The guest has done what the script says, and struct kvm_run tells how it stopped.

        Errors in order: EINVAL for an argument, then as Vcpu.run; EINTR where the script gives no exit.
        """
        call.check_no_argument()
        immediate = os.pread(self.page, 1, uapi.RUN_IMMEDIATE_EXIT) not in (b"", b"\0")
        how = self._enter(immediate)
        call.detail = f"exit {how.reason}"
        os.pwrite(self.page, how.data, uapi.RUN_EXIT)
        os.pwrite(self.page, uapi.WORD.pack(how.reason), uapi.RUN_EXIT_REASON)
        if how is INTERRUPTED:
            time.sleep(self._kernel.pause)
            raise OSError(errno.EINTR, "the guest has nothing more to do")
        return 0

    def _enter(self, immediate: bool) -> Exit:
        self._prepare()
        with self._kernel, self.vcpu.run(immediate_exit=immediate) as guest:
            if self._mp_state != uapi.KVM_MP_STATE_RUNNABLE:
                return INTERRUPTED
            self._runs += 1
            how = self._act(guest) or INTERRUPTED
        return self._step() if how is INTERRUPTED and self._is_stepped else how

    def _prepare(self) -> None:
        """The first run finds what it needs; else its errno, after ENOEXEC and EPERM."""
        if self.has_run:
            return
        self._check_initialised()
        self.vcpu.check_finalized("KVM_RUN")
        fails = self._unprepared()
        if fails is not None:
            with self._kernel:
                self._unrecorded.run(fails=fails)
        self.has_run = True

    def _unprepared(self) -> int | None:
        """The errno of what a first run needs and does not find (kvm_arch_vcpu_run_pid_change())."""
        gic = self.vm.gic
        if gic is not None and not (gic.is_initialised and gic.is_placed):
            return errno.ENXIO
        has_pmu = self.vcpu.feature_words[0] & bits(Feature.PMU_V3)
        return errno.EINVAL if has_pmu and not self.has_been_set(*PMU_INIT) else None

    def _step(self) -> Exit:
        """The guest has done an instruction that touched nothing but the program counter."""
        with self._kernel:
            counter = int.from_bytes(self.vcpu.get_one_reg(PROGRAM_COUNTER), "little")
            self.vcpu.set_one_reg(PROGRAM_COUNTER, (counter + 4 & (1 << 64) - 1).to_bytes(8, "little"))
        return STEPPED

    def _act(self, guest: Any) -> Exit | None:
        """What the guest's script gives. ScriptFailure for what it raises: no error of its own is the ioctl's."""
        try:
            return self._kernel.script(guest, self._index, self._runs - 1)
        except HostOops:
            raise
        except (Exception, SystemExit) as error:
            raise ScriptFailure(f"{type(error).__name__}: {error}") from error

    # What KVM keeps besides

    @ioctl(uapi.KVM_GET_MP_STATE)
    def get_mp_state(self, call: Call) -> None:
        """Whether the vCPU runs. EFAULT."""
        call.store(uapi.MP_STATE.pack(self._mp_state))

    @ioctl(uapi.KVM_SET_MP_STATE)
    def set_mp_state(self, call: Call) -> None:
        """The vCPU runs, or is stopped or suspended. EFAULT, EINVAL for anything else."""
        (state,) = call.fetch(uapi.MP_STATE)
        call.detail = str(state)
        if state not in (uapi.KVM_MP_STATE_RUNNABLE, uapi.KVM_MP_STATE_STOPPED, uapi.KVM_MP_STATE_SUSPENDED):
            raise OSError(errno.EINVAL, "a vCPU is runnable (0), stopped (5) or suspended (10)")
        self._mp_state = state

    @ioctl(uapi.KVM_GET_VCPU_EVENTS)
    def get_vcpu_events(self, call: Call) -> None:
        """The events last set. ENOEXEC before INIT, EFAULT."""
        self._check_initialised()
        call.store(self._events)

    @ioctl(uapi.KVM_SET_VCPU_EVENTS)
    def set_vcpu_events(self, call: Call) -> None:
        """These events are pending. ENOEXEC before INIT, EFAULT."""
        self._check_initialised()
        self._events = uapi.VCPU_EVENTS.pack(*call.fetch(uapi.VCPU_EVENTS))

    @ioctl(uapi.KVM_SET_SIGNAL_MASK)
    def set_signal_mask(self, call: Call) -> None:
        """KVM_RUN is never interrupted, so it needs no mask. EFAULT, EINVAL for a set that is not 8 bytes long."""
        if call.arg:
            (size,) = call.fetch(uapi.SIGNAL_MASK)
            if size != uapi.SIGNAL_SET_BYTES:
                raise OSError(errno.EINVAL, f"a set of signals has {uapi.SIGNAL_SET_BYTES} bytes")

    @ioctl(uapi.KVM_SET_GUEST_DEBUG)
    def set_guest_debug(self, call: Call) -> None:
        """KVM_RUN ends after each instruction, or no more. EFAULT, EINVAL for a bit that there is not."""
        control, _ = call.fetch(uapi.GUEST_DEBUG)
        if control & ~uapi.GUESTDBG_VALID:
            raise OSError(errno.EINVAL, f"KVM_SET_GUEST_DEBUG control 0x{control:x}")
        stepping = uapi.GUESTDBG_ENABLE | uapi.GUESTDBG_SINGLESTEP
        self._is_stepped = control & stepping == stepping

    @ioctl(uapi.KVM_SET_REGS)
    def set_regs(self, call: Call) -> None:
        """EFAULT, EINVAL: registers are set one by one."""
        call.fetch(Struct(f"{uapi.ioctl_bytes(uapi.KVM_SET_REGS)}x"))
        raise OSError(errno.EINVAL, "arm64 has KVM_SET_ONE_REG instead")

    def _check_initialised(self) -> None:
        self._kernel.check_up()
        self.vcpu.check_initialised()
