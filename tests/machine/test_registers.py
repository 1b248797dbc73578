"""KVM_GET_ONE_REG and KVM_SET_ONE_REG on a vCPU: formats, short buffers, and the quirks of rfc-v2.md section 6."""

from array import array

import numpy as np
import pytest
from examples import (
    FFR,
    FPSR,
    SME,
    SME_VLS,
    SMIDR,
    SVCR,
    SVE,
    SVE_VLS,
    X0,
    ZCR,
    ZFR0,
    ZT0,
    a_host,
    bitmap,
    enter_and_leave,
    make_vcpu,
    p,
    pattern,
    refused,
    u64,
    v,
    z,
    za,
)

from kvmsve import MAINLINE_7_3, RFC_V2, RFC_V2_R1, RFC_V2_R123, V12, Feature, FpState, Host, HostOops, KvmError, regid

WITH_SME = pytest.mark.parametrize("abi", [RFC_V2_R1, RFC_V2_R123, RFC_V2], ids=lambda abi: abi.name)
REPAIRED = pytest.mark.parametrize("abi", [RFC_V2_R123, RFC_V2], ids=lambda abi: abi.name)


def in_guest_format(abi, sve_vqs, sme_vqs, svcr=0):
    """A vCPU after a run in this mode that used no FP; every Z, P and FFR has a pattern of its own."""
    vcpu = make_vcpu(sve_vqs, sme_vqs, abi=abi, fa64=True)
    vcpu.set_one_reg(SVCR, u64(svcr))
    for n in range(32):
        vcpu.set_one_reg(z(n), pattern(256, n))
    for n in range(17):
        vcpu.set_one_reg(p(n), pattern(32, 100 + n))
    enter_and_leave(vcpu)
    return vcpu


# Section 5


@WITH_SME
def test_worked_example(abi):
    """s = 2, m = 4. Q11: what is truncated is lost when the vCPU is loaded, not when its guest uses FP."""
    vcpu = make_vcpu({1, 2}, {1, 2, 4}, abi=abi)
    vcpu.set_one_reg(z(0), b"\x10" * 16 + b"\x11" * 16 + b"\x12" * 16 + b"\x13" * 16 + b"\x14" * 192)
    assert vcpu.get_one_reg(z(0)) == b"\x10" * 16 + b"\x11" * 16 + b"\x12" * 16 + b"\x13" * 16 + bytes(192)
    enter_and_leave(vcpu)
    vcpu.set_one_reg(SVCR, u64(0))
    assert vcpu.get_one_reg(z(0)) == b"\x10" * 16 + b"\x11" * 16 + bytes(224)
    assert vcpu.fp_state is FpState.USER_OWNED


@WITH_SME
def test_q11_in_the_other_direction(abi):
    """s = 4, m = 2, SM: P and FFR lose what is beyond 2m bytes."""
    vcpu = in_guest_format(abi, {1, 2, 4}, {2}, svcr=1)
    assert vcpu.get_one_reg(z(31)) == pattern(32, 31) + bytes(224)
    assert vcpu.get_one_reg(p(0)) == pattern(4, 100) + bytes(28)
    assert vcpu.get_one_reg(FFR) == pattern(4, 116) + bytes(28)


@REPAIRED
def test_q11_without_sve(abi):
    """All but V is lost."""
    vcpu = in_guest_format(abi, (), {4})
    assert vcpu.vregs[16:32] == pattern(16, 1)
    assert vcpu.get_one_reg(z(1)) == pattern(16, 1) + bytes(240)
    assert vcpu.get_one_reg(p(0)) == vcpu.get_one_reg(FFR) == bytes(32)


@WITH_SME
def test_equal_lengths_have_one_format(abi):
    """A GET converts nothing, and leaves the owner as it was."""
    vcpu = in_guest_format(abi, {1, 2}, {2})
    assert vcpu.get_one_reg(z(1)) == pattern(32, 1) + bytes(224)
    assert vcpu.fp_state is FpState.HOST_OWNED


# Section 6, B: SVCR written while the state is in guest format


