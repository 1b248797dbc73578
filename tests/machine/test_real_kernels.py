"""The model beside what real kernels answered, on a host with that machine's ID registers (see tests/kernels.py)."""

import kernels
import pytest
from kernels import FEATURES, KERNELS, answers, listed, sysreg, values

from kvmsve import Host, KvmError, abi

ALL = "sve+pmu+pauth"
ID_SPACE = [sysreg(f"3,0,0,{crm},{op2}") for crm in range(1, 8) for op2 in range(8)]
OTHERS = [sysreg(encoding) for encoding in ("3,0,0,0,0", "3,0,0,0,6", "3,1,0,0,7", "3,1,0,0,1", "3,3,0,0,1")]
EVERYWHERE = pytest.mark.parametrize("revision", KERNELS)


def real_host(revision: str) -> Host:
    """The machine that was asked."""
    held = values(KERNELS[revision], ALL)
    return Host(
        abi=abi(revision), sve_vqs={1, 2, 3, 4}, pointer_authentication=True,
        id_regs={reg_id: held[reg_id] for reg_id in (*ID_SPACE, *OTHERS)},
    )  # fmt: skip


def two_vcpus(revision: str, features: str = "none", cap: int | None = None):
    vm = real_host(revision).create_vm()
    if cap is not None:
        vm.enable_cap(cap)
    vcpus = vm.create_vcpu(0), vm.create_vcpu(1)
    for vcpu in vcpus:
        vcpu.init(set(FEATURES[features]))
        if "sve" in features:
            vcpu.finalize(4)
    return vcpus


def a_vcpu(revision: str, features: str = "none", cap: int | None = None):
    return two_vcpus(revision, features, cap)[0]


def get(vcpu, reg_id: int) -> int | str:
    try:
        return int.from_bytes(vcpu.get_one_reg(reg_id), "little")
    except KvmError as error:
        return error.symbol


def put(vcpu, reg_id: int, value: int) -> int | str:
    try:
        vcpu.set_one_reg(reg_id, value.to_bytes(max(8, 1 << (reg_id >> 52 & 15)), "little"))
    except KvmError as error:
        return error.symbol
    return 0


def run(vcpu) -> None:
    with pytest.raises(KvmError, match="EINTR"):
        vcpu.run(immediate_exit=True)


def asked(section: str):
    """Each kernel with each feature set that a section of its table has."""
    return pytest.mark.parametrize(
        ("revision", "features"),
        [(name, features) for name, kernel in KERNELS.items() for features in answers(kernel)[section]
         if features in FEATURES and not isinstance(answers(kernel)[section][features], str)],
    )  # fmt: skip


@asked("lists")
def test_the_list_is_the_kernels(revision, features):
    assert a_vcpu(revision, features).get_reg_list() == listed(KERNELS[revision], features)


@pytest.mark.parametrize("revision", ["mainline-7.2", "mainline-7.3"])
@pytest.mark.parametrize("features", ["none", "sve", ALL, "sve+el2"])
def test_the_list_of_a_host_with_nested_virtualization(revision, features):
    """That machine has FPMR, and by ID_AA64MMFR3_EL1 TCR2_EL1, SCTLR2_EL1, PIR_EL1 and PIRE0_EL1."""
    kernel = f"{KERNELS[revision]}-nested"
    held = values(kernel, "sve")
    host = Host(
        abi=abi(revision), sve_vqs={1, 2, 3, 4}, fpmr=True, pointer_authentication=True, nested=True,
        id_regs={reg_id: held[reg_id] for reg_id in ID_SPACE},
    )  # fmt: skip
    vcpu = host.create_vm().create_vcpu(0)
    vcpu.init({4, 7} if features == "sve+el2" else set(FEATURES[features]))
    if "sve" in features:
        vcpu.finalize(4)
    assert vcpu.get_reg_list() == listed(kernel, features)


@EVERYWHERE
def test_features_that_are_taken_alone(revision):
    for bit, answer in answers(KERNELS[revision])["features"]["alone"].items():
        vcpu = real_host(revision).create_vm().create_vcpu(0)
        assert init(vcpu, int(bit)) == answer, bit


def init(vcpu, *bits: int) -> int | str:
    try:
        vcpu.init(set(bits))
    except KvmError as error:
        return error.symbol
    return 0


@EVERYWHERE
@pytest.mark.parametrize("section", ["pairs", "triples"])
def test_features_that_are_taken_together(revision, section):
    for bits, answer in answers(KERNELS[revision])["features"][section].items():
        vcpu = real_host(revision).create_vm().create_vcpu(0)
        assert init(vcpu, *map(int, bits.split(","))) == answer, bits


@EVERYWHERE
def test_indices_of_vcpus(revision):
    for index, answer in answers(KERNELS[revision])["vcpus"].items():
        vm = real_host(revision).create_vm()
        vm.create_vcpu(1)
        try:
            vm.create_vcpu(int(index, 16))
            actual = "fd"
        except KvmError as error:
            actual = error.symbol
        assert actual == answer, index


