"""System registers: which vCPU has which, what a reset leaves, and what ID registers take (rfc-v2.md 1.4)."""

from errno import EBUSY, EINVAL, ENOENT
from itertools import product

import model
import pytest
from examples import is_one_line

from kvmsve import Feature, GuestUndefined, Host, KvmError
from kvmsve.facts.revisions import MAINLINE_6_1, REVISIONS, RFC_V2, V12
from kvmsve.machine.idregs import IdRegs
from kvmsve.rules import idregs, reglist, sysreg
from kvmsve.rules.views import VectorLengths

BASE = 0x6030_0000_0013_0000
PFR0, PFR1, PFR2, ZFR0, SMFR0 = (BASE | low for low in (0xC020, 0xC021, 0xC022, 0xC024, 0xC025))
CPACR, ZCR, SMPRI, SMCR, SMIDR = BASE | 0xC082, BASE | 0xC090, BASE | 0xC094, BASE | 0xC096, BASE | 0xC806
SVCR, FPMR, TPIDR2 = BASE | 0xDA12, BASE | 0xDA22, BASE | 0xDE85

PLAIN, SVE_ONLY, SME_ONLY, BOTH = VectorLengths(), VectorLengths(2, 0), VectorLengths(0, 4), VectorLengths(2, 4)

# The host of rfc-r1-general, with SME2
HOST = {
    PFR0: 0x1101_0011_2111_0222,
    PFR1: 0x0000_0000_0200_0021,
    PFR2: 0,
    ZFR0: 0x0110_1101_0011_0021,
    SMFR0: 0x81F1_00FD_0000_0000,
}


# One whose every field can be lowered
RICH = {
    PFR2: 0,
    PFR0: 0x6666_6666_6666_6666,
    PFR1: 0x6666_6666_6666_6666,
    ZFR0: 0x6666_6666_6666_6666,
    SMFR0: (1 << 64) - 1,
}


def has(register: sysreg.SysReg, lengths: VectorLengths) -> bool:
    return register.gate in sysreg.open_gates(RFC_V2, lengths, has_fpmr=False)


def write(
    reg_id: int, value: int, lengths: VectorLengths = BOTH, *, host=HOST, writable: bool = True, fixed: bool = False
):
    """What the register holds after one write to a fresh VM, or the errno."""
    vm = IdRegs(RFC_V2 if writable else MAINLINE_6_1, host)
    vm.fixed = fixed
    before = vm.read(reg_id, lengths)
    try:
        vm.write(reg_id, value, lengths)
    except KvmError as refusal:
        assert vm.read(reg_id, lengths) == before
        return refusal.errno
    return ("holds", vm.read(reg_id, lengths))


@pytest.mark.parametrize(
    ("reg_id", "plain", "sve_only", "sme_only", "both"),
    [(CPACR, 1, 1, 1, 1), (ZCR, 0, 1, 0, 1), (SMCR, 0, 0, 1, 1), (SMIDR, 0, 0, 1, 1), (SVCR, 0, 0, 1, 1),
     (TPIDR2, 0, 0, 1, 1)],
)  # fmt: skip
def test_which_vcpus_have_a_control_register(reg_id, plain, sve_only, sme_only, both):
    register = sysreg.CONTROL_REGS[reg_id]
    visible = [has(register, lengths) for lengths in (PLAIN, SVE_ONLY, SME_ONLY, BOTH)]
    assert visible == [plain, sve_only, sme_only, both]


def test_any_length_makes_a_register_visible():
    for vq in range(1, 17):
        assert has(sysreg.CONTROL_REGS[ZCR], VectorLengths(vq, 0))
        assert has(sysreg.CONTROL_REGS[SVCR], VectorLengths(0, vq))


def test_smpri_is_nowhere():
    for revision in REVISIONS.values():
        assert SMPRI not in reglist.known(revision.other_regs)