@WITH_SME
def test_q7(abi):
    """s = 2, m = 4, SM 0 to 1: registers of length s are read at length m."""
    vcpu = in_guest_format(abi, {1, 2}, {4})
    vcpu.set_one_reg(SVCR, u64(1))
    assert vcpu.get_one_reg(z(0)) == pattern(32, 0) + pattern(32, 1) + bytes(192)
    assert vcpu.get_one_reg(z(15)) == pattern(32, 30) + pattern(32, 31) + bytes(192)
    assert vcpu.get_one_reg(z(16)) == b"".join(pattern(4, 100 + n) for n in range(16)) + bytes(192)
    assert vcpu.get_one_reg(z(17)) == pattern(4, 116) + bytes(252)
    assert vcpu.get_one_reg(z(18)) == bytes(256)
    assert vcpu.get_one_reg(p(0)) == bytes(32)


@WITH_SME
def test_q8(abi):
    """s = 2, m = 4, SM 1 to 0: registers of length m are read at length s, and widened for good."""
    vcpu = in_guest_format(abi, {1, 2}, {4}, svcr=1)
    vcpu.set_one_reg(SVCR, u64(0))
    assert vcpu.get_one_reg(z(0)) == pattern(32, 0) + bytes(224)
    assert vcpu.get_one_reg(z(1)) == pattern(64, 0)[32:] + bytes(224)
    assert vcpu.get_one_reg(z(31)) == pattern(64, 15)[32:] + bytes(224)
    assert vcpu.get_one_reg(p(0)) == pattern(64, 16)[:4] + bytes(28)
    vcpu.set_one_reg(SVCR, u64(1))
    assert vcpu.get_one_reg(z(1)) == pattern(64, 0)[32:] + bytes(224)


@WITH_SME
def test_q8_with_the_longer_sve_length(abi):
    """s = 4, m = 2, SM 1 to 0."""
    vcpu = in_guest_format(abi, {1, 2, 4}, {2}, svcr=1)
    vcpu.set_one_reg(SVCR, u64(0))
    assert vcpu.get_one_reg(z(1)) == pattern(32, 2) + pattern(32, 3) + bytes(192)


@WITH_SME
def test_q9(abi):
    """Without a GET in between, the guest finds the other layout."""
    vcpu = in_guest_format(abi, {1, 2}, {4})
    vcpu.set_one_reg(SVCR, u64(1))
    with vcpu.run() as guest:
        guest.smcr = 15
        assert guest.z[15] == pattern(32, 30) + pattern(32, 31)


@REPAIRED
def test_q9_without_sve(abi):
    """SM 1 to 0 shows the V of long ago, SM 0 to 1 the sve_state of long ago."""
    vcpu = make_vcpu((), {4}, abi=abi)
    with vcpu.run() as guest:
        guest.v[5] = pattern(16, 5)
        guest.smcr = 15
    with vcpu.run() as guest:
        guest.smstart(sm=True)
        guest.z[5] = pattern(64, 6)
    vcpu.set_one_reg(SVCR, u64(0))
    with vcpu.run() as guest:
        assert guest.v[5] == pattern(16, 5)
    vcpu.set_one_reg(SVCR, u64(1))
    with vcpu.run() as guest:
        assert guest.z[5] == pattern(64, 6)


@REPAIRED
def test_q10(abi):
    """SME alone, SM 1 to 0, GET: the streaming registers are overwritten with the last V."""
    vcpu = make_vcpu((), {2}, abi=abi)
    with vcpu.run() as guest:
        guest.v[1] = pattern(16, 1)
    vcpu.set_one_reg(SVCR, u64(1))
    with vcpu.run() as guest:
        guest.smcr = 15
        guest.z[1], guest.p[1] = pattern(32, 2), pattern(4, 3)
    vcpu.set_one_reg(SVCR, u64(0))
    assert vcpu.get_one_reg(z(1)) == pattern(16, 1) + bytes(240)
    assert vcpu.get_one_reg(p(1)) == bytes(32)


@WITH_SME
def test_q21(abi):
    """Userspace that flips SM or ZA resets neither Z nor FPSR nor ZA; the guest finds stale ZA rows."""
    vcpu = make_vcpu({1}, {1}, abi=abi)
    with vcpu.run() as guest:
        guest.smstart(za=True)
        guest.za[3], guest.z[3], guest.fpsr = pattern(16, 3), pattern(16, 4), 7
    with vcpu.run() as guest:
        guest.smstop(za=True)
    vcpu.set_one_reg(SVCR, u64(3))
    with vcpu.run() as guest:
        assert (guest.za[3], guest.z[3], guest.fpsr) == (pattern(16, 3), pattern(16, 4), 7)


