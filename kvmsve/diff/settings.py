"""A bench: vCPUs of one revision in any setting, and short words for what is found in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from ..errors import HostOops, KvmError
from ..facts import SVCR_SM, SVCR_ZA, Abi, Feature, layout, regid
from ..machine import Host, Vcpu, Vm

Lengths = tuple[frozenset[int], frozenset[int]]  # SVE and streaming

NO_VECTORS, SVE, SME, BOTH = "no vectors", "SVE", "SME", "SVE+SME"
FEATURES: dict[str, set[Feature | int]] = {
    NO_VECTORS: set(), SVE: {Feature.SVE}, SME: {Feature.SME}, BOTH: {Feature.SVE, Feature.SME},
}  # fmt: skip
FRESH, BEFORE, AFTER, RAN = "before INIT", "before FINALIZE", "after FINALIZE", "after KVM_RUN"
PATTERN = 0x5A


class Setting(NamedTuple):
    """A vCPU, its host, and how far it has come; to have it RAN is for the probe to do, when it has set registers."""

    features: str = BOTH
    stage: str = AFTER
    sm: bool = False
    za: bool = False
    sme2: bool = True
    fa64: bool = True

    @property
    def svcr(self) -> int:
        return SVCR_SM * self.sm | SVCR_ZA * self.za


def settings(values: Mapping[str, Sequence[Any]]) -> Iterator[Setting]:
    """Every setting with one of these values in each of these parts, in order."""
    for chosen in product(*values.values()):
        yield Setting()._replace(**dict(zip(values, chosen, strict=True)))


HOST_SMIDR = 0x4100_0000


class Unavailable(Exception):
    """The revision has no vCPU in this setting."""


class Bench:
    """Makes VMs and vCPUs of one revision."""

    def __init__(self, abi: Abi, lengths: Lengths) -> None:
        self.abi = abi
        self.sve_vqs, self.sme_vqs = lengths

    def vm(self, setting: Setting) -> Vm:
        """A VM without vCPUs on the host of the setting."""
        host = Host(
            abi=self.abi, sve_vqs=self.sve_vqs, sme_vqs=self.sme_vqs, sme2=setting.sme2, fa64=setting.fa64, fpmr=True,
            id_regs={regid.SMIDR_EL1: HOST_SMIDR},
        )  # fmt: skip
        return host.create_vm()

    def vcpu(self, setting: Setting, vm: Vm | None = None) -> Vcpu:
        """A vCPU of that VM, or one of its own, in the setting; Unavailable where the revision refuses that."""
        vm = vm or self.vm(setting)
        vcpu = vm.create_vcpu(len(vm.vcpus))
        if setting.stage == FRESH and setting.svcr:
            raise Unavailable
        if setting.stage == FRESH:
            return vcpu
        try:
            vcpu.init(FEATURES[setting.features])
            if setting.stage != BEFORE and vcpu.lengths.has_vec:
                vcpu.finalize(Feature.VEC)
            if setting.svcr:
                write(vcpu, regid.SVCR, setting.svcr)
        except (KvmError, ValueError):
            raise Unavailable from None
        return vcpu


def attempt(call: Callable[..., object], *arguments: object) -> str:
    """What a call ends in, in a word."""
    try:
        call(*arguments)
    except KvmError as error:
        return error.symbol
    except HostOops:
        return "host crash"
    except ValueError:
        return "no such feature"
    return "ok"


def write(vcpu: Vcpu, reg_id: int, value: int) -> None:
    vcpu.set_one_reg(reg_id, value.to_bytes(regid.size_bytes(reg_id), "little"))


def read(vcpu: Vcpu, reg_id: int) -> int:
    return int.from_bytes(vcpu.get_one_reg(reg_id), "little")


def fill(vcpu: Vcpu, reg_id: int, value: int = PATTERN) -> bool:
    """Every byte of the register has this value, if it can be set."""
    return attempt(vcpu.set_one_reg, reg_id, bytes([value]) * regid.size_bytes(reg_id)) == "ok"


def content(vcpu: Vcpu, reg_id: int) -> bytes | None:
    """What a GET returns; None where it is refused."""
    try:
        return vcpu.get_one_reg(reg_id)
    except KvmError:
        return None


def live_bytes(value: bytes | None) -> int:
    """How many bytes there are up to the last that is not zero."""
    return len((value or b"").rstrip(b"\0"))


def changed(old: bytes, new: bytes) -> str:
    """What a register that held `old` has in `new`, in a few words."""
    if new == old:
        return "kept"
    if not any(new):
        return "zero"
    if len(new) <= 8:
        return f"{int.from_bytes(new, 'little'):#x}"
    live = live_bytes(new)
    return f"first {live} bytes kept" if new[:live] == old[:live] else "other registers' bytes"


def run(vcpu: Vcpu) -> None:
    """A guest has used FP and changed nothing."""
    with vcpu.run() as guest:
        _ = guest.fpsr


def guest_za(vcpu: Vcpu) -> list[bytes]:
    """The rows of ZA as a guest reads them."""
    with vcpu.run() as guest:
        guest.smcr = layout.SMCR_LEN
        return [guest.za[row] for row in range(guest.svl)]
