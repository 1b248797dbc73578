"""Register IDs and their names: against the kernel's headers, the register list of RFC v2, and the recordings."""

import json
import lzma
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import RECORDINGS, TABLES

from kvmsve.facts import layout, regid

UAPI = json.loads((TABLES / "uapi-constants.json").read_text())["reg_id"]
HEADERS = {name: value if isinstance(value, int) else int(value, 16) for name, value in UAPI.items()}
ROWS = [line.split("\t") for line in (TABLES / "rfc-v2-reglist.tsv").read_text().splitlines() if line[0] != "#"]
FILES = sorted(RECORDINGS.glob("*.xz"))

CONSTANTS = {
    "KVM_REG_ARM64": regid.ARM64, "KVM_REG_SIZE_SHIFT": regid.SIZE_SHIFT, "KVM_REG_SIZE_MASK": regid.SIZE_MASK,
    "KVM_REG_SIZE_U32": regid.U32, "KVM_REG_SIZE_U64": regid.U64, "KVM_REG_SIZE_U128": regid.U128,
    "KVM_REG_SIZE_U256": regid.U256, "KVM_REG_SIZE_U512": regid.U512, "KVM_REG_SIZE_U2048": regid.U2048,
    "KVM_REG_ARM_COPROC_MASK": regid.COPROC_MASK, "KVM_REG_ARM_COPROC_SHIFT": regid.COPROC_SHIFT,
    "KVM_REG_ARM_CORE": regid.CORE, "KVM_REG_ARM64_SYSREG": regid.SYSREG, "KVM_REG_ARM_FW": regid.FW,
    "KVM_REG_ARM64_SVE": regid.SVE, "KVM_ARM64_SVE_NUM_ZREGS": layout.NUM_ZREGS,
    "KVM_ARM64_SVE_NUM_PREGS": layout.NUM_PREGS, "KVM_ARM64_SVE_MAX_SLICES": regid.SLICE_MASK + 1,
    "KVM_ARM64_SVE_VQ_MAX": layout.VQ_ABI_MAX, "KVM_REG_ARM64_SVE_VLS": regid.SVE_VLS, "FFR": regid.FFR_ID,
    "FFR_slice31": regid.PREG_MAX, "FPSR": regid.FPSR, "FPCR": regid.FPCR, "ZCR_EL1": regid.ZCR_EL1,
    "SMCR_EL1": regid.SMCR_EL1, "SVCR": regid.SVCR, "ID_AA64PFR0_EL1": regid.ID_AA64PFR0_EL1,
    "ID_AA64PFR1_EL1": regid.ID_AA64PFR1_EL1, "ID_AA64ZFR0_EL1": regid.ID_AA64ZFR0_EL1,
    "ID_AA64SMFR0_EL1": regid.ID_AA64SMFR0_EL1, "Z0": regid.ZREG_BASE, "P0": regid.PREG_BASE, "V0": regid.VREG_BASE,
}  # fmt: skip
WITHOUT_A_CONSTANT = re.compile(r"[XZPV]\d+|Z\d+_slice\d+|P\d+_slice\d+|SP|PC|PSTATE|SP_EL1|ELR_EL1")
NO_ARM64_NAME = {
    "KVM_REG_ARCH_MASK", "KVM_REG_ARM", "KVM_REG_X86", "KVM_REG_SIZE_U8", "KVM_REG_SIZE_U16", "KVM_REG_SIZE_U1024",
    "KVM_ARM64_SVE_VQ_MIN", "KVM_ARM64_SVE_VLS_WORDS",
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_is_the_headers(name):
    assert CONSTANTS[name] == HEADERS[name]


def test_no_constant_of_the_headers_is_forgotten():
    rest = HEADERS.keys() - CONSTANTS.keys() - NO_ARM64_NAME
    assert [name for name in rest if not WITHOUT_A_CONSTANT.fullmatch(name)] == []


def test_what_the_headers_of_6_1_do_not_have():
    assert (regid.DEMUX, regid.FW_FEAT_BMAP, regid.SME) == (0x110000, 0x160000, 0x170000)
    assert regid.ZA_BASE == 0x6080_0000_0017_0000
    assert regid.ZT0 == 0x6060_0000_0017_0600
    assert regid.ZREG_MAX == 0x6080_0000_0015_03FF
    sysregs = (regid.CPACR_EL1, regid.SMPRI_EL1, regid.SMIDR_EL1, regid.TPIDR2_EL0)
    assert [reg_id - 0x6030_0000_0013_0000 for reg_id in sysregs] == [0xC082, 0xC094, 0xC806, 0xDE85]


@pytest.mark.parametrize("name", [name for name in HEADERS if re.fullmatch(r"[XZPV]\d+|[A-Z]+[A-Z_0-9]*_EL1", name)])
def test_the_name_of_each_register_of_the_headers(name):
    assert regid.name(HEADERS[name]) == name


def test_ids_made_of_numbers():
    assert [regid.vreg_id(n) for n in range(32)] == [HEADERS[f"V{n}"] for n in range(32)]
    assert [regid.zreg_id(n) for n in range(32)] == [HEADERS[f"Z{n}"] for n in range(32)]
    assert [regid.preg_id(n) for n in range(17)] == [*(HEADERS[f"P{n}"] for n in range(16)), HEADERS["FFR"]]
    assert [regid.za_row_id(row) - 0x6080_0000_0017_0000 for row in (0, 1, 255)] == [0, 0x20, 0x1FE0]
    assert regid.sysreg_id(3, 3, 4, 2, 2) == HEADERS["SVCR"]
    assert regid.sysreg_id(2, 7, 15, 15, 7) == 0x6030_0000_0013_BFFF


def our_name(reg_id: int, theirs: str) -> str:
    """The name for a row of the list: the kernel's without its struct, and for an anonymous register its fields."""
    renamed = re.sub(r"^(regs|fp_regs)\.|^KVM_REG_ARM_(?=P?TIMER)| \(S[VM]E\)$", "", theirs)
    renamed = re.sub(r"^(regs|vregs)\[(\d+)\]$", lambda m: "XV"[m[1] == "vregs"] + m[2], renamed).upper()
    kind = {"FW_REG": "firmware", "FW_FEAT": "firmware bitmap", "CCSIDR": "demux"}
    for start, said in kind.items():
        if renamed.startswith(start):
            return f"{said} 0x{reg_id:016x}"
    bits = f"{reg_id & 0xFFFF:016b}"
    op0, op1, crn, crm, op2 = (int(bits[a:b], 2) for a, b in ((0, 2), (2, 5), (5, 9), (9, 13), (13, 16)))
    if re.match(r"OP2", renamed):
        return f"DBG{('BVR', 'BCR', 'WVR', 'WCR')[op2 - 4]}{crm}_EL1"
    named_since = {"OP3_0_C0_C4_7": "FPFR0", "OP3_0_C0_C5_2": "DFR2", "OP3_0_C0_C6_3": "ISAR3"}
    if renamed in named_since:
        return f"ID_AA64{named_since[renamed]}_EL1"
    if re.match(r"OP3", renamed):
        return f"S{op0}_{op1}_C{crn}_C{crm}_{op2}"
    return renamed


@pytest.mark.parametrize(
    ("reg_id", "theirs"), [(int(row[0], 16), row[1]) for row in ROWS], ids=[row[1] for row in ROWS]
)
def test_the_name_of_each_listed_register(reg_id, theirs):
    assert regid.name(reg_id) == our_name(reg_id, theirs)


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ((3, 3, 4, 4, 2), "FPMR"),
        ((3, 4, 1, 2, 0), "ZCR_EL2"),
        ((3, 4, 1, 2, 5), "SMPRIMAP_EL2"),
        ((3, 4, 1, 2, 6), "SMCR_EL2"),
    ],
)
def test_names_of_registers_of_later_revisions(encoding, name):
    """Arm ARM: op0, op1, CRn, CRm, op2."""
    op0, op1, crn, crm, op2 = encoding
    assert regid.name(0x6030_0000_0013_0000 | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2) == name


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        *[((3, 0, 2, crm, op2), f"AP{key}KEY{half}_EL1") for crm, op2, key, half in (
            (1, 0, "IA", "LO"), (1, 1, "IA", "HI"), (1, 2, "IB", "LO"), (1, 3, "IB", "HI"), (2, 0, "DA", "LO"),
            (2, 1, "DA", "HI"), (2, 2, "DB", "LO"), (2, 3, "DB", "HI"), (3, 0, "GA", "LO"), (3, 1, "GA", "HI"),
        )],
        ((3, 3, 14, 8, 7), "PMEVCNTR7_EL0"), ((3, 3, 14, 9, 0), "PMEVCNTR8_EL0"), ((3, 3, 14, 11, 6), "PMEVCNTR30_EL0"),
        ((3, 3, 14, 13, 1), "PMEVTYPER9_EL0"), ((3, 3, 14, 15, 6), "PMEVTYPER30_EL0"),
        ((3, 3, 14, 15, 7), "PMCCFILTR_EL0"), ((3, 0, 9, 14, 1), "PMINTENSET_EL1"),
        ((3, 3, 9, 12, 1), "PMCNTENSET_EL0"),
        ((3, 4, 1, 1, 0), "HCR_EL2"), ((3, 4, 1, 1, 4), "HFGRTR_EL2"), ((3, 4, 1, 1, 5), "HFGWTR_EL2"),
        ((3, 4, 2, 2, 0), "VNCR_EL2"), ((3, 4, 14, 2, 2), "CNTHP_CVAL_EL2"), ((3, 6, 4, 1, 0), "SP_EL2"),
        ((3, 0, 2, 0, 3), "TCR2_EL1"), ((3, 0, 10, 2, 2), "PIRE0_EL1"), ((3, 0, 10, 2, 3), "PIR_EL1"),
    ],
)  # fmt: skip
def test_names_of_registers_of_features(encoding, name):
    """Arm ARM: pointer authentication, PMU, EL2, permission indirection."""
    op0, op1, crn, crm, op2 = encoding
    assert regid.name(0x6030_0000_0013_0000 | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2) == name


