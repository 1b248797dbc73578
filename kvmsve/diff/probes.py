"""Probes: what a userspace program meets under one revision, in one setting, as aspects and short texts.

Every text is a field of Abi or what the model did, so that a new revision shows without a change here. In a setting
that a revision cannot have, a probe raises Unavailable or leaves the aspect out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..facts import SVCR_SM, SVCR_ZA, Feature, layout, regid
from ..machine import Vcpu
from ..rules import ALL_BITS, idregs, reglist
from . import scalar_probes
from .settings import (
    AFTER,
    BEFORE,
    BOTH,
    FEATURES,
    FRESH,
    NO_VECTORS,
    PATTERN,
    RAN,
    SME,
    SVE,
    Bench,
    Setting,
    attempt,
    changed,
    content,
    fill,
    guest_za,
    live_bytes,
    read,
    run,
    settings,
    write,
)

Seen = Iterator[tuple[str, str, str]]  # an aspect, the register (or nothing) that {} in it stands for, and a text

CONTROLS = {
    regid.name(reg_id): reg_id
    for reg_id in (
        regid.SVCR, regid.SMCR_EL1, regid.SMIDR_EL1, regid.SMPRI_EL1, regid.TPIDR2_EL0, regid.FPSR, regid.FPMR,
    )
}  # fmt: skip


class Probe(NamedTuple):
    """A heading of the table, a look at one setting, and the values that each part of the setting takes."""

    heading: str
    look: Callable[[Bench, Setting], Seen]
    dimensions: dict[str, tuple[Any, ...]]

    def settings(self) -> Iterator[Setting]:
        """Every setting of the probe, in order."""
        return settings(self.dimensions)


def numbers(bench: Bench, _: Setting) -> Seen:
    """What a program has to know before its first call."""
    abi = bench.abi
    yield "Linux", "", "{}.{}".format(*abi.linux)
    yield "KVM_VCPU_MAX_FEATURES", "", str(abi.max_features)
    for name, number in (("KVM_ARM_VCPU_SME", abi.sme_feature), ("KVM_CAP_ARM_SME", abi.sme_cap)):
        yield name, "", ("not known" if abi.has_sme else "none") if number is None else str(number)
    for name, reg_id in (("SME_VLS", abi.sme_vls), ("ZT0", abi.zt0)):
        yield "ID of {}", name, "none" if reg_id is None else f"0x{reg_id:016x}"


def life_cycle(bench: Bench, setting: Setting) -> Seen:
    """INIT, FINALIZE and KVM_RUN, as far as each follows on success."""
    features = FEATURES[setting.features]
    vcpu = bench.vm(setting).create_vcpu(0)
    calls: dict[str, Callable[[], object]] = {"INIT": lambda: vcpu.init(features)}
    if features:
        calls["FINALIZE"] = lambda: vcpu.finalize(Feature.VEC)
    calls["KVM_RUN"] = lambda: run(vcpu)
    for name, call in calls.items():
        result = attempt(call)
        yield name, "", result
        if result != "ok":
            return


def neighbours(bench: Bench, setting: Setting) -> Seen:
    """INIT on a host without SME, and beside a vCPU with other features."""
    if bench.abi.has_sme:
        vcpu = Bench(bench.abi, (bench.sve_vqs, frozenset())).vm(setting).create_vcpu(0)
        yield "INIT with SME on a host without", "", attempt(vcpu.init, FEATURES[SME])
    vm = bench.vm(setting)
    bench.vcpu(setting._replace(features=NO_VECTORS), vm)
    yield "INIT with SVE beside a vCPU without", "", attempt(vm.create_vcpu(1).init, FEATURES[SVE])


def second_init(bench: Bench, setting: Setting) -> Seen:
    """What INIT leaves of Z when it comes again."""
    vcpu = bench.vcpu(setting)
    if fill(vcpu, regid.zreg_id(0)):
        vcpu.init(FEATURES[setting.features])
        attempt(write, vcpu, regid.SVCR, setting.svcr)
        yield "Z after another INIT", "", "kept" if live_bytes(content(vcpu, regid.zreg_id(0))) else "zero"


def list_counts(bench: Bench, setting: Setting) -> Seen:
    """How many registers of each kind the list names."""
    listing = bench.vcpu(setting).listing
    kinds = [regid.coproc(reg_id) for reg_id in listing.ids]
    counts = [kinds.count(kind) for kind in (regid.CORE, regid.SVE, regid.SME)]
    text = "/".join(str(count) for count in [*counts, len(kinds) - sum(counts)])
    yield "core/SVE/SME/other", "", f"{text}, {listing.unwritten} counted only" if listing.unwritten else text


def list_entries(bench: Bench, setting: Setting) -> Seen:
    """Whether the list names a register of each kind."""
    listed = {*bench.vcpu(setting).listing.ids}
    for name, reg_id in _representatives(bench).items():
        yield "{} listed", name, "yes" if reg_id in listed else "no"


def gates(bench: Bench, setting: Setting) -> Seen:
    """What a GET of a register of each kind ends in."""
    vcpu = bench.vcpu(setting)
    rows = layout.zreg_bytes(max(bench.sme_vqs, default=1))
    others = {
        f"ZA.H[{rows - 1}] (last)": regid.za_row_id(rows - 1),
        f"ZA.H[{rows}] (beyond)": regid.za_row_id(rows),
        "ZA.H[0] slice 1": regid.za_row_id(0, 1),
    }
    for name, reg_id in (_representatives(bench) | others).items():
        yield "GET of {}", name, attempt(vcpu.get_one_reg, reg_id)


def _representatives(bench: Bench) -> dict[str, int]:
    """One register of each kind, by name, under the numbers of the revision."""
    kinds = {
        "V0": regid.vreg_id(0), "SVE_VLS": regid.SVE_VLS, "Z0": regid.zreg_id(0), "P0": regid.preg_id(0),
        "FFR": regid.FFR_ID, "ZA.H[0]": regid.za_row_id(0), "ZT0": bench.abi.zt0 or regid.ZT0,
    }  # fmt: skip
    vls = {} if bench.abi.sme_vls is None else {"SME_VLS": bench.abi.sme_vls}
    return kinds | vls | CONTROLS


def row_window(bench: Bench, setting: Setting) -> Seen:
    """From which number on a ZA row is no register."""
    vcpu = bench.vcpu(setting)
    ends = [attempt(vcpu.get_one_reg, regid.za_row_id(row)) for row in range(2048)]
    known = [row for row, end in enumerate(ends) if end != "EINVAL"]
    yield "GET of ZA.H[n] is EINVAL from n =", "", str(max(known, default=-1) + 1)


def row_places(bench: Bench, setting: Setting) -> Seen:
    """Where in the guest's ZA a SET of a row arrives, and what a GET of it does."""
    for row in (0, 1, 32):
        vcpu, reg_id = bench.vcpu(setting), regid.za_row_id(row)
        if row >= layout.zreg_bytes(vcpu.lengths.sme_vq) or not fill(vcpu, reg_id):
            continue
        yield "SET of {} arrives at", f"ZA.H[{row}]", _place(guest_za(vcpu))
        buffer = bytearray(regid.size_bytes(reg_id))
        vcpu.get_one_reg_into(reg_id, buffer)
        yield "GET of a ZA row", "", "returns it" if any(buffer) else "returns nothing"
        yield "a ZA row after a GET", "", "kept" if any(map(any, guest_za(vcpu))) else "zero"


