"""Lint: each rule is broken by the least recording that can, and not by a near one; the VMMs as they restore."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import recorded as real
import vmm_recordings
from places import PACKAGE, RECORDINGS
from vmm_recordings import Vmm, pattern

import kvmsve
from kvmsve import Feature, GuestUndefined, Host, cli
from kvmsve.facts import layout, regid
from kvmsve.facts.layout import SVCR_SM, SVCR_ZA
from kvmsve.facts.revisions import REVISIONS, RFC_V2, V4, V9, V10, V12, abi
from kvmsve.lint.report import RULES, lint
from kvmsve.recording.file import Recording
from kvmsve.recording.replay import Replay
from kvmsve.rules import reglist
from kvmsve.state.losses import Loss, describe

SHIPPED = RECORDINGS / "vmm"
BOTH = {Feature.SVE, Feature.SME}
SME_ALONE = {Feature.SME}
Z0, P0, V0, ROW0 = regid.zreg_id(0), regid.preg_id(0), regid.vreg_id(0), regid.za_row_id(0)


NOTHING = "lost: nothing in this recording"


def value(number: int, size: int = 8) -> bytes:
    return number.to_bytes(size, "little")


def zreg(vq: int) -> bytes:
    """A Z register as an ioctl carries it, the first 16 * vq bytes not zero."""
    return pattern(0, 16 * vq).ljust(256, b"\0")


class Session(Vmm):
    """A program on one new vCPU of a host, step by step."""

    def __init__(self, host: Any, features: set[Feature] = BOTH, finalized: bool = True, index: int = 0) -> None:
        super().__init__(host.create_vm().create_vcpu(index))
        self.vcpu.init(features)
        if finalized:
            self.vcpu.finalize(Feature.VEC)

    def set(self, reg_id: int, data: bytes) -> Session:
        self.write({reg_id: data})
        return self

    def get(self, *reg_ids: int) -> Session:
        self.read(reg_ids)
        return self

    def init(self) -> Session:
        self.vcpu.init(BOTH)
        return self

    def svcr(self, bits: int) -> Session:
        return self.set(regid.SVCR, value(bits))

    def run(self, svcr: int = 0, **registers: dict[int, bytes]) -> Session:
        """A guest switches modes and writes registers, as z={0: data}."""
        with self.vcpu.run() as guest:
            guest.smcr = 0xF
            guest.svcr = svcr
            for bank, values in registers.items():
                for n, data in values.items():
                    getattr(guest, bank)[n] = data
        return self


def run_z0(host: Any, **more: dict[int, bytes]) -> Session:
    """A streaming guest whose Z0 is not zero."""
    return Session(host).run(SVCR_SM, z={0: pattern(0, 64)}, **more)


def run_za(host: Any) -> Session:
    """A guest that has ZA on, and one row of it not zero."""
    return Session(host).run(SVCR_ZA, za={1: pattern(0, 64)})


def vls(*vqs: int) -> bytes:
    return regid.pack_vls(vqs)


def known_lengths(session: Session) -> Session:
    return session.get(regid.SVE_VLS, session.vcpu.abi.sme_vls)


BROKEN: list[tuple[str, str, Callable[[Any], object], str]] = [
    ("svcr-after-vectors", "v12", lambda host: Session(host).set(Z0, zreg(2)).svcr(1), "lost: Z0 (32 bytes)"),
    ("svcr-after-vectors", "v5", lambda host: Session(host).set(regid.FPSR, value(1, 4)).svcr(1),
     "lost: FPSR (0x1, now 0x800009f)"),
    ("svcr-after-vectors", "v12", lambda host: Session(host).set(Z0, zreg(2)).svcr(0), NOTHING),
    ("svcr-after-vectors", "v4", lambda host: Session(host).set(regid.zreg_id(1), zreg(2)).svcr(1),
     "lost: Z1 (32 bytes)"),
    ("svcr-after-vectors", "v12", lambda host: Session(host).svcr(1).set(P0, value(255)).svcr(0), "lost: P0 (1 byte)"),
    ("za-before-svcr", "v12", lambda host: Session(host).set(ROW0, zreg(4)).svcr(2), "lost: ZA.H[0] (64 bytes)"),
    ("za-before-svcr", "v12", lambda host: Session(host).set(regid.ZT0, b"\1" * 64).svcr(2), "lost: ZT0 (64 bytes)"),
    ("za-before-svcr", "v9", lambda host: Session(host).set(ROW0, zreg(3)).svcr(2), "lost: ZA.H[0] (48 bytes)"),
    ("vectors-before-streaming", "v12", lambda host: Session(host, SME_ALONE).set(Z0, zreg(4)).svcr(1),
     "lost: Z0 (64 bytes)"),
    ("vls-after-finalize", "v12", lambda host: Session(host).set(regid.SVE_VLS, vls(1)),
     "lost: SVE_VLS (vq 1, now vq 1,2)"),
    ("vls-after-finalize", "rfc-v2", lambda host: Session(host).set(RFC_V2.sme_vls, vls(1, 2, 4)),
     NOTHING),
    ("svcr-in-guest-format", "rfc-v2",
     lambda host: Session(host).run(SVCR_SM, z={1: pattern(0, 64)}).svcr(0), "lost: Z1 (32 bytes)"),
    ("lengths-do-not-fit", "v12", lambda host: Session(host).set(Z0, zreg(4)), "lost: Z0 (32 bytes)"),
    ("lengths-do-not-fit", "mainline-7.3", lambda host: Session(host, {Feature.SVE}).set(Z0, zreg(3)),
     "lost: Z0 (16 bytes)"),
    ("lengths-do-not-fit", "v12", lambda host: Session(host, finalized=False).set(regid.SVE_VLS, vls(1, 2, 3)),
     "lost: SVE_VLS (vq 1,2,3, now vq 1,2)"),
    ("lengths-do-not-fit", "v12", lambda host: Session(host).svcr(2).set(regid.za_row_id(64), zreg(4)),
     "lost: ZA.H[64] (64 bytes)"),
    ("not-restored", "v12", lambda host: (known_lengths(run_z0(host)).get(Z0, regid.SVCR), Session(host).svcr(1)),
     "lost: Z0 (64 bytes)"),
    ("not-restored", "v12",
     lambda host: (known_lengths(run_za(host)).get(regid.SVCR, regid.za_row_id(1)),
                   Session(host, {Feature.SVE}).set(regid.FPSR, value(0, 4))),
     "lost: ZA.H[1] (64 bytes), SVCR (0x2, now 0x0), SME_VLS (vq 1,2,4, now vq none)"),
    ("v-through-core", "v12", lambda host: run_z0(host).get(V0), "not saved: Z0 (64 bytes)"),
    ("v-through-core", "mainline-7.3", lambda host: Session(host, {Feature.SVE}).set(V0, pattern(0, 16)),
     "lost: Z0 (16 bytes)"),
    ("no-vcpu", "rfc-v2-posted", lambda host: Session(host).set(Z0, zreg(2)), "lost: V0 (32 bytes)"),
    ("host-crash", "rfc-v2-r1", lambda host: Session(host).get(regid.SMIDR_EL1), NOTHING),
    ("za-get-overwrites", "v9", lambda host: run_za(host).get(regid.za_row_id(1)),
     "lost: ZA.H[0]-ZA.H[1] (48 bytes)"),
    ("unreachable", "v9", lambda host: run_za(host).get(regid.SVCR), "not saved: ZA.H[1] (64 bytes)"),
    ("unreachable", "v10", lambda host: Session(host).run(SVCR_ZA, za={32: pattern(0, 64)}).get(regid.za_row_id(32)),
     "not saved: ZA.H[32] (64 bytes)"),
    ("not-listed", "rfc-v2", lambda host: run_za(host).get(regid.SVCR),
     "not saved: ZA.H[1] (64 bytes), SME_VLS (vq 1,2,4)"),
    ("not-listed", "rfc-v2", lambda host: Session(host, SME_ALONE).run(z={}, v={3: pattern(0, 16)}).get(regid.SVCR),
     "not saved: V3 (16 bytes), SME_VLS (vq 1,2,4)"),
    ("list-not-read-again", "v12", lambda host: _listed_first(host).run(SVCR_ZA, za={1: pattern(0, 64)}).get(Z0),
     "not saved: ZA.H[1] (64 bytes)"),
    ("not-read", "v12", lambda host: known_lengths(run_z0(host).get(regid.SVCR)),
     "not saved: Z0 (64 bytes), FPSR (0x800009f), SMCR_EL1 (0xf)"),
]  # fmt: skip


def _listed_first(host: Any) -> Session:
    session = Session(host)
    session.vcpu.get_reg_list()
    return session


SPARED: list[tuple[str, str, Callable[[Any], object]]] = [
    ("svcr-after-vectors", "v12", lambda host: Session(host).svcr(1).set(Z0, zreg(2)).svcr(1)),
    ("svcr-after-vectors", "v12", lambda host: Session(host).set(Z0, zreg(2)).svcr(1).set(Z0, zreg(2))),
    ("svcr-after-vectors", "v4", lambda host: Session(host).set(regid.FPSR, value(1, 4)).svcr(1)),
    ("svcr-after-vectors", "rfc-v2", lambda host: Session(host).set(Z0, zreg(2)).svcr(1)),
    ("za-before-svcr", "v12", lambda host: Session(host).svcr(2).set(ROW0, zreg(4))),
    ("za-before-svcr", "v12", lambda host: Session(host).set(ROW0, zreg(4)).svcr(1)),
    ("za-before-svcr", "v12", lambda host: Session(host).set(ROW0, zreg(4)).svcr(2).set(ROW0, zreg(4))),
    ("za-before-svcr", "rfc-v2", lambda host: Session(host).set(ROW0, zreg(4)).svcr(2)),
    ("vectors-before-streaming", "v12", lambda host: Session(host, SME_ALONE).svcr(1).set(Z0, zreg(4))),
    ("vectors-before-streaming", "v12", lambda host: Session(host).set(Z0, zreg(2)).svcr(1)),
    ("vectors-before-streaming", "rfc-v2", lambda host: Session(host, SME_ALONE).set(Z0, zreg(4)).svcr(1)),
    ("vls-after-finalize", "v12", lambda host: Session(host, finalized=False).set(regid.SVE_VLS, vls(1))),
    ("svcr-in-guest-format", "rfc-v2", lambda host: run_z0(host).get(Z0).svcr(0)),
    ("svcr-in-guest-format", "rfc-v2", lambda host: run_z0(host).svcr(3)),
    ("svcr-in-guest-format", "rfc-v2", lambda host: Session(host).set(Z0, zreg(4)).svcr(1)),
    ("svcr-in-guest-format", "v12", lambda host: run_z0(host).svcr(0)),
    ("lengths-do-not-fit", "v12", lambda host: Session(host).set(Z0, zreg(2))),
    ("lengths-do-not-fit", "v12", lambda host: Session(host).set(Z0, zreg(4)).set(Z0, zreg(2))),
    ("lengths-do-not-fit", "v12", lambda host: Session(host).set(Z0, zreg(4)).init()),
    ("lengths-do-not-fit", "rfc-v2", lambda host: Session(host).set(Z0, zreg(4)).svcr(1)),
    ("not-restored", "v12", lambda host: (run_z0(host).get(Z0), Session(host).svcr(1).set(Z0, zreg(4)))),
    ("not-restored", "v12", lambda host: (run_z0(host).get(regid.SVCR), Session(host).svcr(1))),
    ("not-restored", "v12",
     lambda host: (known_lengths(run_z0(host)).get(Z0, regid.SVCR), Session(host, index=1).svcr(1))),
    ("v-through-core", "v12", lambda host: run_z0(host).get(V0, Z0)),
    ("v-through-core", "v12", lambda host: Session(host, SME_ALONE).run(v={3: pattern(0, 16)}).get(V0)),
    ("no-vcpu", "rfc-v2-r1", lambda host: Session(host).set(Z0, zreg(2))),
    ("no-vcpu", "rfc-v2-posted", lambda host: Session(host)),
    ("host-crash", "rfc-v2", lambda host: Session(host).get(regid.SMIDR_EL1)),
    ("za-get-overwrites", "v10", lambda host: run_za(host).get(regid.za_row_id(1))),
    ("unreachable", "v12", lambda host: run_za(host).get(regid.SVCR)),
    ("unreachable", "v9", lambda host: run_z0(host).get(regid.SVCR)),
    ("not-listed", "rfc-v2", lambda host: known_lengths(run_za(host).get(regid.za_row_id(1)))),
    ("not-listed", "rfc-v2", lambda host: run_za(host)),
    ("not-listed", "v12", lambda host: run_za(host).get(regid.SVCR)),
    ("list-not-read-again", "v12",
     lambda host: _listed_first(host).run(SVCR_ZA, za={1: b"\1" * 64}).get(Z0, regid.za_row_id(1))),
    ("list-not-read-again", "v10", lambda host: _listed_first(host).run(SVCR_ZA, za={1: b"\1" * 64}).get(Z0)),
    ("not-read", "v12", lambda host: known_lengths(run_z0(host).get(Z0, regid.SVCR, regid.FPSR, regid.SMCR_EL1))),
]  # fmt: skip


def host_of(revision: kvmsve.Abi, **host: Any) -> Host:
    return Host(**{"abi": revision, "sve_vqs": {1, 2}, "sme_vqs": {1, 2, 4}, "sme2": True, "fa64": True} | host)


def recorded(path: Path, revision: str, program: Callable[[Any], object]) -> Recording:
    """The program on a kernel that has all it calls for; what that kernel answers is not to count."""
    kernel = {"rfc": RFC_V2, "mai": abi("mainline-7.3")}.get(revision[:3], V12)
    with kvmsve.record(path, host_of(kernel)) as host:
        program(host)
    return Recording(path)


def found(recording: Recording, revision: str) -> dict[str, str]:
    return {finding.rule.name: finding.consequence for finding in lint(recording, abi(revision)).findings}


@pytest.mark.parametrize(("rule", "revision", "program", "consequence"), BROKEN)
def test_a_rule_says_what_is_lost(tmp_path, rule, revision, program, consequence):
    assert found(recorded(tmp_path / "r.jsonl", revision, program), revision).get(rule) == consequence


@pytest.mark.parametrize(("rule", "revision", "program"), SPARED)
def test_a_rule_spares_what_is_right(tmp_path, rule, revision, program):
    assert rule not in found(recorded(tmp_path / "r.jsonl", revision, program), revision)


def test_every_rule_is_broken_and_spared_here():
    names = {rule.name for rule in RULES}
    assert {rule for rule, *_ in BROKEN} == names == {rule for rule, *_ in SPARED}


def test_every_rule_explains_itself_and_ends_in_one_sentence():
    for rule in RULES:
        assert rule.why.endswith(".")
        assert rule.fix.endswith(".")
        assert rule.fix.count(". ") == 0


def test_rules_know_no_revision_and_no_vmm_by_name():
    for path in (PACKAGE / "lint").glob("*.py"):
        words = set(path.read_text().lower().replace('"', " ").split())
        assert not words & {*REVISIONS, "rfc", *vmm_recordings.VMMS, "cloud", "rfc_v2"}


def test_equal_lengths_make_the_order_of_a_plain_store_indifferent(tmp_path):
    with kvmsve.record(tmp_path / "r.jsonl", host_of(V4, sme_vqs={1, 2})) as host:
        Session(host).set(Z0, zreg(2)).svcr(1)
    assert found(Recording(tmp_path / "r.jsonl"), "v4") == {}


def test_losses_are_told_in_ranges_bytes_and_values():
    lost = [
        Loss(regid.FPSR, value(1, 4), value(0, 4)),
        *(Loss(regid.zreg_id(n), b"\1\2", b"\1") for n in (0, 1, 2, 5)),
        Loss(regid.FFR_ID, b"\1", None),
        Loss(regid.preg_id(15), b"\1", None),
        Loss(regid.TPIDR2_EL0, value(2), None),
    ]
    told = "Z0-Z2 (3 bytes), Z5 (1 byte), P15 (1 byte), FFR (1 byte), FPSR (0x1, now 0x0), TPIDR2_EL0 (0x2)"
    assert describe(lost, regid.name) == told


# A VMM that does it right


class Careful(Vmm):
    """Lengths before FINALIZE, SVCR next, then all that hangs on it, then the rest of the list."""

    def __init__(self, vcpu: Any, features: set[Feature]) -> None:
        super().__init__(vcpu)
        self.features = features

    def start(self) -> None:
        self.vcpu.init(self.features)
        self.finalize()

    def save(self) -> dict[int, bytes]:
        first = [*self.lengths(), regid.SVCR, regid.FPSR, regid.FPMR]
        vectors = [*reglist.ZREGS, *reglist.PREGS, regid.FFR_ID, *sorted(reglist.VREGS)]
        return self.read(dict.fromkeys([*first, *vectors, *self.matrix(), *self.vcpu.get_reg_list()]))

    def restore(self, saved: dict[int, bytes]) -> None:
        self.vcpu.init(self.features)
        self.write({reg_id: saved[reg_id] for reg_id in self.lengths() if reg_id in saved})
        self.finalize()
        self.write({reg_id: data for reg_id, data in saved.items() if reg_id not in self.lengths()})

    def lengths(self) -> list[int]:
        return [regid.SVE_VLS, self.vcpu.abi.sme_vls]

    def matrix(self) -> list[int]:
        if self.vcpu.abi.za.get_writes:
            return []
        return [*map(regid.za_row_id, range(16 * self.vcpu.lengths.sme_vq)), regid.ZT0]


@pytest.mark.parametrize("features", [BOTH, SME_ALONE], ids=["sve-sme", "sme"])
@pytest.mark.parametrize("revision", [RFC_V2, V4, V9, V10, V12], ids=lambda revision: revision.name)
def test_a_careful_vmm_has_findings_only_where_the_revision_leaves_no_way(tmp_path, revision, features):
    for svcr, sme_vq in product(range(4), (1, 4)):
        path = tmp_path / f"{svcr}-{sme_vq}.jsonl"
        with kvmsve.record(path, host_of(revision, sme_vqs={sme_vq}, fpmr=True)) as host:
            saver = Careful(host.create_vm().create_vcpu(0), features)
            saver.start()
            with saver.vcpu.run() as guest:
                guest.smcr = layout.SMCR_FA64 | layout.SMCR_EZT0 | 0xF
                guest.svcr = svcr
                fill_what_is_there(guest, features, svcr)
            Careful(host.create_vm().create_vcpu(0), features).restore(saver.save())
        report = lint(Recording(path), revision)
        no_way = (bool(svcr & SVCR_ZA) and (revision.za.get_writes or revision.za.row_modulus < 16 * sme_vq)) or (
            bool(svcr & SVCR_SM) and revision.zp_needs_sve and Feature.SVE not in features
        )
        assert {finding.rule.name for finding in report.findings} == ({"unreachable"} if no_way else set())
        assert [bool(transfer.lost) for transfer in report.transfers] == [no_way]


def fill_what_is_there(guest: Any, features: set[Feature], svcr: int) -> None:
    if svcr & SVCR_SM or Feature.SVE in features:
        for n in range(layout.NUM_ZREGS):
            guest.z[n] = pattern(n, guest.vl)
        guest.p[3] = pattern(3, guest.vl // 8)
        guest.ffr = pattern(4, guest.vl // 8)
    guest.v[5] = pattern(5, 16)
    if svcr & SVCR_ZA:
        for row in (0, guest.svl // 2, guest.svl - 1):
            guest.za[row] = pattern(row, guest.svl)
        guest.zt0 = pattern(6, 64)
    guest.fpsr, guest.fpcr = 0x1F, 1 << 24
    with suppress(GuestUndefined):
        guest.fpmr = 0x55


# What kernels did


@pytest.mark.parametrize("name", ["v4-abi", "v9-abi", "v10-abi", "v12-abi"])
def test_a_kernel_loses_registers_in_list_order_and_not_with_svcr_first(tmp_path, name):
    """The client of these recordings restores each list both ways, and reads what has become of it."""
    lines = real.lines(name)
    begin = next(n for n, line in enumerate(lines) if line.get("name") == "replay of the register list")
    part = [lines[0], *lines[begin:]]
    recording = Recording(real.write(tmp_path / "r.jsonl", part))
    order = {"svcr-after-vectors", "za-before-svcr", "vectors-before-streaming"}
    report = lint(recording, recording.header.abi)
    hit = {heading(part, finding.line) for finding in report.findings if finding.rule.name in order}
    assert hit
    assert all(text.endswith("in list order") for text in hit)


def heading(lines: list[dict[str, Any]], line: int) -> str:
    """The last note before a line."""
    return next(op["text"] for op in reversed(lines[:line]) if op.get("op") == "note")


def test_a_kernel_read_back_what_lint_says_is_lost(tmp_path):
    """v4 in list order: SME_VLS is not in the list, so the new vCPU has another streaming length."""
    lines = real.lines("v4-abi")
    note = "sve vq 2, sme vq 2, SVCR 1: save all listed registers, restore into a new vcpu in list order"
    begin = next(n for n, line in enumerate(lines) if line.get("text") == note)
    end = next(n for n, line in enumerate(lines[begin + 1 :], begin + 1) if line.get("op") == "note")
    part = [lines[0], *lines[begin:end]]
    given, read = ({} for _ in range(2))
    for op in part:
        if op.get("vcpu") == 80 and op["op"] in ("set", "get") and op["id"][8:12] == "0015":
            (given if op["op"] == "set" else read)[op["id"]] = bytes.fromhex(op["data"]).ljust(256, b"\0")
    zregs = [f"{regid.zreg_id(n):016x}" for n in range(32)]
    differing = sum(a != b for z in zregs for a, b in zip(given[z], read[z], strict=True))
    recording = Recording(real.write(tmp_path / "r.jsonl", part))
    lost = next(f for f in lint(recording, V4).findings if f.rule.name == "svcr-after-vectors").consequence
    assert lost.startswith(f"lost: Z0-Z31 ({differing} bytes), ")


# VMMs as they are

VECTORS = "Z0-Z31 (2048 bytes), P0-P15 (128 bytes), FFR (8 bytes)"
ZA = "ZA.H[0]-ZA.H[63] (4096 bytes), ZT0 (64 bytes)"
FLUSHED_FPSR = "FPSR (0x800001f, now 0x800009f)"
ZA_IS_NOT_LISTED = [("not-listed", f"not saved: {ZA}, SME_VLS (vq 1,2,4)")]
BY_LIST = [
    ("vls-after-finalize", NOTHING),
    ("za-before-svcr", f"lost: {ZA}"),
    ("svcr-after-vectors", f"lost: {VECTORS}, {FLUSHED_FPSR}"),
]
V_IS_REFUSED = [
    ("v-through-core", "not saved: Z0-Z31 (2048 bytes)"),
    ("v-through-core", NOTHING),
]
EXPECTED = {
    ("qemu", "rfc-v2"): (ZA_IS_NOT_LISTED, ZA),
    ("firecracker", "rfc-v2"): (ZA_IS_NOT_LISTED, ZA),
    ("cloud-hypervisor", "rfc-v2"): (ZA_IS_NOT_LISTED, ZA),
    ("crosvm", "rfc-v2"): (
        [
            *ZA_IS_NOT_LISTED,
            ("not-read", "not saved: P0-P15 (128 bytes), FFR (8 bytes), FPSR (0x800001f), FPCR (0x1000000), "
             "SVE_VLS (vq 1,2)"),
            *V_IS_REFUSED,
        ],
        f"{VECTORS}, {ZA}, FPSR (0x800001f, now 0x0), FPCR (0x1000000, now 0x0)",
    ),
    ("qemu", "v12"): (
        [("list-not-read-again", f"not saved: {ZA}"), ("not-read", "not saved: SME_VLS (vq 1,2,4)"), BY_LIST[2]],
        f"{VECTORS}, {ZA}, {FLUSHED_FPSR}",
    ),
    ("firecracker", "v12"): (BY_LIST, f"{VECTORS}, {ZA}, {FLUSHED_FPSR}"),
    ("cloud-hypervisor", "v12"): (BY_LIST, f"{VECTORS}, {ZA}, {FLUSHED_FPSR}"),
    ("crosvm", "v12"): (
        [
            ("not-read", f"not saved: P0-P15 (128 bytes), FFR (8 bytes), {ZA}, FPSR (0x800001f), FPCR (0x1000000), "
             "SVE_VLS (vq 1,2), SME_VLS (vq 1,2,4)"),
            *V_IS_REFUSED,
        ],
        f"{VECTORS}, {ZA}, {FLUSHED_FPSR}, FPCR (0x1000000, now 0x0)",
    ),
}  # fmt: skip


def shipped(vmm: str, revision: str) -> Path:
    return SHIPPED / f"vmm-{vmm}-{revision}.jsonl.xz"


def test_a_recording_of_every_vmm_is_there():
    assert set(SHIPPED.iterdir()) == {shipped(*key) for key in EXPECTED}
    assert {vmm for vmm, _ in EXPECTED} == set(vmm_recordings.VMMS)


@pytest.mark.parametrize(("vmm", "revision"), EXPECTED)
def test_a_vmm_loses_exactly_this(vmm, revision):
    report = lint(Recording(shipped(vmm, revision)), abi(revision))
    findings, lost = EXPECTED[vmm, revision]
    assert [(finding.rule.name, finding.consequence) for finding in report.findings] == findings
    assert [transfer.lost for transfer in report.transfers] == [lost]


@pytest.mark.parametrize(("vmm", "revision"), EXPECTED)
def test_a_shipped_recording_replays_and_is_what_the_script_writes(tmp_path, vmm, revision):
    path = shipped(vmm, revision)
    recording = Recording(path)
    replay = Replay(recording)
    for line, op in recording:
        replay.play(line, op)
    again = vmm_recordings.write_recording(tmp_path, vmm, abi(revision))
    assert again.name == path.name
    assert lzma.decompress(again.read_bytes()) == lzma.decompress(path.read_bytes())
    assert path.stat().st_size < 20_000


@pytest.mark.parametrize("vmm", ["qemu", "firecracker", "cloud-hypervisor"])
def test_calls_made_for_one_revision_are_judged_by_the_rules_of_another(vmm):
    recording = shipped(vmm, "rfc-v2")
    assert found(Recording(recording), "v12")["svcr-after-vectors"] == f"lost: {VECTORS}, {FLUSHED_FPSR}"
    assert "svcr-after-vectors" not in found(Recording(shipped(vmm, "v12")), "rfc-v2")


# The command


def test_the_command_prints_findings_and_exits_with_1(capsys):
    assert cli.main(["lint", "--abi", "v12", str(shipped("qemu", "v12"))]) == 1
    out = capsys.readouterr().out
    assert out.count("\n    why: ") == out.count("\n    fix: ") == 3
    assert "vCPU 1: svcr-after-vectors\n    lost: Z0-Z31 (2048 bytes)" in out
    assert out.endswith("vmm-qemu-v12.jsonl.xz under v12: 3 findings\n")


def test_the_command_takes_the_revision_of_the_recording(tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    recorded(path, "v12", lambda host: Session(host).svcr(1).set(Z0, zreg(4)))
    assert cli.main(["lint", str(path)]) == 0
    assert capsys.readouterr().out == "r.jsonl under v12: 0 findings\n"


def test_the_command_exits_with_2_for_what_is_no_recording(tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    path.write_text("{}\n")
    assert cli.main(["lint", str(path)]) == 2
    assert cli.main(["lint", str(tmp_path / "none")]) == 2
    with pytest.raises(SystemExit) as usage:
        cli.main(["lint", "--abi", "v99", str(path)])
    assert usage.value.code == 2
    assert "no recording" in capsys.readouterr().err
