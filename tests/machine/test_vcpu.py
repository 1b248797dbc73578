"""A vCPU in use: the rules of rfc-v2.md sections 2.5 to 2.8 as examples."""

import pytest
from examples import (
    FFR,
    FPSR,
    PFR0,
    PSCI,
    SMCR,
    SME,
    SVCR,
    SVE,
    TPIDR2,
    VEC,
    X0,
    ZCR,
    a_host,
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

from kvmsve import RFC_V2, RFC_V2_POSTED, RFC_V2_R1, RFC_V2_R123, FpState, Host, HostOops, KvmError

# 2.5 Before and after FINALIZE


def test_before_finalize():
    vcpu = a_host().create_vm().create_vcpu(0)
    vcpu.init({SVE, SME})
    for reg_id in (z(0), p(15), FFR, za(0)):
        with refused("EPERM"):
            vcpu.get_one_reg(reg_id)
        with refused("EPERM"):
            vcpu.set_one_reg(reg_id, b"")
    with refused("EINVAL"):
        vcpu.get_one_reg(v(0))
    with refused("ENOENT"):
        vcpu.get_one_reg(z(0) | 1)
    for reg_id, size in ((X0, 8), (FPSR, 4), (SVCR, 8), (ZCR, 8), (SMCR, 8), (TPIDR2, 8)):
        vcpu.set_one_reg(reg_id, pattern(size))
        assert vcpu.get_one_reg(reg_id) == pattern(size)


def test_a_plain_vcpu_needs_no_finalize():
    vcpu = make_vcpu()
    vcpu.set_one_reg(v(31), pattern(16))
    enter_and_leave(vcpu)
    assert bytes(vcpu.vregs) == bytes(496) + pattern(16)


# 2.6 Reset


def test_reset():
    vcpu = make_vcpu({1, 2}, {1}, sme2=True)
    for reg_id, size in ((z(3), 32), (p(3), 4), (FFR, 4), (za(3), 16), (X0, 8), (FPSR, 4), (ZCR, 8), (TPIDR2, 8)):
        vcpu.set_one_reg(reg_id, pattern(size))
    vcpu.set_one_reg(SVCR, u64(3))
    enter_and_leave(vcpu)
    vcpu.init({SVE, SME})
    assert (bytes(vcpu.sve_state), bytes(vcpu.sme_state), bytes(vcpu.vregs)) == (bytes(1092), bytes(768), bytes(512))
    assert [vcpu.get_one_reg(reg_id) for reg_id in (X0, ZCR, SVCR, FPSR)] == [bytes(8), bytes(8), bytes(8), bytes(4)]
    assert vcpu.get_one_reg(TPIDR2) == bytes.fromhex("dec0addb7eece71d")
    assert vcpu.fp_state is FpState.HOST_OWNED


@pytest.mark.parametrize(("abi", "survives"), [(RFC_V2_R123, True), (RFC_V2, False)])
def test_reset_of_a_vcpu_with_sme_only(abi, survives):
    """Q12: its sve_state is not cleared; R4 repairs that."""
    vcpu = make_vcpu((), {2}, abi=abi)
    vcpu.set_one_reg(z(0), pattern(32))
    vcpu.init({SME})
    assert vcpu.get_one_reg(z(0))[:32] == (pattern(32) if survives else bytes(32))


# 2.7 REG_LIST


@pytest.mark.parametrize(
    ("sve_vqs", "sme_vqs", "count"), [((), (), 259), ({1}, (), 278), ({1}, {1}, 282), ((), {1}, 231)]
)
def test_length_of_the_list(sve_vqs, sme_vqs, count):
    vcpu = make_vcpu(sve_vqs, sme_vqs)
    assert len(vcpu.get_reg_list()) == len(vcpu.get_reg_list(count)) == len(set(vcpu.get_reg_list(1000))) == count
    for room in (0, count - 1):
        with refused("E2BIG") as caught:
            vcpu.get_reg_list(room)
        assert caught.value.n == count


def test_room_that_no_number_can_give():
    vcpu = make_vcpu({1})
    assert len(vcpu.get_reg_list((1 << 64) - 1)) == 278
    for room in (-1, 1 << 64):
        with pytest.raises(ValueError, match="n is a number from 0"):
            vcpu.get_reg_list(room)


def test_numbers_that_no_argument_of_the_kernel_holds():
    """A capability has 64 bits and a target 32; within them the kernel refuses what it does not know."""
    vm = a_host().create_vm()
    vcpu = vm.create_vcpu(0)
    for attempt, size in ((vm.enable_cap, 64), (lambda target: vcpu.init(set(), target), 32)):
        with refused("EINVAL"):
            attempt((1 << size) - 1)
        for number in (-1, 1 << size):
            with pytest.raises(ValueError, match="is a number from 0 to"):
                attempt(number)
    vcpu.fail_allocations(0)
    vcpu.fail_allocations((1 << 31) - 1)
    for number in (-1, 1 << 31):
        with pytest.raises(ValueError, match="is a number from 0 to"):
            vcpu.fail_allocations(number)


@pytest.mark.parametrize(("number", "what"), [(1 << 63, "number"), (-1 - (1 << 63), "number"), ((1 << 63) - 1, "CPU")])
def test_lengths_that_no_number_of_the_kernel_holds(number, what):
    with pytest.raises(ValueError, match="is a number from" if what == "number" else "^(?!.*is a number from)"):
        Host(sve_vqs={1, number})


@pytest.mark.parametrize("values", [{1 << 64: 0}, {-1: 0}, {0x6020000000110000: 1 << 32}, {SVCR: 1 << 64}])
def test_id_registers_that_no_register_holds(values):
    with pytest.raises(ValueError, match="is a number from 0 to"):
        Host(sve_vqs={1}, id_regs=values)
    Host(sve_vqs={1}, id_regs={0: 0})


def test_the_list_is_refused_in_order():
    vcpu = a_host().create_vm().create_vcpu(0)
    with refused("ENOEXEC"):
        vcpu.get_reg_list(0)
    vcpu.init({SVE})
    with refused("EPERM") as caught:
        vcpu.get_reg_list(0)
    assert caught.value.n is None


def test_the_list_is_the_callers():
    vcpu = make_vcpu({1})
    vcpu.get_reg_list().clear()
    assert len(vcpu.get_reg_list()) == 278


# 2.8 RUN


def test_run_is_refused_in_order():
    vcpu = a_host().create_vm().create_vcpu(0)
    with refused("ENOEXEC"):
        vcpu.run(immediate_exit=True)
    vcpu.init({SVE, SME})
    with refused("EPERM"):
        vcpu.run(immediate_exit=True)
    assert vcpu.fp_state is FpState.USER_OWNED
    vcpu.finalize(VEC)
    with refused("EINTR"):
        vcpu.run(immediate_exit=True)
    assert vcpu.fp_state is FpState.HOST_OWNED


def test_a_refused_run_does_not_fix_the_id_registers():
    vcpu = a_host().create_vm().create_vcpu(0)
    vcpu.init({SVE})
    with refused("EPERM"):
        vcpu.run()
    with refused("EINVAL"):
        vcpu.set_one_reg(PFR0, u64(0))
    vcpu.finalize(VEC)
    enter_and_leave(vcpu)
    with refused("EBUSY"):
        vcpu.set_one_reg(PFR0, u64(0))


@pytest.mark.parametrize("abi", [RFC_V2_POSTED, RFC_V2_R1, RFC_V2_R123, RFC_V2])
def test_a_plain_vcpu_crashes_the_host_before_r3(abi):
    """Q6: on a host with both SVE and SME."""
    vcpu = a_host(abi).create_vm().create_vcpu(0)
    vcpu.init({PSCI})
    if abi in (RFC_V2_POSTED, RFC_V2_R1):
        with pytest.raises(HostOops, match="Q6"):
            vcpu.run()
    else:
        enter_and_leave(vcpu)
    for machine in ({"sve_vqs": ()}, {"sme_vqs": ()}):
        lucky = a_host(abi, **machine).create_vm().create_vcpu(0)
        lucky.init({PSCI})
        enter_and_leave(lucky)


def test_one_ioctl_at_a_time():
    vm = a_host().create_vm()
    vcpu, other = vm.create_vcpu(0), vm.create_vcpu(1)
    for each in (vcpu, other):
        each.init({SVE, SME})
        each.finalize(VEC)
    with vcpu.run():
        for call in (
            lambda: vcpu.init({SVE, SME}),
            lambda: vcpu.finalize(VEC),
            lambda: vcpu.get_one_reg(z(0)),
            lambda: vcpu.get_one_reg(X0),
            lambda: vcpu.get_one_reg_into(z(0), bytearray(256)),
            lambda: vcpu.set_one_reg(z(0), bytes(256)),
            lambda: vcpu.set_one_reg(SVCR, bytes(8)),
            vcpu.get_reg_list,
            vcpu.run,
        ):
            with pytest.raises(RuntimeError, match="KVM_RUN"):
                call()
        other.set_one_reg(z(0), pattern(256))
        assert vcpu.fp_state is FpState.HOST_OWNED
    vcpu.set_one_reg(z(0), pattern(256))
    assert vcpu.get_one_reg(z(0)) == other.get_one_reg(z(0)) == pattern(64) + bytes(192)


def test_a_run_ends_with_the_next_ioctl():
    vcpu = make_vcpu({1})
    run = vcpu.run()
    vcpu.set_one_reg(z(0), pattern(16))
    with pytest.raises(RuntimeError, match="has ended"), run:
        pass
    run = vcpu.run()
    with run, pytest.raises(RuntimeError, match="has ended"), run:
        pass
    with pytest.raises(RuntimeError, match="has ended"), run:
        pass
    assert vcpu.get_one_reg(z(0)) == pattern(16) + bytes(240)


def test_views_cannot_be_written():
    vcpu = make_vcpu({1}, {1})
    for view in (vcpu.sve_state, vcpu.sme_state, vcpu.vregs):
        with pytest.raises(TypeError):
            view[0] = 1


def test_the_exception_is_an_oserror():
    with pytest.raises(OSError, match="not initialised") as caught:
        a_host().create_vm().create_vcpu(0).get_one_reg(X0)
    assert isinstance(caught.value, KvmError)
    assert (caught.value.errno, caught.value.n) == (8, None)
