"""Probes of what has no vector meaning: features beside SVE and SME, ID registers, and when they are fixed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress

from ..errors import KvmError
from ..facts import Feature, regid
from ..machine import Vcpu
from .settings import Bench, Setting, attempt, read, write

Seen = Iterator[tuple[str, str, str]]

MIDR_EL1 = regid.BY_NAME["MIDR_EL1"]


def features(bench: Bench, setting: Setting) -> Seen:
    """Which feature bits INIT takes alone, and which indices KVM_CREATE_VCPU."""
    taken = (bit for bit in range(16) if attempt(bench.vm(setting).create_vcpu(0).init, {bit}) == "ok")
    yield "feature bits that INIT takes alone", "", " ".join(map(str, taken))
    if bench.abi.sme_feature != Feature.PMU_V3_STRICT.value:
        strict = {Feature.PMU_V3, Feature.PMU_V3_STRICT}
        yield "INIT with PMU_V3 and PMU_V3_STRICT", "", attempt(bench.vm(setting).create_vcpu(0).init, strict)
    yield "KVM_CREATE_VCPU of 2^32", "", attempt(bench.vm(setting).create_vcpu, 1 << 32)


def order(bench: Bench, setting: Setting) -> Seen:
    """Where the list has the registers that are not sorted in every kernel."""
    listed = [reg_id for reg_id in bench.vcpu(setting).listing.ids if regid.coproc(reg_id) == regid.SYSREG]
    yield "first system registers of the list", "", ", ".join(map(regid.name, listed[:2]))


def writable(bench: Bench, setting: Setting) -> Seen:
    """How much of the ID registers can be written, and from which value on."""
    masks = bench.vm(setting).writable_masks
    yield "writable ID registers, bits of them", "", f"{len(masks)}, {sum(map(int.bit_count, masks.values()))}"
    yield "fields of ID registers with a least value", "", str(len(bench.abi.id_floors))


def freezing(bench: Bench, setting: Setting) -> Seen:
    """Whether ID registers take another value after a first run, and after one that failed."""
    for when, fails in (("KVM_RUN", None), ("a KVM_RUN that failed", errno.ENXIO)):
        vcpu = bench.vcpu(setting)
        with suppress(KvmError):
            vcpu.run(immediate_exit=True, fails=fails)
        yield f"SET of ID_AA64PFR0_EL1.CSV3 after {when}", "", attempt(_change_csv3, vcpu)


def _change_csv3(vcpu: Vcpu) -> None:
    write(vcpu, regid.ID_AA64PFR0_EL1, read(vcpu, regid.ID_AA64PFR0_EL1) ^ 1 << 60)


def implementation(bench: Bench, setting: Setting) -> Seen:
    """Whether MIDR_EL1 takes another value."""
    yield "SET of MIDR_EL1", "", attempt(write, bench.vcpu(setting), MIDR_EL1, 0x410F_D0C0)
    if bench.abi.imp_id_cap is not None:
        vm = bench.vm(setting)
        vm.enable_cap(bench.abi.imp_id_cap)
        end = attempt(write, bench.vcpu(setting, vm), MIDR_EL1, 0x410F_D0C0)
        yield "SET of MIDR_EL1 with KVM_CAP_ARM_WRITABLE_IMP_ID_REGS", "", end