@WITH_SME
def test_q22(abi):
    """A SET that faults zeroes the register, and has converted the state before."""
    vcpu = in_guest_format(abi, {1, 2}, {4})
    with refused("EFAULT"):
        vcpu.set_one_reg(z(1), b"")
    assert vcpu.fp_state is FpState.USER_OWNED
    assert vcpu.sve_state[:192] == pattern(32, 0) + bytes(32) + bytes(64) + pattern(32, 2) + bytes(32)


def test_svcr_is_a_plain_number():
    """Q20: all 64 bits are kept until the guest uses FP."""
    vcpu = make_vcpu({1}, {1})
    vcpu.set_one_reg(SVCR, b"\xfe" + b"\xff" * 7)
    enter_and_leave(vcpu)
    assert vcpu.get_one_reg(SVCR) == b"\xfe" + b"\xff" * 7
    with vcpu.run() as guest:
        assert guest.fpcr == 0
    assert vcpu.get_one_reg(SVCR) == u64(2)


# Short buffers: s = 2, m = 1

CCSIDR, TCR_EL1 = 0x6020000000110000, 0x603000000013C102
KINDS = {  # the ID, the bytes that the kernel keeps, and what a fault does to the register
    "Z": (z(3), 256, 32, "zeroes"),
    "P": (p(3), 32, 4, "zeroes"),
    "FFR": (FFR, 32, 4, "zeroes"),
    "ZA": (za(3), 256, 16, "zeroes"),
    "ZT0": (ZT0, 64, 64, "zeroes"),
    "V": (v(3), 16, 16, "keeps"),
    "X0": (X0, 8, 8, "keeps"),
    "FPSR": (FPSR, 4, 4, "keeps"),
    "SVCR": (SVCR, 8, 8, "keeps"),
    "ZCR": (ZCR, 8, 8, "keeps"),
    "CCSIDR": (CCSIDR, 4, 4, "keeps"),
}
ANY_KIND = pytest.mark.parametrize(("reg_id", "size", "kept", "effect"), KINDS.values(), ids=KINDS)
UNTOUCHED = b"\xa5"


def vcpu_with(reg_id):
    return make_vcpu() if reg_id == v(3) else make_vcpu({1, 2}, {1}, sme2=True)


@ANY_KIND
def test_set_with_a_short_buffer(reg_id, size, kept, effect):
    vcpu = vcpu_with(reg_id)
    for length in range(size + 2):
        vcpu.set_one_reg(reg_id, b"\xee" * size)
        data, expected = pattern(length), pattern(kept)
        if length < kept:
            with refused("EFAULT"):
                vcpu.set_one_reg(reg_id, data)
            expected = data.ljust(kept, b"\0") if effect == "zeroes" else b"\xee" * kept
        else:
            vcpu.set_one_reg(reg_id, data)
        assert vcpu.get_one_reg(reg_id) == expected + bytes(size - kept)


def test_a_set_of_a_ccsidr_looks_at_the_id_before_the_bytes():
    """demux_c15_set(); another system register's bytes are fetched first."""
    vcpu = make_vcpu()
    for reg_id in (CCSIDR + 14, CCSIDR ^ 3 << 52, CCSIDR | 1 << 8):
        with refused("ENOENT"):
            vcpu.set_one_reg(reg_id, b"")
    with refused("EFAULT"):
        vcpu.set_one_reg(CCSIDR, bytes(3))
    with refused("EFAULT"):
        vcpu.set_one_reg(TCR_EL1 ^ 1 << 52, bytes(7))


def check_short_gets(vcpu, reg_id, value, at_once=False):
    """What each length of buffer holds after a GET of a register with this value; nothing if it is stored at once."""
    for length in range(len(value) + 3):
        buffer = bytearray(UNTOUCHED * length)
        if length < len(value):
            with refused("EFAULT"):
                vcpu.get_one_reg_into(reg_id, buffer)
            assert buffer == (UNTOUCHED * length if at_once else value[:length])
        else:
            vcpu.get_one_reg_into(reg_id, buffer)
            assert buffer == value + UNTOUCHED * (length - len(value))