def test_values_after_a_reset():
    resets = {reg_id: register.reset for reg_id, register in sysreg.CONTROL_REGS.items()}
    listed = {CPACR: 0, ZCR: 0, SMCR: 0, SMIDR: 0, SVCR: 0, TPIDR2: 0x1DE7_EC7E_DBAD_C0DE}
    assert {reg_id: resets.pop(reg_id) for reg_id in listed} == listed
    assert set(resets.values()) == {0}


# ID registers


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        (BOTH, HOST),
        (SVE_ONLY, HOST | {PFR1: 0x21, SMFR0: 0}),
        (SME_ONLY, HOST | {PFR0: 0x1101_0010_2111_0222, ZFR0: 0}),
        (PLAIN, {PFR0: 0x1101_0010_2111_0222, PFR1: 0x21, PFR2: 0, ZFR0: 0, SMFR0: 0}),
    ],
)
def test_a_vcpu_sees_no_feature_that_it_lacks(lengths, expected):
    vm = IdRegs(RFC_V2, HOST)
    assert {reg_id: vm.read(reg_id, lengths) for reg_id in HOST} == expected
    assert set(idregs.VECTOR_ID_REGS) == set(HOST)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ((False, False, False, False), {PFR0: 0x11, PFR1: 0, ZFR0: 0, SMFR0: 0}),
        ((True, False, False, False), {PFR0: 0x1_0000_0011, PFR1: 0, ZFR0: 1, SMFR0: 0}),
        ((True, True, False, True), {PFR0: 0x1_0000_0011, PFR1: 1 << 24, ZFR0: 1, SMFR0: 1 << 63}),
        ((True, True, True, False), {PFR0: 0x1_0000_0011, PFR1: 2 << 24, ZFR0: 1, SMFR0: 1 << 56}),
        ((False, True, True, True), {PFR0: 0x11, PFR1: 2 << 24, ZFR0: 1, SMFR0: 1 << 63 | 1 << 56}),
        ((False, False, True, True), {PFR0: 0x11, PFR1: 0, ZFR0: 0, SMFR0: 0}),
    ],
)
def test_a_host_of_which_nothing_more_is_known(host, expected):
    found = idregs.host_id_regs(*host, False)
    assert found == expected | {PFR2: 0, SMIDR: 0}
    has_sve, has_sme, sme2, fa64 = host
    twin = model.Host([1] * has_sve, [1] * has_sme, sme2=sme2, fa64=fa64)
    assert {reg_id: found[reg_id] for reg_id in twin.id_regs} == twin.id_regs


SMFR0_FIELDS = [
    (63, 1),
    (56, 4),
    (52, 4),
    (48, 1),
    (44, 4),
    (43, 1),
    (42, 1),
    (36, 4),
    *((bit, 1) for bit in (0, 23, 24, 28, 29, 30, 32, 33, 34, 35, 40, 41, 60)),
]


@pytest.mark.parametrize("host", [HOST, RICH], ids=["recorded", "rich"])
@pytest.mark.parametrize(("shift", "width"), SMFR0_FIELDS)
def test_a_field_of_smfr0_is_the_hosts_or_zero(shift, width, host):
    mask = (1 << width) - 1
    limit = host[SMFR0] >> shift & mask
    for new in range(mask + 1):
        value = host[SMFR0] & ~(mask << shift) | new << shift
        assert write(SMFR0, value, host=host) == (("holds", value) if new in (0, limit) else EINVAL)


@pytest.mark.parametrize("host", [HOST, RICH], ids=["recorded", "rich"])
def test_smfr0_has_no_other_fields(host):
    covered = {bit for shift, width in SMFR0_FIELDS for bit in range(shift, shift + width)}
    for bit in set(range(64)) - covered:
        assert write(SMFR0, host[SMFR0] ^ 1 << bit, host=host) == EINVAL


