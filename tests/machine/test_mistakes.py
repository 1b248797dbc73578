"""What is written by mistake is told at once, with the right way: attributes, values, arguments, hosts."""

import pytest
from examples import SME, SVE, VEC, a_host, make_vcpu, pattern

from kvmsve import Host, regid


@pytest.fixture
def vcpu():
    return make_vcpu({1, 2}, {1, 2, 4}, sme2=True, fa64=True)


def assigned(obj, name, value=1):
    """The complaint about an assignment."""
    with pytest.raises(AttributeError) as caught:
        setattr(obj, name, value)
    return str(caught.value)


def read(obj, name):
    """The complaint about a read."""
    with pytest.raises(AttributeError) as caught:
        getattr(obj, name)
    return str(caught.value)


# Attributes


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("z0", "a guest has no z0: guest.z[0]"),
        ("p15", "a guest has no p15: guest.p[15]"),
        ("za3", "a guest has no za3: guest.za[3]"),
        ("zz", "a guest has no zz"),
        ("smrc", "a guest has no smrc: did you mean smcr?"),
        ("zcr_el1", "a guest has no zcr_el1: guest.zcr"),
        ("fpcr_el0", "a guest has no fpcr_el0: guest.fpcr"),
        ("q7", "a guest has no q7: it is the low bytes of guest.v[7]"),
        ("x0", "a guest has no x0: a guest here has vector state alone"),
    ],
)
def test_an_attribute_that_a_guest_does_not_have(vcpu, name, complaint):
    with vcpu.run() as guest:
        assert assigned(guest, name).startswith(complaint)
        assert repr(name) in read(guest, name)


@pytest.mark.parametrize("bank", ["z", "p", "v", "za"])
def test_a_whole_set_of_registers_cannot_be_assigned(vcpu, bank):
    with vcpu.run() as guest:
        guest.smstart(za=True)
        before = getattr(guest, bank)[0]
        complaint = assigned(guest, bank, [bytes(32)] * 32)
        assert complaint == f"{bank} of a guest cannot be assigned: guest.{bank}[n] = data writes one register"
        assert getattr(guest, bank)[0] == before
        assert assigned(getattr(guest, bank), "low").startswith("a set of registers has no low: bank[n]")


@pytest.mark.parametrize("name", ["vl", "svl", "tpidr2", "smidr", "smpri", "smstart", "narrow"])
def test_what_a_guest_only_reads(vcpu, name):
    with vcpu.run() as guest:
        assert assigned(guest, name).startswith(f"{name} of a guest cannot be assigned")


def test_attributes_that_a_vcpu_does_not_take(vcpu):
    assert assigned(vcpu, "svcr", 3) == (
        "svcr of a vCPU cannot be assigned: vcpu.set_one_reg(regid.SVCR, data), or guest.svcr in a run"
    )
    assert assigned(vcpu, "z3") == "a vCPU has no z3: vcpu.set_one_reg(regid.zreg_id(3), data), or guest.z[3] in a run"
    assert assigned(vcpu, "max_vqs") == "a vCPU has no max_vqs: did you mean max_vq?"
    assert assigned(vcpu, "abi", a_host().abi) == "abi of a vCPU cannot be assigned: make another Host"
    assert assigned(vcpu, "get_one_reg").startswith("get_one_reg of a vCPU cannot be assigned")
    assert vcpu.svcr == 0
    assert "sve_stat" in read(vcpu, "sve_stat")


def test_attributes_that_others_do_not_take(vcpu):
    host = a_host()
    vm = host.create_vm()
    assert read(host, "create_vcpu") == "a host has no create_vcpu: host.create_vm().create_vcpu(0)"
    assert assigned(host, "sve_vq").startswith("a host has no sve_vq: did you mean sve_vqs?")
    assert assigned(host, "sve_vqs", {1}) == "sve_vqs of a host cannot be assigned: make another Host"
    assert read(vm, "get_one_reg") == "a VM has no get_one_reg: vcpu = vm.create_vcpu(0), then vcpu.get_one_reg()"
    assert assigned(vm, "host", host) == "host of a VM cannot be assigned"
    assert assigned(vm, "features", 1) == "features of a VM cannot be assigned: vcpu.init(features) decides them"
    run = vcpu.run()
    assert read(run, "z") == "a run has no z: with vcpu.run() as guest: guest.z"
    assert assigned(run, "svcr").startswith("a run has no svcr: with vcpu.run() as guest: guest.svcr")


def test_an_error_of_a_property_is_told_as_it_is(monkeypatch):
    host = a_host()
    monkeypatch.setattr(Host, "has_sme", property(lambda host: host.nothing_like_it))
    assert read(host, "has_sme") == "a host has no nothing_like_it"


# Values and arguments


