"""The register list: row for row the one of RFC v2, for each kind of vCPU."""

import model
import pytest
from places import TABLES

from kvmsve.facts.revisions import RFC_V2
from kvmsve.rules import reglist
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
    gates = open_gates(RFC_V2, lengths, has_fpmr=False, has_el2=False)
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


LATER = {SYSREG | low for low in (0xDA22, 0xE090, 0xE095, 0xE096)}  # FPMR, and three of EL2


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
    assert list(reglist.FIRMWARE) == by_kind["fw"]
    sysregs = [reg_id for reg_id in reglist.SYSREGS if reg_id not in LATER]
    assert sysregs == by_kind["sysreg"] == sorted(by_kind["sysreg"])
    assert list(reglist.CCSIDRS) == by_kind["demux"]


def test_registers_without_a_vector_meaning():
    special = {SYSREG | low for low in (0xC020, 0xC021, 0xC024, 0xC025, 0xC082, 0xC090, 0xC096, 0xC806, 0xDA12, 0xDE85)}
    others = [int(reg_id, 16) for reg_id, _, kind in ROWS if not kind.startswith(("core", "sve"))]
    assert set(others) - special == reglist.PLAIN_REGS


def test_registers_that_no_feature_changes():
    """What a recording's reg_list_base counts: 184 in RFC v2."""
    others = [int(reg_id, 16) for reg_id, _, kind in ROWS if kind in ("fw", "timer", "invariant", "sysreg", "demux")]
    assert list(reglist.OTHER_REGS) == others
    assert len(others) == 184
