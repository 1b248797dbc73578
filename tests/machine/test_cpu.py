"""What is loaded when a guest first uses FP, and saved when it leaves (rfc-v2.md section 4.4)."""

import pytest
from examples import FFR, FPCR, FPSR, SMCR, SVCR, ZCR, ZT0, enter_and_leave, make_vcpu, p, pattern, u64, v, z, za

from kvmsve import MAINLINE_6_1, RFC_V2, RFC_V2_R1, RFC_V2_R123, FpState

LEN_MAX = 0xF
WITH_SME = pytest.mark.parametrize("abi", [RFC_V2_R1, RFC_V2_R123, RFC_V2], ids=lambda abi: abi.name)


def filled(sve_vqs, sme_vqs, svcr=0, **host):
    """A vCPU with a pattern in every register, LEN at its largest."""
    vcpu = make_vcpu(sve_vqs, sme_vqs, **host)
    for n in range(32):
        vcpu.set_one_reg(z(n), pattern(256, n))
    for n in range(17):
        vcpu.set_one_reg(p(n), pattern(32, 100 + n))
    vcpu.set_one_reg(FPSR, pattern(4, 120))
    vcpu.set_one_reg(FPCR, pattern(4, 121))
    if sve_vqs:
        vcpu.set_one_reg(ZCR, u64(LEN_MAX))
    if sme_vqs:
        vcpu.set_one_reg(SMCR, u64(3 << 30 | LEN_MAX))
        vcpu.set_one_reg(SVCR, u64(svcr))
    return vcpu


