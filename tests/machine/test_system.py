"""System registers of later revisions: effects of SVCR, registers of EL2, SMIDR_EL1, and what another vCPU changes."""

import pytest
from examples import is_one_line

from kvmsve import Feature, GuestUndefined, Host, KvmError
from kvmsve.facts import regid
from kvmsve.facts.revisions import REVISIONS

V12 = REVISIONS["v12"]
FLUSHING = [f"v{number}" for number in range(5, 13)]


def word(value: int) -> bytes:
    return value.to_bytes(8, "little")


def get(vcpu, reg_id: int) -> int:
    return int.from_bytes(vcpu.get_one_reg(reg_id), "little")


def refused(vcpu, reg_id: int, value: int) -> str:
    with pytest.raises(KvmError) as caught:
        vcpu.set_one_reg(reg_id, word(value))
    assert is_one_line(caught.value.strerror)
    return caught.value.symbol


def make(abi, *extra: int, cap: int | None = None):
    offered = {2, 3, 4, abi.sme_feature, *extra}
    machine = Host(sve_vqs={1, 2}, sme_vqs={1, 2}, sme2=True, fa64=True, fpmr=True, abi=abi, features_offered=offered)
    vm = machine.create_vm()
    if cap is not None:
        vm.enable_cap(cap)
    vcpus = [vm.create_vcpu(n) for n in range(2)]
    for vcpu in vcpus:
        vcpu.init({Feature.SVE, Feature.SME, *extra})
        vcpu.finalize(Feature.VEC)
    return vm, *vcpus


@pytest.mark.parametrize("revision", FLUSHING)
@pytest.mark.parametrize("old", range(4))
@pytest.mark.parametrize("new", range(4))
def test_a_set_of_svcr_flushes_what_the_switch_would(revision, old, new):
    _, vcpu, _ = make(REVISIONS[revision])
    vcpu.set_one_reg(regid.SVCR, word(old))
    for reg_id, data in ((regid.zreg_id(5), b"\5" * 256), (regid.FPSR, b"\7" * 4), (regid.FPCR, b"\x0b" * 4)):
        vcpu.set_one_reg(reg_id, data)
    vcpu.set_one_reg(regid.FPMR, word(9))
    if old & 2 and not REVISIONS[revision].za.get_writes:
        vcpu.set_one_reg(regid.za_row_id(1), b"\3" * 256)
    vcpu.set_one_reg(regid.SVCR, word(new))
    switched = bool((old ^ new) & 1)
    assert vcpu.get_one_reg(regid.zreg_id(5))[:32] == (bytes(32) if switched else b"\5" * 32)
    assert get(vcpu, regid.FPSR) == (0x0800009F if switched else 0x07070707)
    assert (get(vcpu, regid.FPCR), get(vcpu, regid.FPMR)) == (0x0B0B0B0B, 0 if switched else 9)
    if old & 2 and not REVISIONS[revision].za.get_writes:
        assert bytes(vcpu.sme_state[32:64]) == b"\3" * 32
        vcpu.set_one_reg(regid.SVCR, word(0))
        vcpu.set_one_reg(regid.SVCR, word(2))
        assert not any(vcpu.sme_state)


@pytest.mark.parametrize("bit", range(2, 64))
def test_res0_bits_of_svcr(bit):
    _, stored, _ = make(REVISIONS["v4"])
    stored.set_one_reg(regid.SVCR, word(1 << bit))
    assert get(stored, regid.SVCR) == 1 << bit
    _, checked, _ = make(V12)
    assert refused(checked, regid.SVCR, 1 << bit) == "EINVAL"
    assert get(checked, regid.SVCR) == 0