def test_names_of_what_is_not_listed():
    assert regid.name(0x6060_0000_0017_FFFF, sme_vls=0x6060_0000_0017_FFFF) == "SME_VLS"
    assert regid.name(0x6060_0000_0017_FFFE, sme_vls=0x6060_0000_0017_FFFE) == "SME_VLS"
    assert regid.name(0x6060_0000_0017_FFFF) == regid.name(0x6060_0000_0017_FFFE) == "SME_VLS"
    assert regid.name(0x6060_0000_0017_FFFF, sme_vls=0x6060_0000_0017_FFFE) == "SME 0x606000000017ffff"
    assert regid.name(0x6060_0000_0017_0600) == "ZT0"
    assert regid.name(0x6080_0000_0017_01E0) == "ZA.H[15]"
    assert regid.name(0x6080_0000_0017_01E2) == "ZA.H[15] slice 2"
    assert regid.name(0x6080_0000_0015_00E1) == "Z7 slice 1"
    assert regid.name(0x6080_0000_0015_03FF) == "Z31 slice 31"
    assert regid.name(0x6080_0000_0015_0400) == "SVE 0x6080000000150400"
    assert regid.name(0x6050_0000_0015_061F) == "FFR slice 31"
    assert regid.name(0x6050_0000_0015_0620) == "SVE 0x6050000000150620"
    assert regid.name(0x6030_0000_0010_0050) == "SPSR[4]"
    assert regid.name(0x6030_0000_0010_0052) == "core 0x6030000000100052"
    assert regid.name(0x6030_0000_0010_0054) == "core 0x6030000000100054"
    assert regid.name(0x6030_0000_0013_C094) == "SMPRI_EL1"
    assert regid.name(0x6030_0000_0013_EDBE) == "S3_5_C11_C7_6"
    assert regid.name(0x6030_0000_0013_BFFF) == "S2_7_C15_C15_7"
    assert regid.name(0x6030_0000_001F_0000) == "unknown 0x60300000001f0000"