def _place(za: list[bytes]) -> str:
    """Where PATTERN is."""
    found = [(row, at) for row, data in enumerate(za) for at, byte in enumerate(data) if byte == PATTERN]
    return "row {}, byte {}: {} bytes".format(*found[0], len(found)) if found else "nowhere"


def z_lengths(bench: Bench, setting: Setting) -> Seen:
    """How many bytes of Z userspace can set, and how many are left when a guest has run."""
    vcpu, reg_id = bench.vcpu(setting), regid.zreg_id(0)
    if fill(vcpu, reg_id):
        yield "bytes of Z", "", str(live_bytes(content(vcpu, reg_id)))
        run(vcpu)
        yield "bytes of Z after KVM_RUN", "", str(live_bytes(content(vcpu, reg_id)))


CONTENTS = {
    regid.zreg_id(1): "Z", regid.preg_id(1): "P", regid.vreg_id(1): "V", regid.FPSR: "FPSR", regid.FPCR: "FPCR",
    regid.FPMR: "FPMR",
}  # fmt: skip


def svcr_effects(bench: Bench, setting: Setting) -> Seen:
    """What each register holds after a SET of SVCR that changes one bit."""
    changes = {"SM": SVCR_SM} if setting.stage == RAN else {"SM": SVCR_SM, "ZA": SVCR_ZA}
    for name, bit in changes.items():
        vcpu = _filled(bench, setting)
        before = {reg_id: content(vcpu, reg_id) for reg_id in CONTENTS}
        if setting.stage == RAN:
            run(vcpu)
        write(vcpu, regid.SVCR, setting.svcr ^ bit)
        aspect = f"{{}} after a change of {name}"
        for reg_id, old in before.items():
            new = content(vcpu, reg_id)
            if old is not None and new is not None:
                yield aspect, CONTENTS[reg_id], changed(old, new)
        zt0 = content(vcpu, regid.ZT0)
        if zt0 is not None:
            yield aspect, "ZT0", "kept" if any(zt0) else "zero"
        if vcpu.svcr & SVCR_ZA:
            yield aspect, "ZA", "kept" if any(map(any, guest_za(vcpu))) else "zero"