@ANY_KIND
def test_get_into_a_short_buffer(reg_id, size, kept, effect):
    vcpu = vcpu_with(reg_id)
    vcpu.set_one_reg(reg_id, pattern(size))
    check_short_gets(vcpu, reg_id, pattern(kept) + bytes(size - kept), at_once=reg_id in (SVCR, ZCR, CCSIDR))


def test_short_buffers_for_a_set_of_lengths():
    vcpu = a_host().create_vm().create_vcpu(0)
    vcpu.init({SVE, SME})
    for length in range(64):
        for reg_id, name in ((SVE_VLS, "SVE_VLS"), (SME_VLS, "SME_VLS")):
            with refused("EFAULT") as caught:
                vcpu.set_one_reg(reg_id, bitmap(1)[:length])
            assert caught.value.strerror.startswith(f"{name}: ")
    check_short_gets(vcpu, SME_VLS, bitmap(1, 2, 4))
    vcpu.set_one_reg(SME_VLS, bitmap(1) + b"\xff")
    assert vcpu.get_one_reg(SME_VLS) == bitmap(1)


def test_short_buffers_for_an_id_register():
    vcpu = make_vcpu({1, 2}, {1})
    for length in range(8):
        with refused("EFAULT"):
            vcpu.set_one_reg(ZFR0, bytes(length))
    check_short_gets(vcpu, ZFR0, u64(1), at_once=True)


@pytest.mark.parametrize(("reg_id", "name"), [(z(3), "Z3"), (za(3), "ZA.H[3]"), (X0, "X0"), (SVCR, "SVCR")])
def test_a_fault_names_the_register(reg_id, name):
    vcpu = make_vcpu({1}, {1})
    for call in (lambda: vcpu.set_one_reg(reg_id, b""), lambda: vcpu.get_one_reg_into(reg_id, bytearray())):
        with refused("EFAULT") as caught:
            call()
        assert caught.value.strerror.startswith(f"{name}: ")


def test_a_get_that_faults_converts_the_state():
    vcpu = in_guest_format(RFC_V2, {1}, {2})
    with refused("EFAULT"):
        vcpu.get_one_reg_into(z(1), bytearray())
    assert vcpu.fp_state is FpState.USER_OWNED


def test_a_refused_get_leaves_the_buffer():
    buffer = bytearray(UNTOUCHED * 256)
    with refused("ENOENT"):
        make_vcpu().get_one_reg_into(z(0), buffer)
    assert buffer == UNTOUCHED * 256


def test_a_system_register_is_fetched_before_it_is_looked_for():
    for reg_id in (SVCR, 0x603000000013C094, 0x603000000013FFFF):  # hidden, SMPRI_EL1 (never there), none
        with refused("EFAULT"):
            make_vcpu({1}).set_one_reg(reg_id, bytes(7))
        with refused("ENOENT"):
            make_vcpu({1}).set_one_reg(reg_id, bytes(8))


def test_a_system_register_is_fetched_as_64_bits():
    """Whatever the size in the ID: kvm_sys_reg_set_user() begins with get_user() of a u64."""
    vcpu = make_vcpu({1}, abi=MAINLINE_7_3)
    with refused("EFAULT"):
        vcpu.set_one_reg(0x602000000013C090, bytes(7))
    for reg_id in (0x602000000013C090, 0x604000000013C090, za(0), SME_VLS):  # there is no coprocessor 0x17 in mainline
        with refused("ENOENT"):
            vcpu.set_one_reg(reg_id, bytes(8))


# What buffers may be


@pytest.mark.parametrize("reg_id", [z(0), FPSR, X0])
def test_any_bytes_like_object(reg_id):
    vcpu, data = make_vcpu({1, 2}), pattern(256)
    whole = data[: {FPSR: 4, X0: 8}.get(reg_id, 32)].ljust({FPSR: 4, X0: 8}.get(reg_id, 256), b"\0")
    views = [np.frombuffer(data, dtype).copy() for dtype in (np.uint8, np.uint32, np.float64)]
    two_dimensional = np.frombuffer(data, np.uint16).reshape(8, 16)
    strided = memoryview(bytes(byte for byte in data for _ in range(2)))[::2]
    for buffer in (data, bytearray(data), memoryview(data), array("H", data), *views, two_dimensional, strided):
        vcpu.set_one_reg(reg_id, bytes(256))
        vcpu.set_one_reg(reg_id, buffer)
        assert vcpu.get_one_reg(reg_id) == whole
    for buffer in (bytearray(256), memoryview(bytearray(256)), array("I", bytes(256)), np.zeros((4, 8), np.uint64)):
        vcpu.get_one_reg_into(reg_id, buffer)
        assert bytes(buffer) == whole.ljust(256, b"\0")


