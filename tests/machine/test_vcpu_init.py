"""From CREATE to FINALIZE: the rules of rfc-v2.md sections 2.1 to 2.4 as examples."""

from dataclasses import replace

import pytest
from examples import (
    PSCI,
    PSTATE,
    SME,
    SME_VLS,
    SVCR,
    SVE,
    SVE_VLS,
    VEC,
    X0,
    a_host,
    bitmap,
    make_vcpu,
    pattern,
    refused,
    words,
    z,
)

from kvmsve import (
    MAINLINE_6_1,
    MAINLINE_6_12,
    MAINLINE_7_3,
    RFC_V2,
    RFC_V2_POSTED,
    RFC_V2_R1,
    V4,
    V10,
    Feature,
    FpState,
    Host,
)
from kvmsve.facts import regid
from kvmsve.facts.features import feature_words

VCPU_SVE, VCPU_SME, HAS_EL2 = 1 << 4, 1 << 8, 1 << 7

# Hosts


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({"sve_vqs": {2}}, "a CPU with SVE has the length vq 1"),
        ({"sve_vqs": {0, 1}}, "no CPU has the SVE length vq 0: there are 1, 2, .*, 16"),
        ({"sve_vqs": {1, -1}}, "no CPU has the SVE length vq -1"),
        ({"sve_vqs": {1, 18, 17}}, "no CPU has the SVE length vq 17"),
        ({"sme_vqs": {3}}, "no CPU has the SME length vq 3: there are 1, 2, 4, 8, 16"),
        ({"sme_vqs": {1, 32}}, "no CPU has the SME length vq 32"),
        ({"sme_vqs": {0}}, "no CPU has the SME length vq 0"),
    ],
)
def test_a_machine_that_cannot_be(machine, reason):
    with pytest.raises(ValueError, match=reason):
        Host(**machine)


def test_what_is_no_length_and_no_revision():
    with pytest.raises(TypeError, match="an SVE length is a whole number"):
        Host(sve_vqs={1.5})
    with pytest.raises(TypeError, match="abi is a revision such as kvmsve"):
        Host(abi="v12")


def test_a_host_has_what_it_is_said_to_have():
    host = Host(sve_vqs={1}, sme_vqs={1}, abi=V10)
    assert (host.sme2, host.fa64, host.fpmr, host.big_endian) == (False, False, False, False)
    assert (host.cpu.sme2, host.cpu.fa64, host.cpu.fpmr) == (False, False, False)


def test_capabilities():
    caps = (70, 170, 231, 1)
    assert [a_host().check_extension(cap) for cap in caps] == [1, 1, 1, 0]
    assert [a_host(sve_vqs=(), sme_vqs=()).create_vm().check_extension(cap) for cap in caps] == [1, 0, 0, 0]
    assert [a_host(RFC_V2_POSTED).check_extension(cap) for cap in caps] == [1, 1, 1, 0]
    assert [a_host(MAINLINE_7_3).check_extension(cap) for cap in caps] == [1, 1, 0, 0]
    assert [a_host().check_extension(cap) for cap in (0, (1 << 64) - 1)] == [0, 0]
    for cap in (-1, 1 << 64):
        with pytest.raises(ValueError, match="a capability is a number"):
            a_host().check_extension(cap)


# 2.1 Creation


@pytest.mark.parametrize(
    ("machine", "state"),
    [
        ({}, FpState.USER_OWNED),
        ({"sme_vqs": ()}, FpState.FREE),
        ({"sve_vqs": ()}, FpState.FREE),
        ({"abi": RFC_V2_POSTED}, FpState.USER_OWNED),
        ({"abi": MAINLINE_7_3}, FpState.FREE),
    ],
)
def test_a_new_vcpu_is_owned_by_what_its_host_has(machine, state):
    vcpu = a_host(**machine).create_vm().create_vcpu(0)
    assert (vcpu.fp_state, bytes(vcpu.sve_state), bytes(vcpu.sme_state), vcpu.svcr) == (state, b"", b"", 0)
    assert bytes(vcpu.vregs) == bytes(512)
    assert vcpu.feature_words == (0,) * 7


def test_vcpu_numbers():
    vm = a_host().create_vm()
    vm.create_vcpu(511)
    with refused("EEXIST"):
        vm.create_vcpu(511)
    for index in (-1, 512, -(1 << 31), (1 << 31) - 1, 1 << 32, 1 << 32 | 1, (1 << 64) - 1):
        with refused("EINVAL"):
            vm.create_vcpu(index)
    for index in (-(1 << 31) - 1, 1 << 64):
        with pytest.raises(ValueError, match="a vCPU's index is a number"):
            vm.create_vcpu(index)