@pytest.mark.parametrize(("svcr", "length"), [(0, 32), (1, 64), (2, 32), (3, 64)])
def test_all_registers_are_loaded(svcr, length):
    vcpu = filled({1, 2}, {4}, svcr, fa64=True)
    with vcpu.run() as guest:
        assert [guest.z[n] for n in range(32)] == [pattern(length, n) for n in range(32)]
        assert [guest.p[n] for n in range(16)] == [pattern(length // 8, 100 + n) for n in range(16)]
        assert guest.ffr == pattern(length // 8, 116)
        assert [guest.fpsr, guest.fpcr] == [int.from_bytes(pattern(4, n), "little") for n in (120, 121)]
        assert (guest.zcr, guest.smcr, guest.svcr) == (LEN_MAX, 3 << 30 | LEN_MAX, svcr)


@pytest.mark.parametrize(("svcr", "length"), [(0, 32), (1, 64)])
def test_all_registers_are_saved(svcr, length):
    vcpu = make_vcpu({1, 2}, {4}, fa64=True)
    with vcpu.run() as guest:
        guest.smcr, guest.zcr, guest.svcr = 3 << 30 | LEN_MAX, LEN_MAX, svcr
        for n in range(32):
            guest.z[n] = pattern(length, n)
        for n in range(16):
            guest.p[n] = pattern(length // 8, 100 + n)
        guest.ffr, guest.fpsr, guest.fpcr = pattern(length // 8, 116), 0x11, 0x22
    assert vcpu.fp_state is FpState.GUEST_OWNED
    saved = b"".join(pattern(length, n) for n in range(32))
    saved += b"".join(pattern(length // 8, 100 + n) for n in range(17))
    assert vcpu.sve_state[: len(saved)] == saved
    expected = {FPSR: b"\x11\0\0\0", FPCR: b"\x22\0\0\0", SVCR: u64(svcr), ZCR: u64(15), SMCR: u64(3 << 30 | 15)}
    assert {reg_id: vcpu.get_one_reg(reg_id) for reg_id in expected} == expected


def test_a_guest_that_uses_no_fp_changes_nothing():
    """Not even the bits of SVCR that do not exist."""
    vcpu = filled({1, 2}, {4}, svcr=0xFF)
    held = bytes(vcpu.sve_state)
    with vcpu.run():
        assert vcpu.fp_state is FpState.HOST_OWNED
    assert (bytes(vcpu.sve_state), vcpu.get_one_reg(SVCR)) == (held, u64(0xFF))
    with vcpu.run() as guest:
        assert guest.svcr == 3
    assert vcpu.get_one_reg(SVCR) == u64(3)


def test_a_save_leaves_stale_tails():
    """s = 1, m = 2: what the mode does not fill keeps its bytes, and a rewrite clears them."""
    vcpu = filled({1}, {2}, svcr=1)
    held = bytes(vcpu.sve_state)
    with vcpu.run() as guest:
        guest.smstop(sm=True)
        guest.z[0] = pattern(16, 50)
    assert bytes(vcpu.sve_state) == pattern(16, 50) + bytes(530) + held[546:]
    assert vcpu.get_one_reg(z(0)) == pattern(16, 50) + bytes(240)
    assert bytes(vcpu.sve_state) == pattern(16, 50) + bytes(1076)


def test_registers_are_saved_at_full_length():
    """Whatever ZCR_EL1 and SMCR_EL1 say."""
    for svcr in (0, 1):
        vcpu = filled({1, 2}, {1, 2}, svcr)
        with vcpu.run() as guest:
            guest.zcr = guest.smcr = 0
            guest.p[0] = pattern(2, 7)
        assert vcpu.get_one_reg(z(9)) == pattern(32, 9) + bytes(224)
        assert vcpu.get_one_reg(p(0))[:4] == pattern(2, 7) + pattern(4, 100)[2:]


# FFR


@WITH_SME
@pytest.mark.parametrize("fa64", [False, True])
def test_ffr_in_streaming_mode(abi, fa64):
    """Q35: without FA64 it is kept until the guest uses FP, and zeroes are saved."""
    vcpu = filled({1}, {1}, svcr=1, abi=abi, fa64=fa64)
    enter_and_leave(vcpu)
    assert vcpu.get_one_reg(FFR)[:2] == pattern(2, 116)
    with vcpu.run() as guest:
        assert guest.z[0] == pattern(16, 0)
    assert vcpu.get_one_reg(FFR)[:2] == (pattern(2, 116) if fa64 else bytes(2))


def test_ffr_after_streaming_mode_without_fa64():
    vcpu = filled({1}, {1})
    with vcpu.run() as guest:
        assert guest.ffr == pattern(2, 116)
    with vcpu.run() as guest:
        guest.smstart(sm=True)
        guest.smstop(sm=True)
        assert guest.ffr == bytes(2)
        guest.ffr = pattern(2, 3)
    assert vcpu.get_one_reg(FFR)[:2] == pattern(2, 3)


# ZA and ZT0


@pytest.mark.parametrize("sme2", [False, True])
def test_za_and_zt0_are_loaded_and_saved(sme2):
    vcpu = filled({1}, {2}, svcr=2, sme2=sme2)
    for row in range(32):
        vcpu.set_one_reg(za(row), pattern(256, row))
    if sme2:
        vcpu.set_one_reg(ZT0, pattern(64))
    with vcpu.run() as guest:
        assert [guest.za[row] for row in range(32)] == [pattern(32, row) for row in range(32)]
        guest.za[1] = pattern(32, 77)
        if sme2:
            assert guest.zt0 == pattern(64)
            guest.zt0 = pattern(64, 78)
    assert vcpu.sme_state[:96] == pattern(32, 0) + pattern(32, 77) + pattern(32, 2)
    assert vcpu.sme_state[1024:] == (pattern(64, 78) + bytes(448) if sme2 else b"")


@pytest.mark.parametrize("svcr", [0, 1])
def test_sme_state_is_stale_without_za(svcr):
    vcpu = filled({1}, {1}, svcr=2, sme2=True)
    for row in range(16):
        vcpu.set_one_reg(za(row), pattern(16, row))
    vcpu.set_one_reg(ZT0, pattern(64))
    held = bytes(vcpu.sme_state)
    with vcpu.run() as guest:
        guest.za[0], guest.zt0 = bytes(16), bytes(64)
        guest.svcr = svcr
    assert bytes(vcpu.sme_state) == held
    with vcpu.run() as guest:
        guest.smstart(za=True)
    assert bytes(vcpu.sme_state) == bytes(768)


# V


def test_v_of_a_guest_with_sve_is_not_in_fp_regs():
    vcpu = filled({1}, {1}, abi=RFC_V2)
    with vcpu.run() as guest:
        guest.v[0] = pattern(16, 1)
    assert bytes(vcpu.vregs) == bytes(512)


def test_v_of_a_guest_with_sme_alone():
    """Out of streaming mode it is loaded from fp_regs and saved there; sve_state keeps the user's image."""
    vcpu = filled((), {2})
    held = bytes(vcpu.sve_state)
    with vcpu.run() as guest:
        assert [guest.v[n] for n in range(32)] == [pattern(16, n) for n in range(32)]
        guest.v[31] = pattern(16, 60)
    assert bytes(vcpu.sve_state) == held
    assert bytes(vcpu.vregs) == b"".join(pattern(16, n) for n in range(31)) + pattern(16, 60)
    assert vcpu.get_one_reg(z(31)) == pattern(16, 60) + bytes(240)


def test_v_stays_in_fp_regs_during_streaming_mode():
    vcpu = filled((), {2})
    with vcpu.run() as guest:
        guest.v[0] = pattern(16, 60)
    with vcpu.run() as guest:
        guest.smstart(sm=True)
        guest.v[0] = pattern(16, 61)
    assert vcpu.vregs[:16] == pattern(16, 60)
    assert vcpu.get_one_reg(z(0)) == pattern(16, 61) + bytes(240)


@pytest.mark.parametrize("abi", [MAINLINE_6_1, RFC_V2], ids=lambda abi: abi.name)
def test_v_of_a_big_endian_host(abi):
    """Byte-reversed in memory, and for KVM_GET_ONE_REG of V; little-endian for the guest's bytes and in Z."""
    vcpu = make_vcpu(abi=abi, big_endian=True)
    vcpu.set_one_reg(v(0), pattern(16))
    with vcpu.run() as guest:
        assert guest.v[0] == pattern(16)[::-1]
        guest.v[1] = pattern(16, 1)
    assert vcpu.vregs[:32] == pattern(16) + pattern(16, 1)[::-1]
    assert vcpu.get_one_reg(v(1)) == pattern(16, 1)[::-1]


def test_v_beside_z_on_a_big_endian_host():
    vcpu = make_vcpu((), {2}, big_endian=True)
    vcpu.set_one_reg(z(3), pattern(32))
    with vcpu.run() as guest:
        assert guest.v[3] == pattern(16)
        assert vcpu.vregs[48:64] == pattern(16)[::-1]
        guest.v[4] = pattern(16, 4)
    assert vcpu.get_one_reg(z(4)) == pattern(16, 4) + bytes(240)
    with vcpu.run() as guest:
        guest.smstart(sm=True)
        guest.z[4] = pattern(32, 5)
    assert vcpu.get_one_reg(z(4)) == pattern(32, 5) + bytes(224)