def test_a_name_stands_for_one_register():
    ids = {int(row[0], 16) for row in ROWS}
    ids |= {0x6080_0000_0015_0000 | payload for payload in range(0x400)}
    ids |= {0x6050_0000_0015_0000 | payload for payload in range(0x400, 0x620)}
    ids |= {0x6080_0000_0017_0000 | payload for payload in range(0x10000)}
    ids |= {0x6060_0000_0017_0600, 0x6060_0000_0017_FFFF, 0x6060_0000_0015_FFFF}
    assert len({regid.name(reg_id, sme_vls=0x6060_0000_0017_FFFF) for reg_id in ids}) == len(ids)


def test_number_and_slice_of_every_id_in_the_windows():
    for n in range(32):
        for i in range(32):
            reg_id = 0x6080_0000_0015_0000 + 32 * n + i
            assert (regid.zreg_id(n, i), regid.number_of(reg_id), regid.slice_of(reg_id)) == (reg_id, n, i)
    for n in range(17):
        for i in range(32):
            reg_id = 0x6050_0000_0015_0400 + 32 * n + i
            assert (regid.preg_id(n, i), regid.number_of(reg_id), regid.slice_of(reg_id)) == (reg_id, n, i)
    assert regid.za_row_id(255, 31) == 0x6080_0000_0017_1FFF