# 2.2 INIT


@pytest.mark.parametrize(
    ("abi", "features", "target", "name"),
    [
        (RFC_V2, words(0, 1), 0, "EINVAL"),  # target before unknown bits
        (RFC_V2, words(1 << 31 | 1 << 5), 5, "ENOENT"),  # unknown bit before one not offered
        (RFC_V2, words(1 << 5, 0, 0, 0, 0, 0, 1), 5, "ENOENT"),  # and so the words that follow
        (RFC_V2, words(1 << 5), 5, "EINVAL"),
        (RFC_V2, words(1 << 9), 5, "ENOENT"),
        (RFC_V2_POSTED, words(VCPU_SME), 5, "ENOENT"),  # Q1
        (RFC_V2_POSTED, words(HAS_EL2), 5, "EINVAL"),  # Q2
        (MAINLINE_6_1, words(HAS_EL2), 5, "ENOENT"),
        (MAINLINE_7_3, words(1 << 9), 5, "EINVAL"),
        (MAINLINE_7_3, words(1 << 10), 5, "ENOENT"),
    ],
)
def test_init_refuses_in_order(abi, features, target, name):
    vcpu = a_host(abi).create_vm().create_vcpu(0)
    with refused(name):
        vcpu.init(features, target)
    for reg_id in (X0, 0):  # before EINVAL for an ID of no architecture
        with refused("ENOEXEC"):
            vcpu.get_one_reg(reg_id)


def test_unknown_features_are_found_before_a_change_of_features():
    vcpu = make_vcpu({1})
    with refused("ENOENT"):
        vcpu.init(words(0, 1))


def test_init_names_a_feature_that_the_host_lacks():
    for features, number in ((1 << 5 | 1 << 2, 5), (3 << 5 | 1 << 4, 6)):
        with refused("EINVAL") as caught:
            a_host().create_vm().create_vcpu(0).init(words(features))
        assert caught.value.strerror.endswith(f"feature {number}")


def test_a_feature_that_is_offered_without_its_hardware():
    vcpu = a_host(sve_vqs=(), sme_vqs=(), features_offered={4, 8}).create_vm().create_vcpu(0)
    vcpu.init({SVE, SME})
    assert (vcpu.lengths, vcpu.feature_words) == ((0, 0), tuple(words(VCPU_SVE | VCPU_SME)))


@pytest.mark.parametrize(
    ("features", "accepted"),
    [
        (1 << 5, False),  # the two pointer authentication bits come together
        (1 << 6, False),
        (3 << 5, True),
        (HAS_EL2, True),
        (HAS_EL2 | VCPU_SVE, False),
        (HAS_EL2 | VCPU_SME, True),  # Q2
        (HAS_EL2 | 1 << 1, False),
        (VCPU_SVE | VCPU_SME | 1 << 1, True),
    ],
)
def test_init_refuses_combinations(features, accepted):
    vcpu = a_host(features_offered=range(9)).create_vm().create_vcpu(0)
    if accepted:
        vcpu.init(words(features))
    else:
        with refused("EINVAL"):
            vcpu.init(words(features))


def test_sme_on_a_host_without():
    """Q3: it is accepted, and the vCPU has none; R1 refuses it."""
    vcpu = a_host(RFC_V2_R1, sme_vqs=()).create_vm().create_vcpu(0)
    vcpu.init({SME})
    with refused("ENOENT"):
        vcpu.get_one_reg(SVCR)
    with refused("EINVAL"):
        vcpu.finalize(VEC)
    with refused("EINVAL"):
        a_host(RFC_V2, sme_vqs=()).create_vm().create_vcpu(0).init({SME})


def test_features_of_one_vm():
    """All vCPUs of a VM have the same, but for POWER_OFF; in 6.1 only the register width is common."""
    for abi in (RFC_V2, RFC_V2_POSTED, MAINLINE_6_12):
        vm = a_host(abi).create_vm()
        vm.create_vcpu(0).init({SVE, Feature.POWER_OFF})
        other = vm.create_vcpu(1)
        for features in (set(), {SVE, PSCI}):
            with refused("EINVAL"):
                other.init(features)
        other.init({SVE})
    vm = a_host(MAINLINE_6_1).create_vm()
    vm.create_vcpu(0).init({SVE})
    vm.create_vcpu(1).init({PSCI})
    with refused("EINVAL"):
        vm.create_vcpu(2).init({Feature.EL1_32BIT})


def test_a_refused_init_changes_nothing():
    for abi in (RFC_V2, MAINLINE_6_1):
        vcpu = make_vcpu({1, 2}, abi=abi)
        vcpu.set_one_reg(z(1), pattern(256))
        for features in (set(), {SVE, PSCI}):
            with refused("EINVAL"):
                vcpu.init(features)
        assert vcpu.get_one_reg(z(1)) == pattern(32) + bytes(224)