def test_registers_of_el2_are_masked_from_the_first_run_on():
    """abi-revisions.md 11A.10."""
    _, vcpu, other = make(V12, 7)
    ones = (1 << 64) - 1
    for reg_id in (regid.SMCR_EL2, regid.ZCR_EL2):
        vcpu.set_one_reg(reg_id, word(ones))
        assert get(vcpu, reg_id) == ones
    assert refused(vcpu, regid.SMPRIMAP_EL2, 1) == "EINVAL"
    vcpu.run()
    assert (get(vcpu, regid.SMCR_EL2), get(vcpu, regid.ZCR_EL2)) == (0xC000000F, 0xF)
    other.set_one_reg(regid.SMCR_EL2, word(ones))
    assert get(other, regid.SMCR_EL2) == 0xC000000F
    assert {regid.SMCR_EL2, regid.SMPRIMAP_EL2, regid.ZCR_EL2} <= set(vcpu.get_reg_list())
    _, without, _ = make(V12)
    assert refused(without, regid.SMCR_EL2, 0) == refused(without, regid.SMPRIMAP_EL2, 0) == "ENOENT"


@pytest.mark.parametrize("hidden", [None, "zt0", "ffr", "fpmr"])
def test_a_guest_has_what_the_id_registers_say(hidden):
    _, vcpu, _ = make(V12)
    lowered = {
        "zt0": (regid.ID_AA64PFR1_EL1, 1 << 24),
        "ffr": (regid.ID_AA64SMFR0_EL1, 1 << 56),
        "fpmr": (regid.ID_AA64PFR2_EL1, 0),
    }
    if hidden:
        reg_id, value = lowered[hidden]
        vcpu.set_one_reg(reg_id, word(value))
    with vcpu.run() as guest:
        guest.svcr, guest.smcr = 3, 3 << 30 | 15
        for name in lowered:
            if name == hidden:
                with pytest.raises(GuestUndefined):
                    getattr(guest, name)
            else:
                assert getattr(guest, name) in (0, bytes(4), bytes(64))


def test_a_set_of_smidr_succeeds_without_effect_in_rfc_v2():
    """rfc-v2.md 1.4 and Q27, as R4 repairs the read."""
    _, vcpu, _ = make(REVISIONS["rfc-v2"])
    vcpu.set_one_reg(regid.SMIDR_EL1, word(0x12))
    assert get(vcpu, regid.SMIDR_EL1) == 0
    with vcpu.run() as guest:
        assert guest.smidr == 0


def test_smidr_of_the_vm_needs_the_capability():
    _, vcpu, _ = make(V12)
    vcpu.set_one_reg(regid.SMIDR_EL1, word(0))
    assert refused(vcpu, regid.SMIDR_EL1, 0x12) == "EINVAL"
    _, vcpu, other = make(V12, cap=239)
    assert refused(vcpu, regid.SMIDR_EL1, 1 << 15) == "EINVAL"
    vcpu.set_one_reg(regid.SMIDR_EL1, word(0x12))
    assert get(other, regid.SMIDR_EL1) == 0x12
    other.run()
    assert refused(vcpu, regid.SMIDR_EL1, 0x13) == "EBUSY"
    with other.run() as guest:
        assert guest.smidr == 0x12


def test_capabilities_are_enabled_before_there_are_vcpus():
    vm = Host(sve_vqs={1}, abi=V12).create_vm()
    for cap in (0, 70, 170, 240):
        with pytest.raises(KvmError, match="EINVAL: capability"):
            vm.enable_cap(cap)
    vm.enable_cap(239)
    vm.create_vcpu(0)
    with pytest.raises(KvmError, match="EINVAL: capability 239: the VM has vCPUs"):
        vm.enable_cap(239)