@EVERYWHERE
@pytest.mark.parametrize("features", ["none", ALL])
def test_values_that_id_registers_take(revision, features):
    """Every value of every four bits, one at a time."""
    for encoding, row in answers(KERNELS[revision])["idmasks"][features].items():
        reg_id, vcpu = sysreg(encoding), a_vcpu(revision, features)
        if isinstance(row, str):
            assert get(vcpu, reg_id) == row, encoding
            continue
        value = get(vcpu, reg_id)
        assert value == int(row["value"], 16), encoding
        for nibble, taken in enumerate(reversed(row["nibbles"].split())):
            found = 0
            for new in range(16):
                wanted = value & ~(15 << 4 * nibble) | new << 4 * nibble
                if put(vcpu, reg_id, wanted) == 0 and get(vcpu, reg_id) == wanted:
                    found |= 1 << new
                assert put(vcpu, reg_id, value) == 0
            assert f"{found:04x}" == taken, (encoding, nibble)
        assert [put(vcpu, reg_id, 0), put(vcpu, reg_id, value)] == [row["zero"], row["back"]], encoding


@pytest.mark.parametrize("revision", [name for name in KERNELS if name != "mainline-6.1"])
def test_writable_masks(revision):
    assert real_host(revision).create_vm().writable_masks == kernels.writable_masks(KERNELS[revision])


IMPLEMENTATION = {
    "MIDR_EL1": "3,0,0,0,0", "REVIDR_EL1": "3,0,0,0,6", "AIDR_EL1": "3,1,0,0,7", "OSLSR_EL1": "2,0,1,1,4",
    "CTR_EL0": "3,3,0,0,1", "CLIDR_EL1": "3,1,0,0,1", "MPIDR_EL1": "3,0,0,0,5",
}  # fmt: skip


@EVERYWHERE
@pytest.mark.parametrize("cap", [None, 239])
@pytest.mark.parametrize("name", IMPLEMENTATION)
def test_registers_that_take_few_values(revision, cap, name):
    """Every bit flipped alone; 0; all ones; and another value after a run."""
    row = answers(KERNELS[revision])["imp"][f"{'no cap' if cap is None else 'cap 239'}: {name}"]
    if cap is not None and abi(revision).imp_id_cap is None:
        with pytest.raises(KvmError, match="EINVAL"):
            real_host(revision).create_vm().enable_cap(cap)
        cap = None
    vcpu, reg_id = a_vcpu(revision, cap=cap), sysreg(IMPLEMENTATION[name])
    value = get(vcpu, reg_id)
    assert (f"{value:x}", put(vcpu, reg_id, value)) == (row["value"], row["same"])
    letters = {0: ".", "EINVAL": "E"}
    bits = ""
    for bit in reversed(range(64)):
        bits += letters[put(vcpu, reg_id, value ^ 1 << bit)]
        put(vcpu, reg_id, value)
    assert bits == row["bits"]
    for new, told in ((0, row["zero"]), ((1 << 64) - 1, row["ones"])):
        assert [put(vcpu, reg_id, new), f"{get(vcpu, reg_id):x}"] == told
        assert put(vcpu, reg_id, value) == 0
    run(vcpu)
    now = get(vcpu, reg_id)
    assert put(vcpu, reg_id, now) == row["after run same"]
    after = [put(vcpu, reg_id, now ^ 1), put(vcpu, reg_id, 0x410F_D0F0)]
    assert [*after, f"{get(vcpu, reg_id):x}"] == row["after run other"]


FROZEN = {"PFR0 same": ("3,0,0,4,0", 0), "PFR0.CSV2+1": ("3,0,0,4,0", 1 << 56), "DFR0 same": ("3,0,0,5,0", 0),
          "MIDR same": ("3,0,0,0,0", 0)}  # fmt: skip


@EVERYWHERE
@pytest.mark.parametrize(
    ("case", "fails"),
    [("no run", None), ("immediate exit", "EINTR"), ("PMU not initialised", "EINVAL"), ("another vCPU ran", "EINTR")],
)
def test_when_id_registers_are_fixed(revision, case, fails):
    """A run that ends in EINVAL is one that a PMU without its set-up refuses."""
    outcome, told = answers(KERNELS[revision])["freeze"][case]
    assert outcome == fails
    vcpu, other = two_vcpus(revision, "pmu" if "PMU" in case else "none", abi(revision).imp_id_cap)
    if fails:
        with pytest.raises(KvmError, match=fails):
            (other if "another" in case else vcpu).run(immediate_exit=True, fails=22 if fails == "EINVAL" else None)
    for name, (encoding, added) in FROZEN.items():
        reg_id = sysreg(encoding)
        assert put(vcpu, reg_id, get(vcpu, reg_id) + added) == told[name], name
    assert put(vcpu, sysreg("3,0,0,0,0"), 0x410F_D0F0) == told["MIDR other"]
