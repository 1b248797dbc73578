"""Where registers lie: against the table of rfc-v2.md 1.6 and the sizes that the kernel's own macros give."""

import json
from itertools import pairwise

import pytest
from places import TABLES

from kvmsve.facts import layout

UAPI = json.loads((TABLES / "uapi-constants.json").read_text())
VQS = range(1, 17)


@pytest.mark.parametrize(
    ("vq", "z_bytes", "p_bytes", "p0", "ffr", "total"),
    [
        (1, 16, 2, 512, 544, 546),
        (2, 32, 4, 1024, 1088, 1092),
        (4, 64, 8, 2048, 2176, 2184),
        (8, 128, 16, 4096, 4352, 4368),
        (16, 256, 32, 8192, 8704, 8736),
    ],
)
def test_the_table_of_section_1_6(vq, z_bytes, p_bytes, p0, ffr, total):
    assert layout.zreg_bytes(vq) == z_bytes
    assert layout.preg_bytes(vq) == p_bytes
    assert layout.preg_offset(vq, 0) == p0
    assert layout.preg_offset(vq, 16) == ffr
    assert layout.sve_state_bytes(vq) == total


@pytest.mark.parametrize("row", UAPI["by_vq"], ids=lambda row: f"vq{row['vq']}")
def test_every_offset_is_the_one_of_sigcontext_h(row):
    vq, sig = row["vq"], row["sig"]
    header = UAPI["sig"]["SVE_SIG_REGS_OFFSET"]
    assert [layout.zreg_offset(vq, n) + header for n in range(32)] == sig["z"]
    assert [layout.preg_offset(vq, n) + header for n in range(16)] == sig["p"]
    assert layout.preg_offset(vq, layout.FFR) + header == sig["ffr"]
    assert layout.zreg_bytes(vq) == sig["zreg_size"]
    assert layout.preg_bytes(vq) == sig["preg_size"] == sig["ffr_size"]
    assert layout.sve_state_bytes(vq) == sig["regs_size"]
    assert layout.za_bytes(vq) == sig["za_regs_size"]
    za_header = UAPI["sig"]["ZA_SIG_REGS_OFFSET"]
    assert [layout.za_row_offset(vq, row) + za_header for row in (0, 1)] == [sig["za_row0"], sig["za_row1"]]


def test_the_table_covers_every_length_of_kvm():
    assert [row["vq"] for row in UAPI["by_vq"]] == list(VQS)
    assert layout.VQ_MAX == 16


@pytest.mark.parametrize("vq", VQS)
def test_registers_are_packed_without_gaps(vq):
    starts = [layout.zreg_offset(vq, n) for n in range(32)] + [layout.preg_offset(vq, n) for n in range(17)]
    sizes = [16 * vq] * 32 + [2 * vq] * 17
    assert starts[0] == 0
    assert [after - before for before, after in pairwise([*starts, layout.sve_state_bytes(vq)])] == sizes
    assert sum(sizes) == 546 * vq == layout.sve_state_bytes(vq)


@pytest.mark.parametrize("sme_vq", VQS)
def test_za_is_a_square_of_packed_rows(sme_vq):
    side = 16 * sme_vq
    assert [layout.za_row_offset(sme_vq, row) for row in range(side + 1)] == list(range(0, side * side + 1, side))
    assert layout.za_bytes(sme_vq) == side * side


def test_sizes_of_za_and_zt0_in_section_1_7():
    assert layout.za_bytes(4) == 4096  # with the 512 bytes that the series adds: 4608
    assert layout.za_bytes(16) == 65536
    assert layout.ZT0_BYTES == 64


def test_struct_kvm_regs():
    struct = UAPI["struct"]
    assert struct["sizeof kvm_regs"] == layout.KVM_REGS_BYTES == 216 * 4
    assert struct["kvm_regs.fp_regs"] == layout.VREGS_OFFSET
    assert struct["kvm_regs.fp_regs"] + struct["user_fpsimd_state.fpsr"] == layout.FPSR_OFFSET
    assert struct["kvm_regs.fp_regs"] + struct["user_fpsimd_state.fpcr"] == layout.FPCR_OFFSET
    assert layout.FPSR_OFFSET - layout.VREGS_OFFSET == 512 == layout.VREGS_BYTES
    assert layout.VREG_BYTES == 16


def test_the_other_numbers():
    sig = UAPI["sig"]
    assert sig["SVE_VQ_BYTES"] == layout.VQ_BYTES
    assert sig["SVE_VQ_MAX"] == layout.VQ_ABI_MAX
    assert (sig["SVE_NUM_ZREGS"], sig["SVE_NUM_PREGS"]) == (layout.NUM_ZREGS, layout.NUM_PREGS)
    assert layout.FFR == 16
    assert layout.FPSR_AFTER_MODE_SWITCH == 0x0800009F
    assert (layout.SVCR_SM, layout.SVCR_ZA) == (0b01, 0b10)
    assert (layout.ZCR_LEN, layout.SMCR_LEN) == (0xF, 0xF)
    assert (layout.SMCR_EZT0, layout.SMCR_FA64) == (0x4000_0000, 0x8000_0000)
