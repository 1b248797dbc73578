"""What goes wrong around the kernel: buffers that end too early, and allocations that fail."""

from __future__ import annotations

from collections import deque

import model
import model_by_mode
import pytest
from examples import SVCR, enter_and_leave, make_vcpu, p, pattern, refused, u64, z
from model_by_mode import SERIES
from programs import get_into
from twin import Twin

from kvmsve import RFC_V2, RFC_V2_POSTED, RFC_V2_R1, RFC_V2_R123, Abi, Feature, FpState, Host, Vcpu
from kvmsve.facts.revisions import REVISIONS

# Buffers of every length

VLS = (*model.VLS_ID, 0x6060_0000_0017_FFFE)
KINDS = {
    "Z": model.Z_BASE | 3 << 5,
    "P": model.P_BASE | 2 << 5,
    "FFR": model.FFR_ID,
    "slice": model.Z_BASE | 1,
    "ZA": model.ZA_BASE | 5 << 5,
    "ZT0": model.ZT0_ID,
    "X": model.CORE_U64[1],
    "V": model.CORE_V[4],
    "FPSR": model.FPSR,
    "FPCR": model.FPCR,
    "firmware": model.FIRMWARE_IDS[0],
    "bitmap firmware": model.FIRMWARE_IDS[-1],
    "timer": model.TIMER_IDS[2],
    "SVCR": model.SVCR,
    "ZCR": model.ZCR,
    "TPIDR2": model.TPIDR2,
    "ID register": model.ZFR0,
    "FPMR": model_by_mode.FPMR,
    "CCSIDR": model.DEMUX_IDS[3],
    "no register": model.SYSREG | 0x4321,
    **{f"VLS {reg_id:x}": reg_id for reg_id in VLS},
}


def make_twin(revision: str, features: int, finalized: bool) -> Twin:
    """A vCPU twice, of a host with SVE lengths 1, 2 and 3 and SME lengths 1 and 4, whose registers hold something."""
    machine = {"sme2": True, "fa64": True} | ({"fpmr": True} if revision in SERIES else {})
    host = Host(sve_vqs={1, 2, 3}, sme_vqs={1, 4}, abi=REVISIONS[revision], **machine)
    family = model_by_mode if revision in SERIES else model
    other = family.Host([1, 2, 3], [1, 4], revision=revision, **machine)
    trace = deque[object]([revision], maxlen=9)
    twin = Twin(host.create_vm().create_vcpu(0), other.create_vm().create_vcpu(0), trace)
    words = [features, 0, 0, 0, 0, 0, 0]
    twin.both(("init",), lambda: twin.vcpu.init(words), lambda: twin.other.init(words))
    if finalized:
        twin.both(("finalize",), lambda: twin.vcpu.finalize(4), lambda: twin.other.finalize(4))
        twin.set(SVCR, u64(2))
    for n, reg_id in enumerate(KINDS.values()):
        if reg_id not in (*VLS, SVCR):
            twin.set(reg_id, pattern(256, n))
    return twin


def every_length(twin: Twin, reg_id: int) -> None:
    """Sets and gets of a register with buffers of 0 bytes to all that it has, and what is held and was written."""
    vqs = (1 << 3) - 1 if reg_id == model.VLS_ID[0] else 0b1001
    for length in range(model.width(reg_id) + 1):
        data = vqs.to_bytes(64, "little") if reg_id in VLS else pattern(256, length)
        if reg_id == SVCR:
            data = u64(2 * (length % 2))
        twin.set(reg_id, data[:length])
        twin.compare()
        get_into(twin, reg_id, length)
    twin.compare()


@pytest.mark.parametrize("revision", ["mainline-7.3", "rfc-v2-posted", "rfc-v2", "v9", "v12"])
def test_buffer_of_every_length(revision: str) -> None:
    """rfc-v2.md 3.1 to 3.3: which bytes are stored, zeroed, written or left before EFAULT."""
    sme = 9 if SERIES.get(revision, 0) >= 5 else 8
    choices = [0, 1 << 4, 1 << sme, 1 << 4 | 1 << sme]
    for features in choices[: 2 if revision.startswith("mainline") or revision == "rfc-v2-posted" else 4]:
        for finalized in (True, False) if features else (False,):
            twin = make_twin(revision, features, finalized)
            for reg_id in KINDS.values():
                every_length(twin, reg_id)


# Allocations

CONVERTING = pytest.mark.parametrize("abi", [RFC_V2_R1, RFC_V2_R123, RFC_V2], ids=lambda abi: abi.name)


def filled(abi: Abi) -> Vcpu:
    """SVE vq 2, SME vq 4: Z, P and FFR lie at vq 4 in user format, at vq 2 for a guest that does not stream."""
    vcpu = make_vcpu({1, 2}, {4}, abi=abi)
    for n in range(32):
        vcpu.set_one_reg(z(n), bytes([n + 1]) * 64)
    for n in range(17):
        vcpu.set_one_reg(p(n), bytes([0x80 + n]) * 8)
    return vcpu


@CONVERTING
def test_rewrite_for_the_guest_without_memory(abi: Abi) -> None:
    """rfc-v2.md Q13: nothing is rewritten, nobody is told, and the next GET widens what lies at vq 4 as if at vq 2.

    P0 lies at byte 1024 then and FFR at byte 1088, where Z[16] and Z[17] begin at vq 4.
    """
    vcpu = filled(abi)
    before = bytes(vcpu.sve_state)
    vcpu.fail_allocations()
    enter_and_leave(vcpu)
    assert (vcpu.fp_state, bytes(vcpu.sve_state)) == (FpState.HOST_OWNED, before)
    assert vcpu.get_one_reg(z(0)) == bytes([1]) * 32 + bytes(224)
    assert vcpu.fp_state is FpState.USER_OWNED
    assert [vcpu.get_one_reg(z(n))[:33] for n in (1, 2, 3, 31)] == [bytes([n]) * 32 + b"\0" for n in (1, 2, 2, 16)]
    assert [vcpu.get_one_reg(p(n)) for n in (0, 16)] == [bytes([n]) * 4 + bytes(28) for n in (17, 18)]
    assert vcpu.get_one_reg(z(2)) == before[64:96] + bytes(224)


