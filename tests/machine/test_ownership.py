"""Who owns the FP state, and what moves: the decision table of rfc-v2.md 4.2, both ways, over real buffers."""

import random

import model
import pytest

from kvmsve import HostOops
from kvmsve.facts.abi import UserFormat
from kvmsve.machine.ownership import FpState, Ownership
from kvmsve.machine.regfile import RegFile
from kvmsve.rules.views import VectorLengths, guest_vq, user_format_needed

SVCR = 0x6030_0000_0013_DA12
FREE, HOST, GUEST, USER = FpState.FREE, FpState.HOST_OWNED, FpState.GUEST_OWNED, FpState.USER_OWNED
NEVER, POSTED, REPAIRED = UserFormat.NEVER, UserFormat.HOST_HAS_SME, UserFormat.VCPU_HAS_SME
SVCRS = {0: (0, 2, ~1 & (1 << 64) - 1), 1: (1, 3, (1 << 64) - 1)}  # by SM: only bit 0 counts
SME_VQS = (1, 2, 4, 8, 16)


def rows_where(relation) -> list[tuple[int, int]]:
    return [(s, m) for s in (1, 2, 3, 4, 8, 15, 16) for m in SME_VQS if relation(s, m)]


def vcpu(
    s: int, m: int, svcr: int = 0, *, label, rule=REPAIRED, host_sme=True, swap=False
) -> tuple[Ownership, RegFile]:
    """A finalized vCPU of these lengths with random bytes everywhere."""
    rng = random.Random(s << 8 | m)
    regs = RegFile(swap)
    owner = Ownership(regs, rule, host_has_sve=True, host_has_sme=host_sme)
    owner.lengths = VectorLengths(s, m)
    owner.state = label
    regs.allocate(max(s, m), 256 * m * m)
    regs.sysregs[SVCR] = svcr
    for buffer in (regs.sve_state, regs.sme_state, regs.kvm_regs):
        buffer.view[:] = rng.randbytes(buffer.size)
    return owner, regs


def bytes_of(regs: RegFile) -> tuple[int, bytes, bytes]:
    """sve_state as an int, V, and what no conversion may touch."""
    core = bytes(regs.kvm_regs.view)
    return (
        int.from_bytes(regs.sve_state.view, "little"),
        core[336:848],
        core[:336] + core[848:] + regs.sme_state.view[:],
    )


def check(act, start, end, change, *lengths_and_svcr, **kind):
    """The label goes from start to end, sve_state and V as `change` says, and a second time nothing happens."""
    owner, regs = vcpu(*lengths_and_svcr, label=start, **kind)
    sve, v, rest = bytes_of(regs)
    for _ in range(2):
        act(owner)
        assert owner.state is end
        assert bytes_of(regs) == (*(change or stay)(sve, v), rest)


def stay(sve, v):
    return sve, v


def relayout(old, new):
    return lambda sve, v: (model.relayout(model.extract(sve, 0, 546 * old), old, new), v)


def z_to_v(q, order):
    """V is the low 16 bytes of each Z at length q; sve_state keeps what it has."""
    return lambda sve, v: (sve, b"".join(model.extract(sve, 16 * q * n, 16).to_bytes(16, order) for n in range(32)))


def v_to_z(q, order):
    """Z is V at length q, and all else zero; V keeps what it has."""
    return lambda sve, v: (sum(int.from_bytes(v[16 * n :][:16], order) << 128 * q * n for n in range(32)), v)


def both_ways(*lengths_and_svcr, user_to_guest=None, guest_to_user=None, user=USER, **kind):
    """Loads and first GETs from every label; `user` is the label that a GET leaves, None for the one there was."""
    check(Ownership.load, USER, HOST, user_to_guest, *lengths_and_svcr, **kind)
    check(Ownership.user_to_guest, USER, FREE, user_to_guest, *lengths_and_svcr, **kind)
    check(Ownership.guest_to_user, USER, USER, None, *lengths_and_svcr, **kind)
    for start in (FREE, HOST, GUEST):
        check(Ownership.load, start, HOST, None, *lengths_and_svcr, **kind)
        check(Ownership.user_to_guest, start, start, None, *lengths_and_svcr, **kind)
        check(Ownership.guest_to_user, start, user or start, guest_to_user, *lengths_and_svcr, **kind)


@pytest.mark.parametrize("rule", [NEVER, POSTED, REPAIRED])
def test_row_a_sve_on_a_host_without_sme(rule):
    for s in range(1, 17):
        both_ways(s, 0, rule=rule, host_sme=False, user=None)