def test_three_ways_to_write_features():
    for features in ({SVE, SME}, {4, 8}, {SVE, 8}, words(0x110), frozenset({VEC, SME})):
        vcpu = a_host().create_vm().create_vcpu(0)
        vcpu.init(features)
        assert vcpu.lengths == (2, 4)
    vcpu.init(words(0x111))
    assert (Feature.SVE.bit(RFC_V2), Feature.SME.bit(RFC_V2)) == (4, 8)


def test_the_words_of_a_feature():
    """struct kvm_vcpu_init: bit n is bit n % 32 of word n // 32."""
    for number in range(7 * 32):
        assert sum(word << 32 * at for at, word in enumerate(feature_words({number}, RFC_V2))) == 1 << number


def test_features_that_are_none():
    vcpu = a_host().create_vm().create_vcpu(0)
    for features in ([0], words(1 << 32), words(-1), {224}, {-1}):
        with pytest.raises(ValueError, match="feature"):
            vcpu.init(features)
    with pytest.raises(ValueError, match="no SME"):
        a_host(MAINLINE_7_3).create_vm().create_vcpu(0).init({SME})
    with refused("ENOENT"):
        vcpu.init({223})


# 2.3 VLS


def test_sets_of_lengths():
    vcpu = a_host(sme_vqs={1, 2, 4, 8}).create_vm().create_vcpu(0)
    vcpu.init({SVE, SME})
    assert vcpu.get_one_reg(SME_VLS) == b"\x8b" + bytes(63)
    for vqs in ((1, 2, 4), (1, 2), (1,), (1, 2, 4, 8)):
        vcpu.set_one_reg(SME_VLS, bitmap(*vqs))
        assert vcpu.get_one_reg(SME_VLS) == bitmap(*vqs)
    for vqs in ((1, 4), (1, 2, 3), (), (2,), (1, 2, 4, 8, 16), (1, 2, 4, 65), (1, 512)):
        with refused("EINVAL"):
            vcpu.set_one_reg(SME_VLS, bitmap(*vqs))
    assert (vcpu.get_one_reg(SME_VLS), vcpu.get_one_reg(SVE_VLS)) == (bitmap(1, 2, 4, 8), bitmap(1, 2))


def test_lengths_are_of_one_vcpu_and_final_with_finalize():
    vm = a_host().create_vm()
    first, other = vm.create_vcpu(0), vm.create_vcpu(1)
    for vcpu in (first, other):
        vcpu.init({SVE, SME})
    first.set_one_reg(SVE_VLS, bitmap(1))
    first.finalize(VEC)
    for data in (bitmap(1), bitmap(3), b""):  # EPERM before EINVAL and EFAULT
        with refused("EPERM"):
            first.set_one_reg(SVE_VLS, data)
    assert [vcpu.get_one_reg(SVE_VLS) for vcpu in (first, other)] == [bitmap(1), bitmap(1, 2)]


def test_lengths_and_a_second_init():
    """Before FINALIZE it discards them, afterwards it does not."""
    vcpu = a_host().create_vm().create_vcpu(0)
    vcpu.init({SVE, SME})
    vcpu.set_one_reg(SME_VLS, bitmap(1))
    vcpu.init({SVE, SME})
    assert (vcpu.get_one_reg(SME_VLS), vcpu.max_vq) == (bitmap(1, 2, 4), 4)
    vcpu.set_one_reg(SME_VLS, bitmap(1, 2))
    vcpu.finalize(VEC)
    vcpu.init({SVE, SME})
    assert (vcpu.get_one_reg(SME_VLS), vcpu.max_vq, len(vcpu.sve_state)) == (bitmap(1, 2), 2, 1092)


def test_lengths_of_a_feature_that_the_vcpu_lacks():
    vcpu = make_vcpu({1, 2})
    with refused("ENOENT"):
        vcpu.get_one_reg(SME_VLS)
    with refused("ENOENT"):  # before EPERM and EFAULT
        vcpu.set_one_reg(SME_VLS, b"")


def test_a_refused_set_of_lengths_names_the_register_of_the_revision():
    moved = SME_VLS - 2
    vcpu = a_host(replace(RFC_V2, sme_vls=moved)).create_vm().create_vcpu(0)
    vcpu.init({SVE, SME})
    for reg_id, name in ((SVE_VLS, "SVE_VLS"), (moved, "SME_VLS")):
        with refused("EINVAL") as caught:
            vcpu.set_one_reg(reg_id, bitmap(3))
        assert caught.value.strerror.startswith(f"{name}: ")