@pytest.mark.parametrize("reg_id", [z(0), X0])
def test_what_is_no_buffer(reg_id):
    vcpu = make_vcpu({1})
    for data in ("text", 1, None, [1, 2]):
        with pytest.raises(TypeError):
            vcpu.set_one_reg(reg_id, data)
        with pytest.raises(TypeError):
            vcpu.get_one_reg_into(reg_id, data)
    with pytest.raises(TypeError):
        vcpu.get_one_reg_into(reg_id, bytes(256))


def test_what_is_no_register_id():
    vcpu = make_vcpu({1})
    for reg_id in (0, (1 << 64) - 1):
        with refused("EINVAL"):
            vcpu.get_one_reg(reg_id)
    for call in (vcpu.get_one_reg, lambda reg_id: vcpu.set_one_reg(reg_id, bytes(8))):
        for reg_id in (-1, 1 << 64):
            with pytest.raises(ValueError, match="a register ID is a number from 0 to 18446744073709551615"):
                call(reg_id)
        with pytest.raises(TypeError, match="a register ID is a whole number"):
            call("X0")


def test_the_held_system_registers_are_shown_by_id():
    vcpu = make_vcpu({1}, {1})
    vcpu.set_one_reg(SVCR, u64(3))
    assert vcpu.sysregs[SVCR] == 3
    with pytest.raises(TypeError):
        vcpu.sysregs[SVCR] = 0


def test_a_register_without_a_rule_is_a_number():
    """It starts as zero, and a run leaves it."""
    vcpu = make_vcpu({1})
    assert vcpu.get_one_reg(TCR_EL1) == bytes(8)
    vcpu.set_one_reg(TCR_EL1, pattern(8))
    enter_and_leave(vcpu)
    assert vcpu.get_one_reg(TCR_EL1) == pattern(8)
    with refused("ENOENT") as caught:
        vcpu.get_one_reg(0x603000000013FFFF)
    assert "S3_7_C15_C15_7: no register" in caught.value.strerror


def test_smidr_in_rfc_v2():
    """Q27: a GET crashes the host as posted; a SET has no effect, and a guest reads zero."""
    posted, meant = (make_vcpu({1}, {1}, abi=abi) for abi in (RFC_V2_R1, RFC_V2))
    for vcpu in (posted, meant):
        vcpu.set_one_reg(SMIDR, pattern(8))
        with vcpu.run() as guest:
            assert guest.smidr == 0
    assert meant.get_one_reg(SMIDR) == bytes(8)
    with pytest.raises(HostOops, match="SMIDR_EL1"):
        posted.get_one_reg(SMIDR)
    assert posted.get_one_reg(TCR_EL1) == bytes(8)


def test_ffr_goes_when_another_vcpu_hides_fa64() -> None:
    """ID registers are the VM's: what one vCPU makes of them, the others find at their next call."""
    host = Host(sve_vqs={1, 2}, sme_vqs={1, 2}, fa64=True, abi=V12)
    vm = host.create_vm()
    one, other = vm.create_vcpu(0), vm.create_vcpu(1)
    for vcpu in (one, other):
        vcpu.init({Feature.SVE, Feature.SME})
        vcpu.finalize(Feature.VEC)
    one.set_one_reg(regid.SVCR, (1).to_bytes(8, "little"))
    assert one.get_one_reg(regid.FFR_ID) == bytes(32)
    other.set_one_reg(regid.ID_AA64SMFR0_EL1, bytes(8))
    with pytest.raises(KvmError, match="ENOENT"):
        one.get_one_reg(regid.FFR_ID)
    with pytest.raises(KvmError, match="ENOENT"):
        one.set_one_reg(regid.FFR_ID, bytes(32))