def _filled(bench: Bench, setting: Setting) -> Vcpu:
    """A vCPU with other bytes in every register; in ZA and ZT0 also where SVCR.ZA is 0."""
    vcpu = bench.vcpu(setting._replace(za=True))
    fill(vcpu, regid.za_row_id(0))
    fill(vcpu, regid.ZT0)
    write(vcpu, regid.SVCR, setting.svcr)
    for value, reg_id in enumerate((*reglist.ZREGS, *reglist.PREGS, *CONTENTS), start=1):
        fill(vcpu, reg_id, value)
    return vcpu


def svcr_res0(bench: Bench, setting: Setting) -> Seen:
    """What becomes of a bit of SVCR that has no meaning."""
    vcpu = bench.vcpu(setting)
    end = attempt(write, vcpu, regid.SVCR, 4)
    yield "SET of SVCR to 4", "", f"reads back {read(vcpu, regid.SVCR)}" if end == "ok" else end


def id_registers(bench: Bench, setting: Setting) -> Seen:
    """What a vCPU sees of the ID registers, and which writes they take."""
    for reg_id, mask in {
        regid.ID_AA64PFR0_EL1: 0,
        regid.ID_AA64PFR1_EL1: idregs.PFR1_SME,
        regid.ID_AA64SMFR0_EL1: ALL_BITS,
        regid.ID_AA64ZFR0_EL1: ALL_BITS,
    }.items():
        vcpu, name = bench.vcpu(setting), regid.name(reg_id)
        value = read(vcpu, reg_id)
        yield "value of {}", name, f"{value:#x}"
        if value & mask:
            field = f"{name}.SME" if mask == idregs.PFR1_SME else name
            yield "SET of {} to 0", field, attempt(write, vcpu, reg_id, value & ~mask)