# 2.4 FINALIZE


def test_finalize_refuses_in_order():
    vcpu = a_host().create_vm().create_vcpu(0)
    for feature in (VEC, SME):
        with refused("ENOEXEC"):
            vcpu.finalize(feature)
    vcpu.init({SVE, SME})
    for feature in (SME, 8, 0, -1):
        with refused("EINVAL"):
            vcpu.finalize(feature)
    vcpu.finalize(SVE)
    with refused("EINVAL"):
        vcpu.finalize(SME)
    with refused("EPERM"):
        vcpu.finalize(VEC)
    with refused("EINVAL"):
        make_vcpu().finalize(VEC)
    for feature in (-(1 << 31) - 1, 1 << 31):
        with pytest.raises(ValueError, match="a feature is a number"):
            vcpu.finalize(feature)
    for feature in (-(1 << 31), (1 << 31) - 1):
        with refused("EINVAL"):
            vcpu.finalize(feature)


@pytest.mark.parametrize("features", [{SVE}, {SME}, {SVE, SME}])
def test_finalize_without_memory(features):
    vcpu = a_host().create_vm().create_vcpu(0)
    vcpu.init(features)
    vcpu.fail_allocations()
    with refused("ENOMEM"):
        vcpu.finalize(VEC)
    assert (vcpu.finalized, bytes(vcpu.sve_state), bytes(vcpu.sme_state)) == (False, b"", b"")
    vcpu.finalize(VEC)
    assert vcpu.finalized


@pytest.mark.parametrize(
    ("sve_vqs", "sme_vqs", "sme2", "sizes"),
    [
        ({1}, (), False, (546, 0)),
        ({1, 2}, {4}, False, (2184, 4096)),
        ({1, 2}, {4}, True, (2184, 4608)),  # Q25
        ((), {1}, True, (546, 768)),
        (range(1, 17), {1}, False, (8736, 256)),
    ],
)
def test_finalize_allocates_zeroes(sve_vqs, sme_vqs, sme2, sizes):
    vcpu = make_vcpu(sve_vqs, sme_vqs, sme2=sme2)
    assert (bytes(vcpu.sve_state), bytes(vcpu.sme_state)) == (bytes(sizes[0]), bytes(sizes[1]))
    assert vcpu.finalized


def test_sme_without_sve_cannot_be_finalized_before_r2():
    """Q4: EIO, and then KVM_RUN is refused forever."""
    vcpu = a_host(RFC_V2_R1).create_vm().create_vcpu(0)
    vcpu.init({SME})
    for _ in range(2):
        with refused("EIO"):
            vcpu.finalize(VEC)
        with refused("EPERM"):
            vcpu.run()


@pytest.mark.parametrize(("abi", "left"), [(V4, b"\x11" * 64), (V10, bytes(64))])
def test_a_second_init_of_sme_alone_zeroes_z_since_v10(abi, left):
    vcpu = Host(sme_vqs=[4], abi=abi, sme2=True).create_vm().create_vcpu(0)
    vcpu.init({SME})
    vcpu.finalize(VEC)
    with vcpu.run() as guest:
        guest.smstart(sm=True)
        guest.z[0] = b"\x11" * 64
    vcpu.init({SME})
    assert vcpu.sve_state[:64] == left


@pytest.mark.parametrize(
    ("features", "pstate"),
    [(set(), 0x3C5), ({Feature.EL1_32BIT}, 0x1D3), ({Feature.HAS_EL2}, 0x3C9)],
)
def test_a_reset_masks_interrupts_in_the_highest_mode_of_the_vcpu(features, pstate):
    """kvm_reset_vcpu(): VCPU_RESET_PSTATE_EL1, _SVC, _EL2."""
    host = Host(abi=MAINLINE_7_3, features_offered=range(10))
    vcpu = host.create_vm().create_vcpu(0)
    for _ in range(2):
        vcpu.init(features)
        assert int.from_bytes(vcpu.get_one_reg(PSTATE), "little") == pstate
        vcpu.set_one_reg(PSTATE, bytes(8))


@pytest.mark.parametrize(
    ("index", "affinity"), [(0, 0), (1, 1), (15, 15), (16, 0x100), (255, 0xF0F), (256, 0x1000), (511, 0x1F0F)]
)
def test_a_vcpu_has_the_affinity_of_its_index(index, affinity):
    """reset_mpidr(): Aff0 counts to 16, the rest goes to Aff1; bit 31 is RES1."""
    vcpu = Host().create_vm().create_vcpu(index)
    vcpu.init(set())
    assert int.from_bytes(vcpu.get_one_reg(regid.MPIDR_EL1), "little") == 1 << 31 | affinity
