"""What fuzzers found (`python -m tests.fuzz`), each cut down to what it needs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import examples
import numpy as np
import pytest
import recorded
from command_line import Capture, complaint, run

from kvmsve import Host, record

# Files


def file_with(folder: Path, line: int, fields: dict[str, Any]) -> Path:
    """The small recording with these fields in a line, or in its header's host."""
    lines = copy.deepcopy(recorded.SMALL)
    (lines[line - 1] if line > 1 else lines[0]["host"]).update(fields)
    return recorded.write(folder / "file", lines)


COMMANDS = [["replay"], ["show"], ["lint"], ["diff", "rfc-v2", "v12", "--recording"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("line", "fields", "said"),
    [
        (6, {"index": -(1 << 32)}, '"index" is -4294967296, not a number of 32 bits with a sign or of 64 without'),
        (11, {"feature": 1 << 31}, '"feature" is 2147483648, not a signed number of 32 bits'),
        (1, {"sme_feature": 1 << 40}, '"sme_feature" is 1099511627776, not a feature bit, 0 to 31'),
        (1, {"sme_feature": 32}, '"sme_feature" is 32, not a feature bit, 0 to 31'),
        (14, {"copied": (1 << 64) - 1}, '"copied" is 18446744073709551615, but "avail" is 4'),
        (15, {"copied": 5}, '"copied" is 5, but "avail" is 4'),
    ],
)
def test_number_that_nothing_can_be_done_with(
    tmp_path: Path, capsys: Capture, command: list[str], line: int, fields: dict[str, Any], said: str
) -> None:
    path = file_with(tmp_path, line, fields)
    assert complaint(capsys, *command, path) == f"kvmsve: {path}, line {line}: {said}\n"


def test_id_register_whose_value_is_too_large(tmp_path: Path, capsys: Capture) -> None:
    path = file_with(tmp_path, 1, {"id_regs": {f"{CCSIDR:016x}": "00" * 4 + "01" + "00" * 3}})
    said = "ID register 0x6020000000110000 is a number from 0 to 4294967295, not 4294967296"
    assert complaint(capsys, "replay", path) == f"kvmsve: {path}, line 1: {said}\n"


def test_sme_vls_whose_id_is_zero(tmp_path: Path, capsys: Capture) -> None:
    """Operations without an ID are not taken for one of register 0."""
    path = file_with(tmp_path, 1, {"sme_vls": "0" * 16})
    code, out, err = run(capsys, "diff", "rfc-v2", "v12", "--recording", path)
    assert (code, err) == (1, "")
    assert "operations differ" in out


# Numbers

CCSIDR = 0x6020000000110000  # of 4 bytes


class Whole:
    """A number by __index__ alone."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


def same(number: Callable[[int], Any]) -> list[object]:
    """What a program sees that names everything by numbers of some type."""
    host = Host(
        sve_vqs=map(number, (1, 2)),
        sme_vqs=map(number, (1, 2, 4)),
        features_offered=map(number, (4, 8)),
        id_regs={number(examples.PFR0): number(0x1_0000_0011)},
    )
    vm = host.create_vm()
    seen: list[object] = [host.check_extension(number(170)), vm.check_extension(number(231))]
    vcpu, other = vm.create_vcpu(number(0)), vm.create_vcpu(number(1))
    with examples.refused("EEXIST"):
        vm.create_vcpu(1)
    vcpu.init({number(4), number(8)}, number(5))
    other.init([number(word) for word in (0x110, 0, 0, 0, 0, 0, 0)], number(5))
    other.fail_allocations(number(1))
    with examples.refused("ENOMEM"):
        other.finalize(number(4))
    vcpu.finalize(number(4))
    vcpu.set_one_reg(number(examples.z(20)), examples.pattern(64))
    vcpu.set_one_reg(number(examples.ZCR), bytes(8))
    with vcpu.run() as guest:
        guest.svcr = number(2)
        guest.smcr, guest.fpsr, guest.fpcr, guest.cpacr = (number(value) for value in (1, 2, 3, 4))
        guest.zcr = number(1)
        seen += [guest.vl, guest.svl, guest.z[number(20)]]
        guest.z[number(21)], guest.p[number(9)], guest.v[number(30)] = bytes(range(32)), bytes(4), b"v" * 16
        guest.za[number(17)] = bytes(range(32))
        guest.narrow(number(16))
        seen += [guest.z[21], guest.p[number(9)], guest.v[number(30)], guest.za[number(17)]]
    assert all(type(value) is int for value in vcpu.sysregs.values())
    buffer = bytearray(256)
    vcpu.get_one_reg_into(number(examples.z(21)), buffer)
    seen += [
        vcpu.get_one_reg(number(reg_id)) for reg_id in (examples.z(20), examples.ZCR, examples.FPSR, examples.PFR0)
    ]
    return [*seen, buffer, vcpu.get_reg_list(number(400)), bytes(vcpu.sve_state), dict(vcpu.sysregs)]


@pytest.mark.parametrize("number", [Whole, np.uint64, np.int64])
def test_numbers_of_any_type(number: Callable[[int], Any]) -> None:
    assert same(number) == same(int)


def test_small_numbers_do_not_wrap() -> None:
    """numpy's narrow types wrap in arithmetic; a place in a buffer must not."""
    vcpu = examples.make_vcpu({1, 2, 4}, {1, 2})
    with vcpu.run() as guest:
        guest.zcr = 3
        for n in range(32):
            guest.z[np.uint8(n)] = bytes([n]) * 64
        assert [guest.z[n] for n in range(32)] == [bytes([n]) * 64 for n in range(32)]
    other = examples.a_host().create_vm().create_vcpu(np.uint8(0))
    other.init({np.uint8(8), np.uint8(4)})
    assert other.feature_words[0] == 0x110


def test_recorded_numbers_of_any_type(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "file"
    with record(path, examples.a_host()) as recorded_host:
        vm = recorded_host.create_vm()
        vm.check_extension(Whole(170))
        vcpu = vm.create_vcpu(np.int64(0))
        vcpu.init([np.uint32(0x110), *[0] * 6], Whole(5))
        vcpu.finalize(Whole(4))
        vcpu.set_one_reg(Whole(examples.z(1)), bytes(64))
        vcpu.set_one_reg(np.uint64(examples.z(2)), bytes(64))
        with vcpu.run() as guest:
            guest.zcr = Whole(1)
            guest.z[Whole(3)] = bytes(32)
            guest.z[np.uint8(4)] = guest.z[Whole(3)]
            guest.narrow(np.int64(16))
        vcpu.get_one_reg(Whole(examples.z(3)))
        vcpu.get_one_reg_into(np.int64(examples.FPSR), bytearray(4))
        vcpu.get_reg_list(np.uint16(400))
    assert run(capsys, "replay", path)[0] == 0


NO_NUMBERS = [None, "1", 1.0, b"\1"]


@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=repr)
def test_what_is_no_number(wrong: Any) -> None:
    vcpu = examples.make_vcpu({1, 2}, {1, 2})
    vm = examples.a_host().create_vm()
    new = vm.create_vcpu(0)
    calls: list[Callable[[], object]] = [
        lambda: vcpu.get_one_reg(wrong),
        lambda: vcpu.get_one_reg_into(wrong, bytearray(8)),
        lambda: vcpu.set_one_reg(wrong, bytes(8)),
        lambda: vm.create_vcpu(wrong),
        lambda: vm.enable_cap(wrong),
        lambda: vm.check_extension(wrong),
        lambda: new.init([wrong] * 7),
        lambda: new.init(set(), wrong),
        lambda: new.fail_allocations(wrong),
        lambda: vcpu.finalize(wrong),
        lambda: Host(features_offered=[wrong]),
        lambda: Host(id_regs={1: wrong}),
        lambda: Host(id_regs={examples.PFR0: wrong}),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="is a whole number, not "):
            call()
    with vcpu.run() as guest:
        for name in ("svcr", "zcr", "smcr", "fpsr", "fpcr", "cpacr"):
            with pytest.raises(TypeError):
                setattr(guest, name, wrong)
        for bank in (guest.z, guest.p, guest.v):
            with pytest.raises(TypeError):
                bank[wrong]
        with pytest.raises(TypeError):
            guest.narrow(wrong)


@pytest.mark.parametrize("arguments", [
    {"id_regs": {examples.PFR0: -1}}, {"id_regs": {examples.PFR0: 1 << 64}}, {"id_regs": {-1: 0}},
    {"id_regs": {CCSIDR: 1 << 32}},
    {"features_offered": [-1]}, {"features_offered": [1 << 40]},
])  # fmt: skip
def test_host_of_numbers_that_are_too_large(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is a number from 0 to "):
        Host(**arguments)