@CONVERTING
def test_rewrite_for_the_user_without_memory(abi: Abi) -> None:
    """Q13: what lies at vq 2 is now the user's, at vq 4."""
    vcpu = filled(abi)
    enter_and_leave(vcpu)
    guest_format = bytes(vcpu.sve_state)
    vcpu.fail_allocations()
    assert vcpu.get_one_reg(z(0)) == bytes([1]) * 32 + bytes([2]) * 32 + bytes(192)
    assert (vcpu.fp_state, bytes(vcpu.sve_state)) == (FpState.USER_OWNED, guest_format)
    assert vcpu.get_one_reg(z(16))[:8] == bytes([0x80]) * 4 + bytes([0x81]) * 4
    assert vcpu.get_one_reg(p(0)) == bytes(32)
    enter_and_leave(vcpu)  # with memory again
    assert vcpu.get_one_reg(z(0)) == bytes([1]) * 32 + bytes(224)
    assert vcpu.get_one_reg(z(1)) == bytes([3]) * 32 + bytes(224)


@CONVERTING
def test_guest_runs_on_what_was_not_rewritten(abi: Abi) -> None:
    vcpu = filled(abi)
    vcpu.fail_allocations()
    with vcpu.run() as guest:
        guest.zcr = 1
        assert [guest.z[n][:1] for n in (0, 1, 2, 3)] == [b"\1", b"\1", b"\2", b"\2"]
        guest.z[1] = b"\xee" * 32
    assert vcpu.get_one_reg(z(1)) == b"\xee" * 32 + bytes(224)


@CONVERTING
def test_as_many_allocations_fail_as_were_asked_for(abi: Abi) -> None:
    """Each failing rewrite uses one up, a move without rewrite none, and asking again starts anew."""
    vcpu = filled(abi)
    vcpu.set_one_reg(SVCR, u64(1))
    vcpu.fail_allocations(2)
    enter_and_leave(vcpu)  # streaming: vq 4 is the guest's length too
    vcpu.get_one_reg(z(0))
    vcpu.set_one_reg(SVCR, u64(0))
    before = bytes(vcpu.sve_state)
    enter_and_leave(vcpu)
    vcpu.get_one_reg(z(0))
    assert bytes(vcpu.sve_state) == before
    enter_and_leave(vcpu)
    assert bytes(vcpu.sve_state) != before
    vcpu.fail_allocations(5)
    vcpu.fail_allocations(0)
    assert vcpu.get_one_reg(z(0)) == bytes([1]) * 32 + bytes(224)


def test_conversion_from_fpsimd_allocates_nothing() -> None:
    """rfc-v2.md 4.2, row h."""
    vcpu = make_vcpu((), {4})
    vcpu.fail_allocations(1)
    vcpu.set_one_reg(z(3), pattern(64))
    enter_and_leave(vcpu)
    assert vcpu.get_one_reg(z(3)) == pattern(64)[:16] + bytes(240)
    assert vcpu._regs.allocation_fails()


@pytest.mark.parametrize("revision", sorted(REVISIONS))
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_finalize_without_memory(revision: str, failing: int) -> None:
    """rfc-v2.md 2.4: ENOMEM for either buffer, the vCPU is as before, and it may be tried again."""
    abi = REVISIONS[revision]
    has_sme = abi.sme_feature is not None and abi.sme_feature < abi.max_features
    vcpu = Host(sve_vqs={1}, sme_vqs={1}, abi=abi).create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE, Feature.SME} if has_sme else {Feature.SVE})
    vcpu.fail_allocations(failing)
    for _ in range(failing):  # the first that fails ends the call
        with refused("ENOMEM"):
            vcpu.finalize(Feature.VEC)
        assert (bytes(vcpu.sve_state), bytes(vcpu.sme_state), vcpu.finalized) == (b"", b"", False)
        with refused("EPERM"):
            vcpu.get_one_reg(z(0))
    vcpu.finalize(Feature.VEC)
    assert vcpu.get_one_reg(z(0)) == bytes(256)


def test_finalize_checks_everything_before_it_allocates() -> None:
    vcpu = Host(sve_vqs={1}, sme_vqs={1}, abi=RFC_V2_R1).create_vm().create_vcpu(0)
    vcpu.init({Feature.SME})
    vcpu.fail_allocations()
    for feature, name in ((8, "EINVAL"), (4, "EIO")):
        with refused(name):
            vcpu.finalize(feature)
    assert vcpu._regs.allocation_fails()


def test_allocations_of_the_posted_revision() -> None:
    """Its vCPUs have no SME: FINALIZE makes one, and nothing is ever rewritten."""
    vcpu = Host(sve_vqs={1, 2}, sme_vqs={1, 4}, abi=RFC_V2_POSTED).create_vm().create_vcpu(0)
    vcpu.init({Feature.SVE})
    vcpu.fail_allocations(1)
    with refused("ENOMEM"):
        vcpu.finalize(Feature.VEC)
    vcpu.finalize(Feature.VEC)
    vcpu.fail_allocations(9)
    vcpu.set_one_reg(z(5), pattern(32))
    enter_and_leave(vcpu)
    assert vcpu.get_one_reg(z(5)) == pattern(32) + bytes(224)