def id_gates(bench: Bench, setting: Setting) -> Seen:
    """Whether what an ID register hides is gone."""
    for feature, hider, value, reg_id in (
        ("SME2", regid.ID_AA64PFR1_EL1, 1 << idregs.PFR1_SME_SHIFT, regid.ZT0),
        ("FA64", regid.ID_AA64SMFR0_EL1, 0, regid.FFR_ID),
    ):
        vcpu = bench.vcpu(setting)
        if attempt(write, vcpu, hider, value) == "ok":
            yield f"GET of {{}}, {feature} hidden", regid.name(reg_id), attempt(vcpu.get_one_reg, reg_id)


def smidr(bench: Bench, setting: Setting) -> Seen:
    """Whose SMIDR_EL1 is, and when it can be written."""
    vm = bench.vm(setting)
    first, second = bench.vcpu(setting, vm), bench.vcpu(setting, vm)
    if attempt(read, first, regid.SMIDR_EL1) == "ok":
        yield "SMIDR_EL1 of a new VM", "", "the host's" if read(first, regid.SMIDR_EL1) else "zero"
    yield "SET of SMIDR_EL1", "", _smidr_after(first, second, 0x10)
    vm = bench.vm(setting)
    if bench.abi.imp_id_cap is None:
        return
    vm.enable_cap(bench.abi.imp_id_cap)
    first, second = bench.vcpu(setting, vm), bench.vcpu(setting, vm)
    yield "SET of SMIDR_EL1 with KVM_CAP_ARM_WRITABLE_IMP_ID_REGS", "", _smidr_after(first, second, 0x20)


def _smidr_after(vcpu: Vcpu, other: Vcpu, value: int) -> str:
    end = attempt(write, vcpu, regid.SMIDR_EL1, value)
    if end == "ok" and attempt(read, vcpu, regid.SMIDR_EL1) == "ok":
        holders = [read(each, regid.SMIDR_EL1) == value for each in (vcpu, other)]
        return "sets all vCPUs" if all(holders) else "sets this vCPU" if any(holders) else "ignored"
    return end


ALL = tuple(FEATURES)
WITH_SME, OFF_ON = (SME, BOTH), (False, True)
SVCR = {"sm": OFF_ON, "za": OFF_ON}
HOST = {"sme2": OFF_ON, "fa64": OFF_ON}
PROBES = (
    Probe("numbers", numbers, {}),
    Probe("numbers", scalar_probes.features, {}),
    Probe("life cycle", life_cycle, {"features": ALL}),
    Probe("life cycle", neighbours, {}),
    Probe("life cycle", second_init, {"features": ALL, **SVCR}),
    Probe("register list, SME2 and no FA64", list_counts, {"features": ALL, **SVCR, "fa64": (False,)}),
    Probe("register list", scalar_probes.order, {"features": (NO_VECTORS,)}),
    Probe("register list", list_entries, {"features": ALL, **SVCR, **HOST}),
    Probe("access", gates, {"features": ALL, "stage": (FRESH, BEFORE, AFTER), **SVCR, **HOST}),
    Probe("access", row_window, {"features": (NO_VECTORS, SVE)}),
    Probe("contents", row_places, {"features": WITH_SME, "sm": OFF_ON, "za": (True,)}),
    Probe("contents", z_lengths, {"features": ALL, **SVCR}),
    Probe("SET of SVCR (SM and ZA: before it)", svcr_effects, {"features": WITH_SME, "stage": (AFTER, RAN), **SVCR}),
    Probe("SET of SVCR (SM and ZA: before it)", svcr_res0, {"features": WITH_SME, "stage": (BEFORE, AFTER)}),
    Probe("ID registers", id_registers, {"features": ALL, "stage": (BEFORE, AFTER)}),
    Probe("ID registers", id_gates, {"features": WITH_SME, **SVCR}),
    Probe("ID registers", smidr, {"features": ALL}),
    Probe("ID registers", scalar_probes.writable, {}),
    Probe("ID registers", scalar_probes.freezing, {"features": (SVE,)}),
    Probe("ID registers", scalar_probes.implementation, {"features": (NO_VECTORS,)}),
)