def test_what_another_vcpu_hides_is_gone_at_once():
    """abi-revisions.md 11A.7: ID registers belong to the VM."""
    _, vcpu, other = make(V12)
    vcpu.set_one_reg(regid.SVCR, word(3))
    vcpu.set_one_reg(regid.ZT0, b"\x2a" * 64)
    vcpu.get_one_reg(regid.FFR_ID)
    pfr1, smfr0 = get(other, regid.ID_AA64PFR1_EL1), get(other, regid.ID_AA64SMFR0_EL1)
    other.set_one_reg(regid.ID_AA64PFR1_EL1, word(pfr1 & ~(0xF << 24) | 1 << 24))
    other.set_one_reg(regid.ID_AA64SMFR0_EL1, word(smfr0 & ~(1 << 63)))
    for reg_id in (regid.ZT0, regid.FFR_ID):
        with pytest.raises(KvmError, match="ENOENT"):
            vcpu.get_one_reg(reg_id)
        assert reg_id not in vcpu.get_reg_list()
    other.set_one_reg(regid.ID_AA64PFR1_EL1, word(pfr1))
    other.set_one_reg(regid.ID_AA64SMFR0_EL1, word(smfr0))
    assert vcpu.get_one_reg(regid.ZT0) == b"\x2a" * 64
    assert regid.FFR_ID in vcpu.get_reg_list()


def test_a_list_is_not_kept_when_fa64_alone_is_hidden():
    _, vcpu, other = make(V12)
    vcpu.set_one_reg(regid.SVCR, word(1))
    assert regid.FFR_ID in vcpu.get_reg_list()
    other.set_one_reg(regid.ID_AA64SMFR0_EL1, word(get(other, regid.ID_AA64SMFR0_EL1) & ~(1 << 63)))
    assert regid.FFR_ID not in vcpu.get_reg_list()


@pytest.mark.parametrize("row", [0, 1, 15])
def test_a_get_of_za_writes_it_until_v9(row):
    _, vcpu, _ = make(REVISIONS["v9"])
    vcpu.set_one_reg(regid.SVCR, word(2))
    vcpu.set_one_reg(regid.za_row_id(row), b"\3" * 256)
    buffer = bytearray(b"\xa5" * 256)
    vcpu.get_one_reg_into(regid.za_row_id(row), buffer)
    assert buffer == b"\xa5" * 256
    assert bytes(vcpu.sme_state[16 * row : 16 * row + 16]) == b"\xa5" * 16
    assert vcpu.get_one_reg(regid.za_row_id(row)) == bytes(256)
    assert not any(vcpu.sme_state)


@pytest.mark.parametrize(("revision", "answer"), [("v4", "EINVAL"), ("v10", "EBUSY"), ("v12", "EBUSY")])
def test_za_can_be_reached_while_svcr_za_is_1(revision, answer):
    """abi-revisions.md 5.2."""
    _, vcpu, _ = make(REVISIONS[revision])
    for svcr in range(4):
        vcpu.set_one_reg(regid.SVCR, word(svcr))
        if svcr & 2:
            vcpu.set_one_reg(regid.za_row_id(1), bytes(256))
            continue
        with pytest.raises(KvmError, match=answer):
            vcpu.set_one_reg(regid.za_row_id(1), bytes(256))


@pytest.mark.parametrize(("revision", "host_has_it"), [("v12", True), ("v12", False), ("rfc-v2", True)])
def test_fpmr_needs_a_host_and_a_revision(revision, host_has_it):
    host = Host(sve_vqs={1}, fpmr=host_has_it, abi=REVISIONS[revision])
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE})
    vcpu.finalize(Feature.VEC)
    there = host_has_it and revision == "v12"
    assert (regid.FPMR in vcpu.get_reg_list()) == there
    assert get(vcpu, regid.ID_AA64PFR2_EL1) == (1 << 32 if there else 0)
    if there:
        vcpu.set_one_reg(regid.FPMR, word(5))
        with vcpu.run() as guest:
            assert guest.fpmr == 5
            guest.fpmr = (1 << 64) - 2
            assert guest.fpmr == (1 << 64) - 2
        assert get(vcpu, regid.FPMR) == (1 << 64) - 2
    else:
        assert refused(vcpu, regid.FPMR, 5) == "ENOENT"


def test_a_guests_change_of_mode_zeroes_fpmr():
    _, vcpu, _ = make(V12)
    with vcpu.run() as guest:
        for svcr in (1, 0):
            guest.fpmr = 9
            guest.smstart(za=True)
            assert guest.fpmr == 9
            guest.svcr = svcr
            assert guest.fpmr == 0