@pytest.mark.parametrize("name", ["svcr", "zcr", "smcr", "fpsr", "fpcr", "cpacr", "fpmr"])
def test_numbers_that_no_control_register_takes(name):
    host = Host(sve_vqs={1, 2}, sme_vqs={1, 2, 4}, fpmr=True, abi=a_host().abi._replace(has_fpmr=True))
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({SVE, SME})
    vcpu.finalize(VEC)
    with vcpu.run() as guest:
        setattr(guest, name, 1)
        for number in (-1, 1 << 64):
            with pytest.raises(ValueError, match=rf"^{name.upper()}\w* is a number from 0 to 18446744073709551615"):
                setattr(guest, name, number)
        for value in ("1", 1.0, None, b"\1"):
            with pytest.raises(TypeError, match="is a whole number"):
                setattr(guest, name, value)
        assert getattr(guest, name) == 1


@pytest.mark.parametrize("instruction", ["smstart", "smstop"])
def test_modes_that_say_nothing(vcpu, instruction):
    with vcpu.run() as guest:
        for arguments in ({"za": False}, {"sm": False}, {"sm": 0}):
            with pytest.raises(ValueError, match=f"^{instruction}.* would do nothing: {instruction}"):
                getattr(guest, instruction)(**arguments)
        for arguments in ({"sm": "no"}, {"za": "off"}, {"sm": True, "za": 2}, {"sm": b""}):
            with pytest.raises(TypeError, match=r"^(sm|za) is True or False, not"):
                getattr(guest, instruction)(**arguments)
        assert guest.svcr == 0


def test_flags_that_are_none(vcpu):
    for flag in ("sme2", "fa64", "fpmr", "big_endian", "pmu", "pointer_authentication", "nested"):
        with pytest.raises(TypeError, match=f"^{flag} is True or False, not 'no'"):
            Host(sve_vqs={1}, **{flag: "no"})
    with pytest.raises(TypeError, match=r"^immediate_exit is True or False"):
        vcpu.run(immediate_exit="no")


def test_data_of_an_assignment_is_not_kept_in_part(vcpu):
    with vcpu.run() as guest:
        guest.z[0] = pattern(16)
        for value in (bytes(15), bytes(33)):
            with pytest.raises(ValueError, match="Z0 has 16 bytes"):
                guest.z[0] = value
        with pytest.raises(TypeError):
            guest.z[0:2] = bytes(32)
        assert guest.z[0] == pattern(16)


# Register IDs


@pytest.mark.parametrize(
    ("make", "last"),
    [(regid.zreg_id, 31), (regid.preg_id, 16), (regid.vreg_id, 31), (regid.za_row_id, 2047),
     (lambda n: regid.zreg_id(0, n), 31), (lambda n: regid.preg_id(0, n), 31), (lambda n: regid.za_row_id(0, n), 31)],
    ids=["Z", "P", "V", "ZA", "slice of Z", "slice of P", "slice of ZA"],
)  # fmt: skip
def test_numbers_that_no_id_has_room_for(make, last):
    assert len({make(n) for n in range(last + 1)}) == last + 1
    for n in (-1, last + 1, 9999):
        with pytest.raises(ValueError, match=f" is a number from 0 to {last}, not {n}"):
            make(n)
    with pytest.raises(TypeError, match="is a whole number"):
        make("0")


@pytest.mark.parametrize("field", range(5))
def test_fields_that_no_encoding_has_room_for(field):
    limits = (3, 7, 15, 15, 7)
    for value in (-1, limits[field] + 1):
        encoding = [*limits]
        encoding[field] = value
        with pytest.raises(
            ValueError, match=r"^an encoding is op0 0 to 3, op1 0 to 7, CRn and CRm 0 to 15, op2 0 to 7"
        ):
            regid.sysreg_id(*encoding)


@pytest.mark.parametrize("vqs", [{0}, {513}, {1, -1}])
def test_lengths_that_no_bitmap_has(vqs):
    with pytest.raises(ValueError, match="a length in quadwords is a number from 1 to 512"):
        regid.pack_vls(vqs)


# Hosts


@pytest.mark.parametrize("vqs", [{1}, {1, 2}, {1, 2, 3}, {1, 2, 4}, {1, 2, 4, 5, 7}, {1, 2, 4, 8, 9}, range(1, 17)])
def test_sve_lengths_that_a_cpu_has(vqs):
    assert Host(sve_vqs=vqs).sve_vqs == frozenset(vqs)


@pytest.mark.parametrize(
    ("vqs", "missing"),
    [({2}, 1), ({3}, 1), ({1, 3}, 2), ({1, 4}, 2), ({1, 2, 5}, 4), ({1, 2, 4, 9}, 8), ({1, 2, 4, 16}, 8)],
)
def test_sve_lengths_that_no_cpu_has(vqs, missing):
    """Arm ARM: all powers of two up to the largest; QEMU refuses `sve256=off` beside sve512 for this rule."""
    with pytest.raises(ValueError, match=f"^a CPU with SVE has the length vq {missing} where it has vq {max(vqs)}"):
        Host(sve_vqs=vqs)


@pytest.mark.parametrize("vqs", [{1}, {2}, {16}, {1, 4}, {2, 8}, {1, 2, 4, 8, 16}])
def test_streaming_lengths_are_any_powers_of_two(vqs):
    """Arm ARM: no particular streaming length is mandatory; QEMU takes any set, as `sme256=off`."""
    assert Host(sme_vqs=vqs).sme_vqs == frozenset(vqs)
