"""The register list: row for row the one of RFC v2, for each kind of vCPU."""

import model
import pytest
from places import TABLES

from kvmsve.facts.revisions import RFC_V2, V10
from kvmsve.rules import reglist, sysreg
from kvmsve.rules.onereg import Reach
from kvmsve.rules.sysreg import open_gates
from kvmsve.rules.views import VectorLengths, view

TABLE = TABLES / "rfc-v2-reglist.tsv"
ROWS = [line.split("\t") for line in TABLE.read_text().splitlines() if not line.startswith("#")]
SYSREG = 0x6030_0000_0013_0000

KINDS = pytest.mark.parametrize(
    ("sve", "sme", "count"),
    [(False, False, 259), (True, False, 278), (True, True, 282), (False, True, 231)],
    ids=["plain", "SVE", "SVE+SME", "SME only"],
)


def listed(lengths: VectorLengths) -> tuple[int, ...]:
    """The list of an RFC v2 vCPU."""
    gates = open_gates(RFC_V2, lengths, has_fpmr=False)
    seen = view(RFC_V2, lengths, svcr=0, has_fa64=False)
    reach = Reach(RFC_V2, lengths, seen, has_sme2=True, za_is_on=False, finalized=True)
    return reglist.listing(reach, gates).ids


def expected(sve: bool, sme: bool) -> list[int]:
    """The rows whose condition holds."""
    conditions = {
        "": True,
        "only if !vcpu_has_vec": not (sve or sme),
        "only if vcpu_has_sve": sve,
        "only if vcpu_has_sme": sme,
    }
    return [int(reg_id, 16) for reg_id, _, kind in ROWS if conditions[kind.partition(", ")[2]]]


@KINDS
@pytest.mark.parametrize("vq", [1, 4, 16])
def test_the_list_is_the_kernels(sve, sme, count, vq):
    ids = listed(VectorLengths(vq if sve else 0, vq if sme else 0))
    assert list(ids) == expected(sve, sme)
    assert len(ids) == len(set(ids)) == count


@KINDS
def test_the_list_is_the_models(sve, sme, count):
    twin = model.Host([1, 2], [1, 2]).create_vm().create_vcpu(0)
    twin.init([sve << 4 | sme << 8, 0, 0, 0, 0, 0, 0])
    if sve or sme:
        twin.finalize(4)
    assert list(listed(VectorLengths(2 * sve, 2 * sme))) == twin.reg_list()


def test_lengths_do_not_change_the_list():
    assert listed(VectorLengths(1, 16)) == listed(VectorLengths(16, 1)) == listed(VectorLengths(3, 3))


def test_what_is_never_listed():
    ids = listed(VectorLengths(2, 4))
    assert not {0x6060_0000_0017_FFFF, 0x6060_0000_0017_0600, 0x6080_0000_0017_0000, SYSREG | 0xC094} & set(ids)
    assert {reg_id >> 16 & 0xFFF for reg_id in ids} == {0x10, 0x11, 0x13, 0x14, 0x15, 0x16}


def test_blocks_of_the_list():
    by_kind: dict[str, list[int]] = {}
    for reg_id, _, kind in ROWS:
        by_kind.setdefault(kind.partition(",")[0], []).append(int(reg_id, 16))
    assert list(reglist.CORE_REGS) == by_kind["core"]
    assert list(reglist.SVE_BLOCK) == by_kind["sve"]
    assert [*reglist.FW_REGS, *reglist.FW_BITMAPS[:3]] == by_kind["fw"]
    assert by_kind["sysreg"] == sorted(by_kind["sysreg"])
    assert list(reglist.CCSIDRS) == by_kind["demux"]


def test_registers_that_no_feature_changes():
    """What a recording's reg_list_base counts: 184 in RFC v2."""
    others = [int(reg_id, 16) for reg_id, _, kind in ROWS if kind in ("fw", "timer", "invariant", "sysreg", "demux")]
    assert list(reglist.other_regs(RFC_V2, {sysreg.Gate.ALWAYS, sysreg.Gate.TCR2, sysreg.Gate.S1PIE})) == others
    assert len(others) == 184


def test_registers_that_an_id_register_hides():
    """TCR2_EL1, PIRE0_EL1 and PIR_EL1 with their fields of ID_AA64MMFR3_EL1; SCTLR2_EL1 is as young as the rule."""
    found = {}
    for abi in (RFC_V2, V10):
        for mmfr3 in (0, 0xF, 0xF0, 0xF00):
            gates = open_gates(abi, VectorLengths(), has_fpmr=False, mmfr3=mmfr3)
            listed = reglist.other_regs(abi, gates)
            found[abi.name, mmfr3] = {reg_id & 0xFFFF for reg_id in listed} & {0xC083, 0xC103, 0xC512, 0xC513}
    assert {found["rfc-v2", mmfr3] == {0xC103, 0xC512, 0xC513} for mmfr3 in (0, 0xF, 0xF0, 0xF00)} == {True}
    v10 = [found["v10", mmfr3] for mmfr3 in (0, 0xF, 0xF0, 0xF00)]
    assert v10 == [set(), {0xC103}, {0xC083}, {0xC512, 0xC513}]