@pytest.mark.parametrize("new", range(16))
def test_sme_in_pfr1_may_be_lowered(new):
    value = HOST[PFR1] & ~(0xF << 24) | new << 24
    assert write(PFR1, value) == (("holds", value) if new <= 2 else EINVAL)


@pytest.mark.parametrize("host", [HOST, RICH], ids=["recorded", "rich"])
@pytest.mark.parametrize(
    ("reg_id", "lowerable"),
    [
        (PFR0, (0, 4, 8, 12, 36, 48, 56, 60)),  # EL0 to EL3, SEL2, DIT, CSV2, CSV3; SVE is not among them
        (PFR1, (0, 4, 24)),  # BT, SSBS, SME
        (ZFR0, (0, 4, 12, 16, 20, 24, 32, 40, 44, 48, 52, 56)),  # SVEver, AES ... F32MM, F64MM
    ],
)
def test_a_four_bit_field_may_be_lowered_or_must_stay(reg_id, lowerable, host):
    for shift, new in product(range(0, 64, 4), range(16)):
        old = host[reg_id] >> shift & 0xF
        value = host[reg_id] & ~(0xF << shift) | new << shift
        taken = new <= old if shift in lowerable else new == old
        assert write(reg_id, value, host=host) == (("holds", value) if taken else EINVAL), (shift, new)


@pytest.mark.parametrize(("reg_id", "lengths"), [(ZFR0, SME_ONLY), (SMFR0, SVE_ONLY), (ZFR0, PLAIN), (SMFR0, PLAIN)])
def test_a_register_that_reads_as_zero_takes_only_zero(reg_id, lengths):
    assert write(reg_id, 0, lengths) == ("holds", 0)
    for value in (HOST[reg_id], 1, 1 << 63):
        assert write(reg_id, value, lengths) == EINVAL


def test_the_limit_is_the_vcpus_own():
    assert write(PFR1, 0x21, SVE_ONLY) == ("holds", 0x21)
    assert write(PFR1, HOST[PFR1], SVE_ONLY) == EINVAL
    assert write(PFR0, HOST[PFR0], SME_ONLY) == EINVAL


def test_all_fields_at_once():
    assert write(SMFR0, 0) == ("holds", 0)
    assert write(PFR1, 0) == ("holds", 0)
    assert write(PFR1, 0x0200_0031) == EINVAL  # SSBS raised, everything else in order
    assert write(SMFR0, 0x80E0_0000_0000_0000) == EINVAL


def test_order_of_checks():
    """The present value is always taken; then EINVAL for a read-only register, EBUSY, EINVAL for the value."""
    lowered, wrong = HOST[PFR1] & ~(0xF << 24), HOST[PFR1] | 0xF << 24
    for writable, fixed in product((False, True), repeat=2):
        assert write(PFR1, HOST[PFR1], writable=writable, fixed=fixed) == ("holds", HOST[PFR1])
    assert write(PFR1, lowered, writable=False, fixed=False) == EINVAL
    assert write(PFR1, lowered, writable=False, fixed=True) == EINVAL
    assert write(PFR1, lowered, writable=True, fixed=True) == EBUSY
    assert write(PFR1, wrong, writable=True, fixed=True) == EBUSY
    assert write(PFR1, wrong, writable=True, fixed=False) == EINVAL


def test_a_lowered_register_can_go_up_again_until_a_vcpu_runs():
    vm = IdRegs(RFC_V2, HOST)
    lowered = HOST[PFR1] & ~(0xF << 24)
    for value in (lowered, lowered | 1 << 24, HOST[PFR1], lowered):
        vm.write(PFR1, value, BOTH)
        assert vm.read(PFR1, BOTH) == value
    assert vm.read(SMFR0, BOTH) == HOST[SMFR0]
    vm.fixed = True
    vm.write(PFR1, lowered, BOTH)
    with pytest.raises(KvmError) as caught:
        vm.write(PFR1, HOST[PFR1], BOTH)
    assert caught.value.errno == EBUSY
    assert vm.read(PFR1, BOTH) == lowered
    assert IdRegs(RFC_V2, HOST).read(PFR1, BOTH) == HOST[PFR1]


