"""Operations as types: what a program asks of /dev/kvm, and how it ended (FORMAT.md).

An operation that has not been done has no `ret`. A new one is a class here, and known to every recording; play says
how it is done.
"""

from __future__ import annotations

from msgspec import Struct, field

from ..facts import regid
from .fields import Argument, Count, ErrorName, FeatureWords, Flag, Hex, Int, RegId, RegIds, Text
from .guest_steps import Steps


class Operation(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="op"):
    """A line of a recording behind its header."""

    @property
    def name(self) -> str:
        """The format's word for it."""
        return str(self.__struct_config__.tag)

    @property
    def vcpu_number(self) -> int | None:
        """The vCPU that it is about, by its number in the recording."""
        return getattr(self, "vcpu", None)

    def flaw(self) -> str:
        """What fields of it contradict each other, in words; nothing where they agree."""
        return ""

    def __str__(self) -> str:
        return self.name


class Heading(Operation, frozen=True, kw_only=True):
    """A line for people."""


class Case(Heading, frozen=True, kw_only=True, tag="case"):
    """A heading."""

    title: Text = field(name="name")


class Note(Heading, frozen=True, kw_only=True, tag="note"):
    """A heading of a smaller part."""

    text: Text


class Call(Operation, frozen=True, kw_only=True):
    """An ioctl and its outcome: `ret`, with -1 `errno`, or `crash` where the host did not survive it."""

    ret: Int | None = None
    errno: ErrorName | None = None
    crash: Flag = False
    host_dependent: Flag = False

    @property
    def has_failed(self) -> bool:
        return self.ret is not None and self.ret < 0

    def flaw(self) -> str:
        """What does not fit the outcome."""
        if self.ret is None:
            return '"ret" is missing'
        if self.ret >= 0:
            wrong = "errno" if self.errno is not None else "crash" if self.crash else ""
            return f'"{self.name}" succeeded, but has "{wrong}"' if wrong else ""
        if self.ret != -1:
            return f'"ret" is {self.ret}; a call that fails returns -1'
        return "" if self.errno is not None or self.crash else f'"{self.name}" failed without saying how: no "errno"'

    def lacks(self, **results: object) -> str:
        """The first of these that is not there although the call succeeded, in words."""
        if self.ret is None or self.has_failed:
            return ""
        missing = next((name for name, value in results.items() if value is None), None)
        return "" if missing is None else f'"{self.name}" succeeded, but has no "{missing}"'


class VcpuCall(Call, frozen=True, kw_only=True):
    """An ioctl on a vCPU, which is named by its number in the recording."""

    vcpu: Count


class RegisterCall(VcpuCall, frozen=True, kw_only=True):
    """An ioctl on a register of a vCPU."""

    reg_id: RegId = field(name="id")

    def __str__(self) -> str:
        return f"{self.name} of {regid.name(self.reg_id)}"


class CheckExtension(Call, frozen=True, kw_only=True, tag="check_extension"):
    """KVM_CHECK_EXTENSION on /dev/kvm or a VM; `ret` is the capability's value."""

    on: Text
    cap: Count


class CreateVm(Call, frozen=True, kw_only=True, tag="create_vm"):
    """KVM_CREATE_VM."""

    vm: Count


class CreateVcpu(Call, frozen=True, kw_only=True, tag="create_vcpu"):
    """KVM_CREATE_VCPU; `index` is the vCPU's in its VM."""

    vm: Count
    vcpu: Count
    index: Argument


class EnableCap(Call, frozen=True, kw_only=True, tag="enable_cap"):
    """KVM_ENABLE_CAP on a VM."""

    vm: Count
    cap: Count


class Close(Operation, frozen=True, kw_only=True, tag="close"):
    """The vCPU and its VM are gone."""

    vcpu: Count
    vm: Count


class VcpuInit(VcpuCall, frozen=True, kw_only=True, tag="vcpu_init"):
    """KVM_ARM_VCPU_INIT; `target` 0 is the preferred one, 1 a wrong one."""

    target: Count
    features: FeatureWords


class Finalize(VcpuCall, frozen=True, kw_only=True, tag="finalize"):
    """KVM_ARM_VCPU_FINALIZE."""

    feature: Int


class Get(RegisterCall, frozen=True, kw_only=True, tag="get"):
    """KVM_GET_ONE_REG into a buffer of the register's size; of `data` only the bits of `mask` count."""

    data: Hex | None = None
    mask: Hex | None = None

    def flaw(self) -> str:
        """What does not fit the outcome; a success has data."""
        if self.ret == 0 and self.errno is None and self.data is not None and not self.crash:
            return ""
        return self.lacks(data=self.data) or super().flaw()


class Set(RegisterCall, frozen=True, kw_only=True, tag="set"):
    """KVM_SET_ONE_REG; with `tail` any bytes may follow the data up to the register's size."""

    data: Hex
    tail: Text | None = None


class ShortBufferCall(RegisterCall, frozen=True, kw_only=True):
    """An ioctl on a register with a buffer that ends after `avail` bytes; `copied` were moved before a fault."""

    avail: Count
    buf: Hex
    copied: Count | None = None

    def flaw(self) -> str:
        """What does not fit the outcome, or the buffer."""
        if self.avail != len(self.buf):
            return f'"avail" is {self.avail}, "buf" has {len(self.buf)} bytes'
        if (self.copied or 0) > self.avail:
            return f'"copied" is {self.copied}, but "avail" is {self.avail}'
        return super().flaw()


class GetShort(ShortBufferCall, frozen=True, kw_only=True, tag="get_short"):
    """KVM_GET_ONE_REG into a short buffer, which holds `buf` afterwards."""


class SetShort(ShortBufferCall, frozen=True, kw_only=True, tag="set_short"):
    """KVM_SET_ONE_REG from a short buffer, which holds `buf`."""


class RegList(VcpuCall, frozen=True, kw_only=True, tag="reg_list"):
    """KVM_GET_REG_LIST: room, the number there was, and what is kept of the list (listing.summarize)."""

    n_in: Count
    n_out: Count | None = None
    core: Count | None = None
    sve: Count | None = None
    sme: Count | None = None
    ids: RegIds | None = None
    unwritten: Count = 0

    def flaw(self) -> str:
        """What does not fit the outcome; a success has counts and IDs."""
        if self.n_out is None:
            return '"n_out" is missing'
        return self.lacks(core=self.core, sve=self.sve, ids=self.ids) or super().flaw()


class Run(VcpuCall, frozen=True, kw_only=True, tag="run"):
    """KVM_RUN, and what the guest did in it."""

    immediate_exit: Flag = False
    guest: Steps | None = None

    def flaw(self) -> str:
        """What does not fit the outcome; a success has a guest."""
        return self.lacks(guest=self.guest) or super().flaw()


class FailAllocations(Operation, frozen=True, kw_only=True, tag="fail_allocations"):
    """The next `n` allocations that the kernel makes for the vCPU fail."""

    vcpu: Count
    n: Count


class Held(Operation, frozen=True, kw_only=True, tag="held"):
    """What the kernel's memory holds of the vCPU."""

    vcpu: Count
    fp_state: Text
    max_vq: Count
    svcr: Count
    fpmr: Count
    fpsr: Count
    fpcr: Count
    sve_state: Hex
    sme_state: Hex
    vregs: Hex


def _leaves(parent: type[Operation]) -> list[type[Operation]]:
    children = parent.__subclasses__()
    return [leaf for child in children for leaf in _leaves(child)] if children else [parent]


OPERATIONS = tuple(_leaves(Operation))
