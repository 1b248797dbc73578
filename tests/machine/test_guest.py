"""What a running guest does: modes, lengths in force, and which registers there are (rfc-v2.md section 7)."""

import re
from itertools import product

import pytest
from examples import (
    FPSR,
    SMCR,
    SME,
    SME_VLS,
    SVCR,
    SVE,
    SVE_VLS,
    TPIDR2,
    VEC,
    ZCR,
    a_host,
    bitmap,
    make_vcpu,
    p,
    pattern,
    u64,
    z,
)

from kvmsve import FpState, GuestUndefined

EZT0, FA64 = 1 << 30, 1 << 31
EVERYTHING = EZT0 | FA64 | 3


def all_sme(**host):
    """s = 2, m = 4, and all that SMCR_EL1 allows."""
    vcpu = make_vcpu({1, 2}, {1, 2, 4}, **{"sme2": True, "fa64": True} | host)
    vcpu.set_one_reg(ZCR, u64(1))
    vcpu.set_one_reg(SMCR, u64(EVERYTHING))
    return vcpu


# Modes


@pytest.mark.parametrize(("old", "new"), list(product(range(4), repeat=2)))
def test_every_change_of_mode(old, new):
    with all_sme().run() as guest:
        guest.svcr = old
        length = 64 if old & 1 else 32
        for n in range(32):
            guest.z[n] = pattern(length, n)
        for n in range(16):
            guest.p[n] = pattern(length // 8, n)
        guest.ffr, guest.fpsr, guest.fpcr = pattern(length // 8, 16), 0x15, 0x400000
        if old & 2:
            guest.zt0 = pattern(64)
            for row in range(64):
                guest.za[row] = pattern(64, row)

        guest.svcr = new
        assert (guest.svcr, guest.vl, guest.svl) == (new, 64 if new & 1 else 32, 64)
        same_mode = (old ^ new) & 1 == 0
        length = 64 if new & 1 else 32
        for n in range(32):
            assert guest.z[n] == (pattern(length, n) if same_mode else bytes(length))
            assert guest.v[n] == (pattern(16, n) if same_mode else bytes(16))
        for n in range(16):
            assert guest.p[n] == (pattern(length // 8, n) if same_mode else bytes(length // 8))
        assert guest.ffr == (pattern(length // 8, 16) if same_mode else bytes(length // 8))
        assert (guest.fpsr, guest.fpcr) == (0x15 if same_mode else 0x0800009F, 0x400000)
        if not new & 2:
            with pytest.raises(GuestUndefined):
                _ = guest.za[0]
            return
        assert guest.zt0 == (pattern(64) if old & 2 else bytes(64))
        for row in range(64):
            assert guest.za[row] == (pattern(64, row) if old & 2 else bytes(64))


def test_za_is_gone_when_it_was_off():
    with all_sme().run() as guest:
        guest.svcr = 2
        guest.za[63], guest.zt0 = pattern(64), pattern(64)
        guest.svcr = 0
        guest.svcr = 2
        assert (guest.za[63], guest.zt0) == (bytes(64), bytes(64))


@pytest.mark.parametrize(
    ("which", "started", "stopped"),
    [
        ({}, [3, 3, 3, 3], [0, 0, 0, 0]),
        ({"sm": True}, [1, 1, 3, 3], [0, 0, 2, 2]),
        ({"za": True}, [2, 3, 2, 3], [0, 1, 0, 1]),
        ({"sm": True, "za": False}, [1, 1, 3, 3], [0, 0, 2, 2]),
        ({"sm": False, "za": True}, [2, 3, 2, 3], [0, 1, 0, 1]),
        ({"sm": True, "za": True}, [3, 3, 3, 3], [0, 0, 0, 0]),
        ({"sm": False, "za": False}, [0, 1, 2, 3], [0, 1, 2, 3]),
    ],
)
def test_smstart_and_smstop(which, started, stopped):
    with all_sme().run() as guest:
        for svcr in range(4):
            guest.svcr = svcr
            guest.smstart(**which)
            assert guest.svcr == started[svcr]
            guest.svcr = svcr
            guest.smstop(**which)
            assert guest.svcr == stopped[svcr]


def test_control_registers_keep_what_is_written():
    with all_sme().run() as guest:
        guest.zcr = guest.smcr = guest.cpacr = (1 << 64) - 1
        guest.svcr = guest.fpsr = guest.fpcr = (1 << 40) - 1
        assert (guest.zcr, guest.smcr, guest.cpacr) == ((1 << 64) - 1,) * 3
        assert (guest.fpsr, guest.fpcr, guest.svcr) == (0xFFFFFFFF, 0xFFFFFFFF, 3)


def test_registers_that_read_as_zero():
    """RFC v2: SMIDR_EL1 is zero to a guest, SMPRI_EL1 RES0."""
    with all_sme().run() as guest:
        assert (guest.smidr, guest.smpri) == (0, 0)


def test_tpidr2():
    vcpu = all_sme()
    with vcpu.run() as guest:
        assert guest.tpidr2 == 0x1DE7EC7EDBADC0DE
    vcpu.set_one_reg(TPIDR2, u64(5))
    with vcpu.run() as guest:
        assert guest.tpidr2 == 5


# Lengths in force

SETS = [{1}, {1, 2}, {1, 2, 4}, {1, 2, 3, 4, 7, 8}, {1, 2, 4, 8, 16}]
SME_SETS = [{1}, {1, 2, 4}, {2, 8}, {4}, {16}, {1, 2, 4, 8, 16}]


@pytest.mark.parametrize(("sve_vqs", "sme_vqs"), list(product(SETS, SME_SETS)))
def test_lengths_in_force(sve_vqs, sme_vqs):
    """The longest up to LEN + 1; a streaming length is never less than the shortest that there is."""
    vcpu = make_vcpu(sve_vqs, sme_vqs)
    for len_field in range(16):
        with vcpu.run() as guest:
            guest.zcr = guest.smcr = 0xF0 | len_field
            sve = max(vq for vq in sve_vqs if vq <= len_field + 1)
            sme = max([vq for vq in sme_vqs if vq <= len_field + 1] or [min(sme_vqs)])
            for svcr, vq in ((0, sve), (1, sme), (3, sme), (2, sve)):
                guest.svcr = svcr
                assert (guest.vl, guest.svl) == (16 * vq, 16 * sme)
                assert (len(guest.z[0]), len(guest.p[0]), len(guest.v[0])) == (16 * vq, 2 * vq, 16)


def test_lengths_that_userspace_left():
    vcpu = a_host(sve_vqs={1, 2, 4}, sme_vqs={2, 4}).create_vm().create_vcpu(0)
    vcpu.init({SVE, SME})
    vcpu.set_one_reg(SVE_VLS, bitmap(1, 2))
    vcpu.set_one_reg(SME_VLS, bitmap(2))
    vcpu.finalize(VEC)
    with vcpu.run() as guest:
        guest.zcr = guest.smcr = 15
        assert (guest.vl, guest.svl) == (32, 32)
        guest.zcr = guest.smcr = 0
        assert (guest.vl, guest.svl) == (16, 32)


def test_a_change_of_length_changes_no_register():
    with all_sme().run() as guest:
        guest.z[1], guest.p[1] = pattern(32), pattern(4)
        guest.zcr = 0
        assert (guest.z[1], guest.p[1]) == (pattern(16), pattern(2))
        guest.z[1] = bytes(16)
        guest.zcr = 1
        assert (guest.z[1], guest.p[1]) == (bytes(16) + pattern(32)[16:], pattern(4))


def test_narrow():
    with all_sme().run() as guest:
        guest.z[31], guest.p[15], guest.ffr = pattern(32), pattern(4), pattern(4, 1)
        guest.narrow(16)
        assert guest.z[31] == pattern(16) + bytes(16)
        assert (guest.p[15], guest.ffr) == (pattern(2) + bytes(2), pattern(2, 1) + bytes(2))


def test_narrow_to_any_length():
    with all_sme().run() as guest:
        guest.smstart(sm=True)
        guest.z[3], guest.p[3] = pattern(64), pattern(8)
        for vl in (256, 64, 48):
            guest.narrow(vl)
            assert guest.z[3] == pattern(64)[:vl].ljust(64, b"\0")
            assert guest.p[3] == pattern(8)[: vl // 8].ljust(8, b"\0")
        for vl in (0, 8, 17, 272):
            with pytest.raises(ValueError, match=f"a length is 16 to 256 bytes, in steps of 16, not {vl}"):
                guest.narrow(vl)


def test_a_write_of_v_clears_the_rest_of_z():
    """Beyond the length in force too."""
    with all_sme().run() as guest:
        for svcr, length in ((0, 32), (1, 64)):
            guest.svcr = svcr
            guest.z[6], guest.z[7], guest.z[8] = pattern(length, 6), pattern(length, 7), pattern(length, 8)
            guest.zcr = guest.smcr = 0
            guest.v[7] = pattern(16, 9)
            guest.zcr, guest.smcr = 1, EVERYTHING
            assert guest.z[7] == pattern(16, 9) + bytes(length - 16)
            assert (guest.z[6], guest.z[8], guest.v[6]) == (pattern(length, 6), pattern(length, 8), pattern(16, 6))


# What there is, and what is a use of FP


@pytest.mark.parametrize(("host", "smcr"), list(product((False, True), (0, FA64))))
def test_ffr_in_streaming_mode(host, smcr):
    """Only with FA64, of the host and in SMCR_EL1."""
    vcpu = all_sme(fa64=host)
    with vcpu.run() as guest:
        guest.ffr, guest.smcr = pattern(4), smcr
        assert guest.ffr == pattern(4)
        guest.smstart(sm=True)
        if host and smcr:
            guest.ffr = pattern(2)
            assert guest.ffr == pattern(2)
            return
        with pytest.raises(GuestUndefined, match="FFR is"):
            _ = guest.ffr
        with pytest.raises(GuestUndefined, match="FFR is"):
            guest.ffr = pattern(2)


@pytest.mark.parametrize(("sme2", "svcr", "smcr"), list(product((False, True), range(4), (0, EZT0))))
def test_zt0_and_za(sme2, svcr, smcr):
    with all_sme(sme2=sme2).run() as guest:
        guest.svcr, guest.smcr = svcr, smcr | 3
        for register, there in ((lambda: guest.zt0, sme2 and svcr & 2 and smcr), (lambda: guest.za[0], svcr & 2)):
            if there:
                assert register() == bytes(64)
            else:
                with pytest.raises(GuestUndefined):
                    register()


WITHOUT_SME = {"ZA", "ZT0", "SVCR", "SMCR_EL1", "RDSVL", "TPIDR2_EL0", "SMSTART", "SMPRI_EL1", "SMIDR_EL1"}
WITHOUT_VECTORS = {"Z", "P", "FFR", "RDVL", "narrow"}
UNDEFINED = {  # what a guest in no mode with neither, with SVE alone, with SME alone and with both has not got
    (): {"FPMR", "ZCR_EL1"} | WITHOUT_VECTORS | WITHOUT_SME,
    ("sve",): {"FPMR"} | WITHOUT_SME,
    ("sme",): {"FPMR", "ZCR_EL1", "ZA", "ZT0"} | WITHOUT_VECTORS,
    ("sve", "sme"): {"FPMR", "ZA", "ZT0"},
}
NAMES = {
    "ZCR_EL1": "zcr", "SMCR_EL1": "smcr", "RDVL": "vl", "RDSVL": "svl", "TPIDR2_EL0": "tpidr2", "SMPRI_EL1": "smpri",
    "SMIDR_EL1": "smidr",
}  # fmt: skip


def attribute(register):
    return NAMES.get(register, register.lower())


READS = {
    **{name: lambda guest, name=name: getattr(guest, attribute(name))[0] for name in ("Z", "P", "V", "ZA")},
    **{name: lambda guest, name=name: getattr(guest, attribute(name)) for name in ("FFR", "ZT0", "SVCR", "FPSR")},
    **{name: lambda guest, name=name: getattr(guest, attribute(name)) for name in ("FPCR", "FPMR", *NAMES)},
    "SMSTART": lambda guest: guest.smstart(sm=True),
    "narrow": lambda guest: guest.narrow(16),
}
WRITES = {
    **{
        name: lambda guest, name=name: getattr(guest, name.lower()).__setitem__(0, bytes(16))
        for name in ["Z", "V", "ZA"]
    },
    **{name: lambda guest, name=name: setattr(guest, attribute(name), 0) for name in ("SVCR", "FPSR", "FPCR", "FPMR")},
    **{name: lambda guest, name=name: setattr(guest, attribute(name), 0) for name in ("ZCR_EL1", "SMCR_EL1")},
    "P": lambda guest: guest.p.__setitem__(0, bytes(2)),
    "FFR": lambda guest: setattr(guest, "ffr", bytes(2)),
    "ZT0": lambda guest: setattr(guest, "zt0", bytes(64)),
}
STEPS = [*(("read", *step) for step in READS.items()), *(("write", *step) for step in WRITES.items())]


@pytest.mark.parametrize(("features", "undefined"), UNDEFINED.items(), ids=lambda value: "+".join(sorted(value))[:9])
@pytest.mark.parametrize(("how", "name", "step"), STEPS, ids=[f"{how} {name}" for how, name, _ in STEPS])
def test_the_first_step_of_a_guest(how, name, step, features, undefined):
    """A use of FP makes the guest own the state; an UNDEFINED instruction is none."""
    vcpu = make_vcpu({1} if "sve" in features else (), {1} if "sme" in features else (), sme2=True, fa64=True)
    with vcpu.run() as guest:
        if name in undefined:
            what = {"SMSTART": "SVCR"}.get(name, name)
            with pytest.raises(GuestUndefined, match=f"^{what} is UNDEFINED"):
                step(guest)
            assert vcpu.fp_state is FpState.HOST_OWNED
        else:
            step(guest)
            assert vcpu.fp_state is FpState.GUEST_OWNED


def test_cpacr_is_no_use_of_fp():
    vcpu = make_vcpu({1})
    with vcpu.run() as guest:
        guest.cpacr = 3 << 16
        assert (guest.cpacr, vcpu.fp_state) == (3 << 16, FpState.HOST_OWNED)
    with vcpu.run() as guest:
        assert guest.cpacr == 3 << 16


# Mistakes of the caller


def test_data_of_another_length():
    with all_sme().run() as guest:
        guest.smstart(za=True)
        for name, bank, size in (
            ("Z1", guest.z, 32),
            ("P1", guest.p, 4),
            ("V1", guest.v, 16),
            ("ZA.H[1]", guest.za, 64),
        ):
            for length in (0, size - 1, size + 1):
                with pytest.raises(ValueError, match=f"^{re.escape(name)} has {size} bytes"):
                    bank[1] = bytes(length)
            bank[1] = bytearray(size)
        for name, size in (("FFR", 4), ("ZT0", 64)):
            with pytest.raises(ValueError, match=f"^{name} has {size} bytes"):
                setattr(guest, name.lower(), bytes(size - 1))
        with pytest.raises(TypeError):
            guest.z[0] = "0" * 32


def test_numbers_that_no_instruction_can_name():
    vcpu = all_sme()
    vcpu.set_one_reg(SVCR, u64(2))
    with vcpu.run() as guest:
        for name, bank, count in (("Z", guest.z, 32), ("P", guest.p, 16), ("V", guest.v, 32), ("ZA.H", guest.za, 64)):
            assert bank[count - 1] == bytes(len(bank[0]))
            for n in (-1, count):
                with pytest.raises(IndexError, match=f"there is no {name}{n}: they go from 0 to {count - 1}"):
                    _ = bank[n]
                with pytest.raises(IndexError, match=f"there is no {name}{n}: they go from 0 to {count - 1}"):
                    bank[n] = bytes(64)
        guest.smcr = 0
        with pytest.raises(IndexError):
            _ = guest.za[16]


def test_a_guest_after_its_run():
    vcpu = all_sme()
    with vcpu.run() as guest:
        guest.z[0] = pattern(32)
    for use in (lambda: guest.z[0], lambda: guest.svcr, lambda: guest.smstart(), lambda: setattr(guest, "fpsr", 1)):
        with pytest.raises(RuntimeError, match="ended"):
            use()
    assert vcpu.get_one_reg(z(0)) == pattern(32) + bytes(224)


def test_a_guest_that_did_nothing_is_over_too():
    vcpu = all_sme()
    with vcpu.run() as guest:
        pass
    with pytest.raises(RuntimeError, match="ended"):
        _ = guest.z[0]
    assert vcpu.fp_state is FpState.HOST_OWNED


def test_an_exception_in_the_block_still_puts_the_vcpu():
    vcpu = all_sme()
    with pytest.raises(IndexError), vcpu.run() as guest:
        guest.p[2], guest.fpsr, guest.z[32] = pattern(4), 9, b""
    assert (vcpu.get_one_reg(p(2))[:4], vcpu.get_one_reg(FPSR)) == (pattern(4), b"\x09\0\0\0")
    with vcpu.run() as guest:
        assert guest.p[2] == pattern(4)