def test_row_b_sve_on_a_host_with_sme():
    """As posted the label moves and no byte does; with R3 the label stays too."""
    for s in range(1, 17):
        both_ways(s, 0, rule=POSTED)
        both_ways(s, 0, rule=REPAIRED, user=None)


@pytest.mark.parametrize("rule", [POSTED, REPAIRED])
@pytest.mark.parametrize("vq", SME_VQS)
def test_row_c_equal_lengths(rule, vq):
    for svcr in (*SVCRS[0], *SVCRS[1]):
        both_ways(vq, vq, svcr, rule=rule, user=None)


@pytest.mark.parametrize("rule", [POSTED, REPAIRED])
@pytest.mark.parametrize(("s", "m"), rows_where(lambda s, m: s < m))
def test_rows_d_and_e_the_streaming_length_is_larger(s, m, rule):
    for svcr in SVCRS[0]:
        both_ways(s, m, svcr, rule=rule, user_to_guest=relayout(m, s), guest_to_user=relayout(s, m))
    for svcr in SVCRS[1]:
        both_ways(s, m, svcr, rule=rule)


@pytest.mark.parametrize("rule", [POSTED, REPAIRED])
@pytest.mark.parametrize(("s", "m"), rows_where(lambda s, m: s > m))
def test_rows_f_and_g_the_sve_length_is_larger(s, m, rule):
    for svcr in SVCRS[0]:
        both_ways(s, m, svcr, rule=rule)
    for svcr in SVCRS[1]:
        both_ways(s, m, svcr, rule=rule, user_to_guest=relayout(s, m), guest_to_user=relayout(m, s))


@pytest.mark.parametrize(("swap", "order"), [(False, "little"), (True, "big")])
@pytest.mark.parametrize("m", SME_VQS)
def test_rows_h_and_i_sme_without_sve(m, swap, order):
    for svcr in SVCRS[0]:
        both_ways(0, m, svcr, user_to_guest=z_to_v(m, order), guest_to_user=v_to_z(m, order), swap=swap)
    for svcr in SVCRS[1]:
        both_ways(0, m, svcr, swap=swap)


def test_row_j_a_plain_vcpu_on_a_host_with_both():
    def plain(rule):
        regs = RegFile()
        regs.sysregs[SVCR] = 0
        owner = Ownership(regs, rule, host_has_sve=True, host_has_sme=True)
        assert owner.state is USER
        return owner

    with pytest.raises(HostOops):
        plain(POSTED).load()
    repaired = plain(REPAIRED)
    repaired.load()
    assert repaired.state is HOST


@pytest.mark.parametrize("rule", [POSTED, REPAIRED])
@pytest.mark.parametrize(("host_sve", "host_sme"), [(False, False), (True, False), (False, True)])
def test_row_k_a_plain_vcpu_on_any_other_host(rule, host_sve, host_sme):
    owner = Ownership(RegFile(), rule, host_sve, host_sme)
    assert owner.state is FREE
    owner.load()
    assert owner.state is HOST


@pytest.mark.parametrize("rule", UserFormat)
def test_the_label_of_a_new_vcpu(rule):
    """USER_OWNED where the host has both features (4.3); mainline has no such label."""
    labels = [Ownership(RegFile(), rule, sve, sme).state for sve, sme in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert labels == [FREE, FREE, FREE, FREE if rule is NEVER else USER]


@pytest.mark.parametrize(("s", "m"), [(0, 0), (4, 0), (0, 4), (2, 4), (4, 2), (4, 4)])
def test_mainline_never_converts(s, m):
    for svcr in (0, 1, 3):
        both_ways(s, m, svcr, rule=NEVER, user=None)


def test_when_the_formats_can_differ():
    """need = H && !(S && s == m) as posted; R3 asks for M instead of H."""
    for s in range(17):
        for m in (0, *SME_VQS):
            same = s > 0 and s == m
            for host_sme in (False, True):
                needs = [user_format_needed(rule, host_sme, VectorLengths(s, m)) for rule in (NEVER, POSTED, REPAIRED)]
                assert needs == [False, host_sme and not same, m > 0 and not same]


def test_the_guests_length():
    for s in range(17):
        for m in SME_VQS:
            assert {guest_vq(VectorLengths(s, m), svcr) for svcr in SVCRS[0]} == {s}
            assert {guest_vq(VectorLengths(s, m), svcr) for svcr in SVCRS[1]} == {m}


def test_the_labels_are_the_kernels():
    assert [(label.name, label.value) for label in FpState] == [
        ("FREE", 0), ("HOST_OWNED", 1), ("GUEST_OWNED", 2), ("USER_OWNED", 3),
    ]  # fmt: skip