@pytest.mark.parametrize(("revision", "takes_it"), [("v3", False), ("v4", True), ("rfc-v2", True)])
def test_v3_has_sme_in_pfr1_read_only(revision, takes_it):
    """abi-revisions.md 5.2; the fields beside it can be lowered."""
    vm = IdRegs(REVISIONS[revision], HOST)
    vm.write(PFR1, HOST[PFR1] & ~0xF, BOTH)
    if takes_it:
        vm.write(PFR1, HOST[PFR1] & ~(0xF << 24), BOTH)
        return
    with pytest.raises(KvmError) as refusal:
        vm.write(PFR1, HOST[PFR1] & ~(0xF << 24), BOTH)
    assert refusal.value.errno == EINVAL


@pytest.mark.parametrize(
    ("revision", "with_sme"), [("rfc-v2", False), ("v9", False), ("v10-recorded", False), ("v10", True), ("v12", True)]
)
def test_zfr0_is_zero_without_sve_or_from_v10_without_both(revision, with_sme):
    vm = IdRegs(REVISIONS[revision], HOST)
    seen = [vm.read(ZFR0, lengths) for lengths in (BOTH, SVE_ONLY, SME_ONLY, PLAIN)]
    assert seen == [HOST[ZFR0], HOST[ZFR0], HOST[ZFR0] if with_sme else 0, 0]
    assert [vm.read(SMFR0, lengths) for lengths in (SVE_ONLY, PLAIN)] == [0, 0]


def test_registers_of_a_host_that_are_each_vcpus_own():
    mmfr0, clidr = 0x603000000013C038, 0x603000000013C801
    known = {mmfr0: 0x1122, PFR0: HOST[PFR0], clidr: 0x23}
    vcpu = Host(sve_vqs={1}, id_regs=known).create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE})
    for reg_id, value in known.items():
        assert vcpu.get_one_reg(reg_id) == value.to_bytes(8, "little")
    assert clidr in vcpu.sysregs
    assert mmfr0 not in vcpu.sysregs
    assert set(vcpu.sysregs) & {PFR0, PFR1, ZFR0, SMFR0} == set()


def test_a_refused_write_names_the_register():
    for abi, fixed in ((RFC_V2, False), (RFC_V2, True), (MAINLINE_6_1, False)):
        vm = IdRegs(abi, HOST)
        vm.fixed = fixed
        with pytest.raises(KvmError) as caught:
            vm.write(PFR1, HOST[PFR1] | 0xF << 24, BOTH)
        assert is_one_line(caught.value.strerror)
        assert caught.value.strerror.startswith("ID_AA64PFR1_EL1: ")


def test_fpmr_goes_with_its_field_of_pfr2():
    host = Host(sve_vqs=[1], abi=V12, fpmr=True)
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE})
    vcpu.finalize(Feature.VEC)
    vcpu.set_one_reg(FPMR, (5).to_bytes(8, "little"))
    assert FPMR in vcpu.get_reg_list()
    vcpu.set_one_reg(PFR2, bytes(8))
    assert FPMR not in vcpu.get_reg_list()
    with pytest.raises(KvmError) as refusal:
        vcpu.get_one_reg(FPMR)
    assert refusal.value.errno == ENOENT
    with vcpu.run() as guest, pytest.raises(GuestUndefined):
        guest.fpmr = 1


def test_implementation_id_registers_are_unlocked_before_the_first_vcpu():
    vm = Host(abi=V12).create_vm()
    vm.enable_cap(239)
    vm.create_vcpu(0)
    with pytest.raises(KvmError) as refusal:
        vm.enable_cap(239)
    assert refusal.value.errno == EINVAL