def test_size_and_coprocessor_are_fields_of_the_id():
    assert [regid.size_bytes(0x600F_FFFF_FFFF_FFFF | code << 52) for code in range(16)] == [
        2**code for code in range(16)
    ]
    assert regid.coproc(0xFFFF_FFFF_F015_FFFF) == 0x150000
    assert {regid.coproc(int(row[0], 16)) for row in ROWS if row[2].startswith("sve")} == {0x150000}


@given(st.frozensets(st.integers(1, 512)))
def test_a_set_of_lengths_survives_packing(vqs):
    bitmap = regid.pack_vls(vqs)
    assert regid.unpack_vls(bitmap) == vqs
    words = [int.from_bytes(bitmap[8 * word : 8 * word + 8], "little") for word in range(8)]
    assert {vq for vq in range(1, 513) if words[(vq - 1) // 64] >> (vq - 1) % 64 & 1} == vqs
    assert len(bitmap) == 64


@pytest.mark.parametrize(
    ("vqs", "bitmap"),
    [([], ""), ([1], "01"), ([4, 2, 1, 1], "0b"), (range(1, 17), "ffff"), ([1, 2, 4, 8, 16], "8b80"),
     ([64], "0000000000000080"), ([65], "000000000000000001"), ([512], "00" * 63 + "80")],
)  # fmt: skip
def test_bitmaps_by_hand(vqs, bitmap):
    assert regid.pack_vls(vqs) == bytes.fromhex(bitmap).ljust(64, b"\0")
    assert regid.unpack_vls(bytes.fromhex(bitmap).ljust(64, b"\0")) == set(vqs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.partition(".")[0])
def test_recorded_bitmaps(path):
    with lzma.open(path, "rt") as lines:
        host = json.loads(next(lines))["host"]
        gets = {line for line in lines if '"op":"get"' in line and "ffff" in line and '"ret":0' in line}
    for op in map(json.loads, gets):
        which = {"606000000015ffff": "sve_vqs", "606000000017ffff": "sme_vqs"}.get(op["id"])
        if which is None:
            continue
        vqs = regid.unpack_vls(bytes.fromhex(op["data"]))
        assert vqs
        assert vqs == {vq for vq in host[which] if vq <= max(vqs)}
        assert regid.pack_vls(vqs).hex() == op["data"]
